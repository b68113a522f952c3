"""The package as a stranger meets it: imports, names, version, bundled photos, documentation."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest
from PIL import Image

import ttame

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "lightning", "timm", "matplotlib", "pandas")
ATTRIBUTION = resources.files("ttame.data") / "photos" / "ATTRIBUTION.csv"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def attributions() -> list[dict[str, str]]:
    return list(csv.DictReader(ATTRIBUTION.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    "statement",
    [
        "import ttame",
        "import ttame; dir(ttame); ttame.TtameError; ttame.sample_photos()",
        "from ttame.cli import main",
        "from typer.testing import CliRunner; from ttame.cli.main import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
        "from typer.testing import CliRunner; from ttame.cli.main import app; "
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0",
        "from typer.testing import CliRunner; from ttame.cli.main import app; "
        "assert CliRunner().invoke(app, ['--version']).output.startswith('ttame ')",
    ],
)
def test_light_imports(statement: str) -> None:
    loaded = run_python(
        f"import sys; {statement}; print(*[m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded.split() == []


def test_public_names_exist() -> None:
    for name in ttame.__all__:
        assert getattr(ttame, name) is not None
    assert set(dir(ttame)) == set(ttame.__all__)
    assert len(set(ttame.__all__)) == len(ttame.__all__)


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        _ = ttame.explian


def test_one_version_everywhere() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.M)[1] == ttame.__version__
    assert re.search(r"^## \[(\d.+?)\]", changelog, re.M)[1] == ttame.__version__
    assert metadata.version("ttame") == ttame.__version__


def test_installed_metadata() -> None:
    meta = metadata.metadata("ttame")
    assert meta["License-Expression"] == "Apache-2.0"
    assert meta["Requires-Python"] == ">=3.10"
    assert {"benchmark", "dev", "tensorboard"} <= set(meta.get_all("Provides-Extra"))
    scripts = metadata.entry_points(group="console_scripts", name="ttame")
    assert [script.value for script in scripts] == ["ttame.cli.main:run"]


def test_package_holds_its_data() -> None:
    package = resources.files("ttame")
    for name in ("py.typed", "training/presets.json", "data/photos/ATTRIBUTION.csv"):
        assert package.joinpath(name).is_file(), name


def test_every_photo_is_attributed() -> None:
    rows = attributions()
    assert [row["file"] for row in rows] == [photo.name for photo in ttame.sample_photos()]
    assert 6 <= len(rows) <= 10
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in rows:
        assert row["licence"] == "CC BY 2.0"
        assert row["licence_url"] == "https://creativecommons.org/licenses/by/2.0/"
        assert row["source"].startswith("https://")
        assert row["changes"]
        assert row["author"] in notice
        assert row["source"] in notice
        assert row["author"] in readme.replace("\n", " ")


def test_photos_are_whole_and_small() -> None:
    for photo in ttame.sample_photos():
        with Image.open(photo) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (299, 299))
            assert not image.getexif()  # no trace of a place or a camera
        assert photo.stat().st_size < 100_000


def test_default_classifier_knows_the_photos() -> None:
    import torch

    backbone = ttame.load_backbone("ttame/efficientnet-lite0")
    pixels = []
    for photo in ttame.sample_photos():
        with Image.open(photo) as image:
            pixels.append(backbone.preprocessing.pixels(image))
    logits = backbone.logits(backbone.preprocessing.normalise(torch.stack(pixels)))
    rows = attributions()
    assert logits.argmax(dim=1).tolist() == [int(row["class_index"]) for row in rows]
    for row in rows:
        synonyms = backbone.class_names[int(row["class_index"])]
        assert row["class"] in synonyms.split(", ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_presets_page_shows_the_presets() -> None:
    from ttame.training.config import load_preset

    presets = json.loads(resources.files("ttame.training").joinpath("presets.json").read_text())
    values = [load_preset(name).to_dict() for name in presets]
    keys = dict.fromkeys(key for preset in presets.values() for key in preset if key in values[0])
    rows = [["setting", *(f"`{name}`" for name in presets)], ["---"] * (1 + len(presets))]
    rows += [
        [f"`{key}`", *(_shown(preset[key]) for preset in values)]
        for key in keys
        if key != "backbones"
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert table.replace(" ", "") in page.replace(" ", ""), f"docs/training.md needs:\n{table}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("script", ["explain_photo", "readme_picture", "train_own_classifier"])
def test_examples_answer_help(script: str) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{script}.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


def test_own_classifier_example_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "train_own_classifier.py"
    result = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "explainer"), "--epochs", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "explainer" / "explainer.json").is_file()
    assert list((tmp_path / "explainer" / "pictures").glob("*.png"))


def test_makefile_installs_nothing_twice(tmp_path: Path) -> None:
    stamps = (tmp_path / ".ttame-installed", tmp_path / ".ttame-installed-dev")
    (tmp_path / "bin").mkdir()
    for file in (tmp_path / "bin" / "pip", *stamps):
        file.touch()
    command = ["make", "-n", f"VENV={tmp_path}", "demo", "test", "lint", "types"]
    try:
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for stamp in stamps:
            stamp.unlink()
        first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("make is not on this machine")
    assert "pip install" not in again.stdout
    assert "pip install" in first.stdout
    assert "-m venv" not in first.stdout
