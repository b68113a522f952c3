"""docs/benchmark.md: its code runs, and its tables say what the registries say."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import ttame
from tiny_backbone import tiny_backbone, tiny_photos
from tiny_cases import make_case
from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.errors import InputError
from ttame.methods.registry import get_method, methods
from ttame.metrics.confidence import average_drop
from ttame.metrics.fills import blurred
from ttame.metrics.measure import get_measure, measures

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
FILES = {
    match[1]: block for block in BLOCKS if (match := re.match(r"# src/ttame/(\S+)\.py\n", block))
}


def rows(width: int) -> dict[str, list[str]]:
    """Return the cells of all table rows of so many columns, by the names in the first one."""
    found = {}
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith("|") and len(cells) == width:
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1:])
    return found


def written(value: Any) -> str:
    """Write an option's value as the page does and as ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return f"{value:.4g}"
    return value if isinstance(value, str) else f"[{', '.join(map(written, value))}]"


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A folder with photos, where the explainer that is loaded is a tiny one."""
    torch.manual_seed(0)
    tiny_photos(tmp_path / "photos", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ttame, "load", lambda folder: ttame.new_explainer(tiny_backbone()))
    return tmp_path


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Iterator[None]:
    """The page's files beside the package's own, forgotten afterwards."""
    registries = {methods: "_METHODS", measures: "_MEASURES"}
    for listed, name in registries.items():
        listed()
        registry = getattr(sys.modules[listed.__module__], name)
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
    for name, code in FILES.items():
        room = importlib.import_module(f"ttame.{Path(name).parent}")
        path = tmp_path / f"{name}.py"
        path.parent.mkdir()
        path.write_text(code, encoding="utf-8")
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(path.parent)])
        monkeypatch.setattr(room, path.stem, None, raising=False)
    yield
    for name in FILES:
        sys.modules.pop(f"ttame.{name.replace('/', '.')}", None)


@pytest.mark.usefixtures("installed", "tiny")
def test_the_files_of_the_page_are_found_and_take_part():
    assert set(FILES) == {"methods/gradient_norm", "metrics/blur_fill"}
    result = ttame.benchmark(
        ttame.load("explainer/"),
        "photos/",
        methods=["gradient_norm", "random"],
        measures=["blur_fill"],
    )
    assert [details["status"] for details in result.methods.values()] == ["ok"] * 3
    values = result.values("gradient_norm")["ad_fill_blur_50"]
    assert values.between(0, 100).all()
    assert values.nunique() > 1


@pytest.mark.usefixtures("installed")
def test_the_method_of_the_page_is_the_norm_of_the_gradient():
    backbone, classes = tiny_backbone(), torch.tensor([[3]])
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone.logits(images)[0, 3], images)
    for power in (1.0, 2.0, 3.0):
        maps = get_method("gradient_norm", power=power)(backbone, images.detach(), classes)
        torch.testing.assert_close(maps[0, 0], gradient[0].norm(p=power, dim=0))
    with pytest.raises(InputError, match="power of at least 1"):
        get_method("gradient_norm", power=0.5)(backbone, images.detach(), classes)


@pytest.mark.usefixtures("installed")
def test_the_metric_of_the_page_blends_with_the_blurred_photo():
    # Masks that rise from 0 to 1 in equal steps are their own area-matched masks.
    masks = (torch.arange(1024.0) / 1023).view(1, 32, 32).repeat(3, 1, 1)
    case = make_case(images=3, masks=masks)
    whole, half = (get_measure("blur_fill", share=share) for share in (1.0, 0.5))
    kept = masks[:, None] * case.pixels + (1 - masks[:, None]) * blurred(case.pixels)
    expected = average_drop(case.p, case.probabilities(kept))
    torch.testing.assert_close(whole(case).values["ad_fill_blur_100"], expected)
    masks = masks.clone()
    masks[:, :16] = 0
    kept = masks[:, None] * case.pixels + (1 - masks[:, None]) * blurred(case.pixels)
    expected = average_drop(case.p, case.probabilities(kept))
    torch.testing.assert_close(half(case).values["ad_fill_blur_50"], expected)
    assert list(half.metrics(half.options)) == ["ad_fill_blur_50"]


def test_the_other_code_of_the_page_runs(tiny):
    pytest.importorskip("pytorch_grad_cam")
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if block not in FILES.values():
            exec(compile(block, "docs/benchmark.md", "exec"), names)
    # What the page shows came out of it.
    assert BenchmarkResult.load("DIR").to_dict() == names["result"].to_dict()
    assert Path("elsewhere/report.html").is_file()
    assert names["overlap"].per_image().shape == (len(ttame.sample_photos()),)
    shown = {name for name in rows(2) if re.fullmatch(r"[a-z_]+\.(html|json|csv)", name)}
    made = {path.name for path in Path("DIR").iterdir()}
    assert shown == made - {"records.jsonl", ".lock"}


def test_every_metric_is_described_as_it_is():
    table = rows(4)
    for measure in measures().values():
        assert f"`{measure.name}`" in TEXT
        for name, metric in measure.metrics(measure.options).items():
            better = {True: "higher", False: "lower", None: "neither"}[metric.higher_is_better]
            assert table[name][1:] == [better, metric.unit], name
        # The slow ones and their needs stand in the headings.
        heading = next(line for line in TEXT.splitlines() if f": `{measure.name}`" in line)
        assert measure.slow == heading.endswith("(slow)")


def test_every_method_is_described_as_it_is():
    table = rows(7)
    for method in methods().values():
        paper, needs, cost = table[method.name][:3]
        mark = {"control": method.control, "slow": method.slow}
        shown = [*filter(None, [method.cost]), *(f"({name})" for name in mark if mark[name])]
        assert (paper, needs, cost) == (method.paper, ", ".join(method.needs), " ".join(shown))


def test_every_option_stands_there_with_its_default():
    for found in (*measures().values(), *methods().values()):
        for option, value in found.options.items():
            assert f"`{found.name}.{option}={written(value)}`" in TEXT


def test_every_option_of_the_command_is_described():
    from ttame.cli.main import app

    command = typer.main.get_command(app).commands["benchmark"]
    options = {
        name
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name not in ("--help", "-h")
    }
    table = rows(2)
    assert {name for name in table if name.startswith("-")} == options
    used = re.findall(
        r"(?<![\w-])--?[a-z][a-z-]*",
        " ".join(re.findall(r"^ttame.*?(?<!\\)$|^    --.*$", TEXT, re.M)),
    )
    common = {name for option in typer.main.get_command(app).params for name in option.opts}
    assert set(used) <= options | common
