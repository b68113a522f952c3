"""docs/reproduce.md: its commands run, word for word, on stand-ins of the three classifiers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from torchvision.models import get_model_weights
from typer.testing import CliRunner

from slim_classifiers import replace_builders
from tiny_backbone import tiny_photos
from ttame import storage
from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.cli.main import app

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
# What the page says one may want to change.
SMALL = {
    "TRAIN": "train",
    "VAL": "val.txt",
    "OUT": "reproduced",
    "EPOCHS": "1",
    "TRAIN_IMAGES": "32",
    "IMAGES": "2",
    "MASKS": "8",
}
MODELS = ("vgg16", "resnet50", "vit_b_16")
# Prints what it is called with instead of running it.
TTAME = "ttame() { printf '%s\\t' \"$@\"; echo; }\n"


def commands() -> list[list[str]]:
    """Let bash expand variables, functions and loops; return the arguments of every call."""
    first, *others = BLOCKS
    lines = [line.partition("=")[0] for line in first.splitlines()]
    assert set(lines) == set(SMALL)
    values = "".join(f"{name}={value}\n" for name, value in SMALL.items())
    script = "\n".join([TTAME, values, *others])
    result = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, check=True, timeout=60
    )
    return [line.rstrip("\t").split("\t") for line in result.stdout.splitlines()]


def cells(name: str, width: int) -> list[str]:
    """Return the cells after the first one of the table row of so many columns."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in TEXT.splitlines()
        if line.startswith(f"| {name} |")
    ]
    (found,) = (row[1:] for row in rows if len(row) == width)
    return found


@pytest.mark.filterwarnings("ignore")
def test_the_commands_lead_from_photos_to_the_table(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pytorch_grad_cam")
    replace_builders(monkeypatch)
    monkeypatch.chdir(tmp_path)
    # One process: starting others costs more here than all reading.
    monkeypatch.setattr("ttame.training.data.automatic_workers", lambda: 0)
    # A picture of every method is for the benchmark's own tests.
    monkeypatch.setattr("ttame.benchmarking.run._report", lambda *arguments: None)
    tiny_photos(tmp_path / "train" / "n01440764", 32)
    tiny_photos(tmp_path / "train" / "n02102040", 32)
    validation = sorted(tiny_photos(tmp_path / "val", 4).iterdir())
    Path("val.txt").write_text("".join(f"val/{path.name} 7\n" for path in validation))

    for arguments in commands():
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output)

    for model, title in zip(MODELS, ("VGG-16", "ResNet-50", "ViT-B-16"), strict=True):
        described = storage.read_description(f"reproduced/{model}/t-tame")
        layers, parameters, space = cells(title, 4)
        assert f"{described['attention']['parameters']:,} parameters" == parameters
        config = described["training"]["config"]
        assert config["fill"] == ("black" if space == "on the [0, 1] photo" else "mean")
        assert (config["head"], config["mask_form"], config["block"]) == (
            *("independent", "sigmoid"),
            True,
        )
        assert described["training"]["photos"] == 32
        assert all(layer.rpartition(".")[2] in layers for layer in described["backbone"]["layers"])
        result = BenchmarkResult.load(f"reproduced/{model}/scores")
        assert {name: found["status"] for name, found in result.methods.items()} == dict.fromkeys(
            result.methods, "ok"
        )
        expected = {"ttame", "gradcam", "gradcampp", "scorecam", "ablationcam", "rise", "iia"}
        extra = "transformer_lrp" if model == "vit_b_16" else "l-cam-img"
        assert set(result.methods) == {*expected, extra}
        for columns in result.means().values():
            for share in (100, 50, 15):
                for score in (f"ad_{share}", f"ic_{share}", f"ad_{share}_matched"):
                    assert columns[score].n == 2
    lcam = storage.read_description("reproduced/resnet50/l-cam-img")
    assert (lcam["backbone"]["layers"], lcam["attention"]["branch"]) == (["layer4"], "identity")

    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    capsys.readouterr()
    exec(compile(block, "docs/reproduce.md", "exec"), {})
    shown = capsys.readouterr().out
    assert all(model in shown for model in MODELS)


@pytest.mark.parametrize(
    ("model", "title", "channels"),
    [("vgg16", "VGG-16", 512), ("resnet50", "ResNet-50", 2048), ("vit_b_16", "ViT-B-16", 768)],
)
def test_the_costs_follow_from_what_torchvision_states(model, title, channels):
    giga = get_model_weights(model).DEFAULT.meta["_ops"]
    # At so many giga multiply-adds a second, for one pass of one photo.
    training, scoring = giga / 50_000 / 3600, giga / 17_000 / 3600
    assert cells(title, 5) == [
        f"{giga:.1f} G",
        f"{8 * 3 * 1_281_167 * training:.1f} h",
        f"{2000 * 8000 * scoring:.1f} h",
        f"{2000 * channels * scoring * 60:.0f} min ({channels:,})",
    ]
