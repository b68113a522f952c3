from __future__ import annotations

import json
import sys

import pytest
import torch

from tiny_backbone import tiny_photos
from ttame import load_backbone
from ttame.cli.imports import import_modules
from ttame.errors import InputError
from ttame.methods import registry

METHOD = """
from ttame.methods.registry import register


@register(name="{name}", title="Brightness of {name}", paper="none", cost="1 look")
def bright(backbone, images, classes):
    return images.mean(dim=1, keepdim=True).expand(-1, classes.shape[1], -1, -1)
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Leave no module, method or folder behind."""
    monkeypatch.setattr(registry._METHODS, "entries", dict(registry.methods()))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("bright_file", "bright_module", "broken_file"):
        sys.modules.pop(name, None)


def test_a_file_registers_its_methods(call, tmp_path):
    file = tmp_path / "bright_file.py"
    file.write_text(METHOD.format(name="bright_file"))
    result = call("--import", file, "methods")
    assert result.exit_code == 0, result.output
    assert "Brightness of bright_file" in result.stdout


def test_a_module_of_the_current_folder_takes_part_in_a_run_of_several_processes(
    call, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bright_module.py"
    file.write_text(METHOD.format(name="bright_module"))
    arguments = [
        *("--import", "bright_module", "benchmark", "--model", "timm/test_vit", "--no-report"),
        *("--data", tiny_photos(tmp_path / "photos", 4), "--out", tmp_path / "out"),
        *("--methods", "bright_module,random", "--metrics", "confidence", "--jobs", 2, "-b", 2),
    ]
    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    classifier = load_backbone("timm/test_vit", pretrained=False)
    torch.save(classifier.module.state_dict(), weights)
    result = call(*arguments, "--weights", weights)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["methods"]["bright_module"]["ad_50"]["n"] == 4
    # Continued only with the same method.
    file.write_text(file.read_text().replace("mean(", "amax("))
    again = call(*arguments, "--weights", weights, "--resume")
    assert again.exit_code == 1
    assert "other settings (own_code), for example own_code bright_module" in again.stderr


def test_a_name_that_another_module_has_is_refused(call, tmp_path):
    first, second = tmp_path / "one" / "bright_file.py", tmp_path / "two" / "bright_file.py"
    for number, file in enumerate((first, second)):
        file.parent.mkdir()
        file.write_text(METHOD.format(name=f"bright_{number}"))
    taken = tmp_path / "random.py"
    taken.write_text("")
    for files in ((first, second), (taken,)):
        result = call(*(part for file in files for part in ("--import", file)), "methods")
        assert result.exit_code == 1
        assert f"the name of the file '{files[-1]}' is that of another module" in result.stderr
        assert result.stderr.count("\n") == 1


def test_what_cannot_be_imported_is_told_in_a_line(call, tmp_path):
    broken = tmp_path / "broken_file.py"
    broken.write_text("1 / 0")
    for name, message in (
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (str(broken), "ZeroDivisionError: division by zero"),
        (str(tmp_path / "gone.py"), "does not exist; check the path"),
    ):
        result = call("--import", name, "methods")
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    with pytest.raises(InputError, match="cannot be imported"):
        import_modules(["no_such_module"])
