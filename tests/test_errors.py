from __future__ import annotations

import subprocess
import sys

import pytest

from ttame import errors
from ttame.errors import InputError, TtameError, UnknownNameError, unknown_name

CHILDREN = ["InputError", "ImageError", "BackboneError", "StorageError", "TrainingError"]


@pytest.mark.parametrize("name", [*CHILDREN, "UnknownNameError"])
def test_every_error_is_a_ttame_error(name: str) -> None:
    assert issubclass(getattr(errors, name), TtameError)


@pytest.mark.parametrize("name", ["InputError", "UnknownNameError", "ImageError"])
def test_bad_input_is_a_value_error_too(name: str) -> None:
    assert issubclass(getattr(errors, name), ValueError)


def test_the_base_is_a_public_name() -> None:
    import ttame

    assert ttame.TtameError is TtameError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tide", "unknown head 'tide'; did you mean 'tied'?"),
        ("TIED", "unknown head 'TIED'; did you mean 'tied'?"),
        ("dependent", "unknown head 'dependent'; did you mean 'independent'?"),
        ("xyz", "unknown head 'xyz'; valid: tied, independent"),
        ("", "unknown head ''; valid: tied, independent"),
        (7, "unknown head 7; valid: tied, independent"),
    ],
)
def test_unknown_names_get_the_nearest_ones(name: object, expected: str) -> None:
    error = unknown_name("head", name, ["tied", "independent"])
    assert isinstance(error, UnknownNameError)
    assert isinstance(error, InputError)
    assert str(error) == expected


def test_parts_of_names_are_found() -> None:
    assert "'timm/resnet50'" in str(unknown_name("model", "resnet50", ["timm/resnet50", "a", "b"]))


def test_long_lists_are_cut_and_advice_is_appended() -> None:
    message = str(unknown_name("layer", "?", (f"block{i}" for i in range(40)), "(see --help)"))
    assert "block11, ..." in message
    assert "block12" not in message
    assert message.endswith("(see --help)")


def test_at_most_three_names_are_offered() -> None:
    message = str(unknown_name("layer", "block", [f"block{i}" for i in range(40)]))
    assert message.count("block") == 1 + 3


def test_nothing_valid_gives_a_message_all_the_same() -> None:
    assert str(unknown_name("preset", "fast", [])) == "unknown preset 'fast'"


def test_importing_ttame_imports_neither_torch_nor_lightning() -> None:
    code = "import sys, ttame, ttame.errors; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("message", "expected"),
    [("\n\n  one \ntwo", "one"), ("one", "one"), ("", "ValueError"), (" \n ", "ValueError")],
)
def test_the_first_line_of_a_foreign_error(message: str, expected: str) -> None:
    assert errors.first_line(ValueError(message)) == expected
