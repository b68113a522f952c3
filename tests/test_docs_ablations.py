"""docs/ablations.md and examples/ablation.yaml say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import ttame
from ttame.ablation.config import KEYS, SETTINGS, read_config
from ttame.training.config import CHOICES

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "ablation.yaml"


def names(heading: str) -> list[str]:
    """Return what stands in backticks in the first column of the table under a heading."""
    section = re.split(r"^## ", TEXT, flags=re.M)
    (found,) = (part for part in section if part.startswith(heading))
    first = [
        re.split(r"(?<!\\)\|", line)[1] for line in found.splitlines() if line.startswith("| `")
    ]
    return re.findall(r"`([^`]+)`", " ".join(first))


def test_the_file_of_the_page_is_read(tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
    path = tmp_path / "ablation.yaml"
    path.write_text(block)
    config = read_config(path)
    assert config.data == tmp_path / "photos"
    assert [cell.name for cell in config.cells] == [
        *("base", "no skip", "last two layers", "L-CAM-Img"),
        *(
            f"head={head}, mask_form={form}"
            for head in ("tied", "independent")
            for form in ("minmax", "sigmoid")
        ),
    ]
    assert all(cell.settings["train_images"] == 1000 for cell in config.cells)


def test_every_key_and_option_is_described():
    from ttame.cli.main import app

    described = names("The file")
    assert [name for name in described if not name.startswith("-")] == list(KEYS)
    command = typer.main.get_command(app).commands["ablate"]
    options = {
        name for option in command.params for name in option.opts if name not in ("--help", "-h")
    }
    assert {name for name in described if name.startswith("-")} == options


def test_every_part_of_the_method_can_be_changed():
    section = TEXT.partition("## What can be changed")[2].partition("\n## ")[0]
    for setting in re.findall(r"`(\w+):", section):
        assert setting in SETTINGS
    for setting in ("branch", "head", "start", "grid", "mask_form"):
        for choice in CHOICES[setting]:
            if choice != "paper":
                assert f"`{choice}`" in section or f"`{setting}: {choice}`" in section


def test_the_example_fits_its_classifier(tmp_path):
    from ttame.ablation.plan import plan_ablation

    photos = ttame.sample_photos()
    config = read_config(EXAMPLE, data=photos, eval_data=photos)
    assert len(config.cells) >= 8
    plan = plan_ablation(config, tmp_path)
    assert plan.cells[0].cell.name == "base"
    assert {len(cell.backbone.layers) for cell in plan.cells} == {1, 2, 3}
    described = [str(cell.describe()) for cell in plan.cells]
    assert len(set(described)) == len(described)  # no cell is there twice


@pytest.mark.parametrize(
    "name", ["skip", "BatchNorm", "sigmoid", "layer", "head", "masks", "L-CAM"]
)
def test_the_example_holds_the_usual_ablations(name):
    config = read_config(EXAMPLE, data=".", eval_data=".")
    assert any(name in cell.name for cell in config.cells)


@pytest.mark.parametrize(
    ("name", "heading"),
    [("ablation.yaml", "EfficientNet-Lite0"), ("ablation-vit.yaml", "A vision transformer")],
)
def test_the_results_are_those_of_the_examples_cells(name, heading):
    config = read_config(EXAMPLE.with_name(name), data=".", eval_data=".")
    section = TEXT.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines()]
    known = [cell.name for cell in config.cells]
    scored = [row for row in rows if row in known]
    assert scored == known[: len(scored)]
    assert len(scored) >= 8
    assert (ROOT / "docs" / re.findall(r"\]\((images/[^)]+)\)", section)[0]).is_file()
