from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from ttame.errors import InputError, UnknownNameError
from ttame.objective import ObjectiveWeights
from ttame.training.config import CHOICES, TrainingConfig, load_preset, preset_names


def test_the_paper_preset_is_the_paper_s() -> None:
    paper = load_preset("paper")
    assert (paper.head, paper.start, paper.mask_form) == ("independent", "random", "sigmoid")
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == (
        "sgd",
        1e-3,
        0.9,
        5e-4,
    )
    assert (paper.epochs, paper.batch_size) == (8, 32)
    assert paper.shares == (1.0,)
    assert paper.block
    assert paper.fill == "black"
    weights = ObjectiveWeights(
        paper.cross_entropy_weight,
        paper.area_weight,
        paper.variation_weight,
        paper.cross_entropy_bound,
    )
    assert weights == ObjectiveWeights(1.5, 2.0, 0.01, 0.0)


def test_fast_is_the_default_and_ours() -> None:
    fast = load_preset()
    assert fast == load_preset("fast")
    assert (fast.head, fast.start, fast.optimizer) == ("shared", "cam", "adamw")
    assert fast.mask_form != "sigmoid"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_goes_through_json(name: str) -> None:
    preset = load_preset(name)
    values = json.loads(json.dumps(preset.to_dict()))
    assert set(values) == {field.name for field in fields(TrainingConfig)}
    assert load_preset(name, values) == preset
    assert load_preset("fast", values) == preset


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "2", 2),
        ("epochs", 3.0, 3),
        ("epochs", "1e1", 10),
        ("lr", "1e-2", 0.01),
        ("lr", 1, 1.0),
        ("shares", "1, 0.5", (1.0, 0.5)),
        ("shares", [0.15], (0.15,)),
        ("shares", "0.3", (0.3,)),
        ("block", "true", True),
        ("block", "No", False),
        ("block", "0", False),
        ("block", True, True),
        ("head", "independent", "independent"),
        ("device", "cpu", "cpu"),
        ("precision", 32, "32"),
        ("workers", "0", 0),
    ],
)
def test_overrides_are_read_by_type(key: str, value: Any, expected: Any) -> None:
    read = getattr(load_preset("fast", {key: value}), key)
    assert read == expected
    assert type(read) is type(expected)


def test_none_leaves_the_preset_s_value() -> None:
    assert load_preset("paper", {"epochs": None, "lr": None}) == load_preset("paper")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", "two"),
        ("epochs", 2.5),
        ("epochs", float("nan")),
        ("epochs", [1]),
        ("epochs", float("inf")),
        ("batch_size", 1),
        ("val_images", 0),
        ("lr", 0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "fast"),
        ("shares", ""),
        ("shares", []),
        ("shares", 0.5),
        ("shares", "1,2"),
        ("shares", [0.0]),
        ("shares", [-0.5]),
        ("shares", "half"),
        ("shares", [float("nan")]),
        ("val_share", 0),
        ("val_share", 1),
        ("block", "maybe"),
        ("momentum", -0.1),
        ("momentum", 1),
        ("weight_decay", -1e-4),
        ("area_weight", -1),
        ("area_weight", float("nan")),
        ("cross_entropy_weight", float("inf")),
        ("cross_entropy_bound", -0.5),
        ("seed", -1),
        ("seed", 2**32),
        ("workers", -2),
    ],
)
def test_bad_values_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{key}|share|batch size|learning rate"):
        load_preset("fast", {key: value})


@pytest.mark.parametrize(
    ("key", "near"),
    [("epoch", "epochs"), ("batchsize", "batch_size"), ("learning", "lr"), ("LR", "lr")],
)
def test_a_typo_in_a_setting_is_refused(key: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown training setting") as caught:
        load_preset("fast", {key: 1})
    if near != "lr" or key == "LR":
        assert repr(near) in str(caught.value)


@pytest.mark.parametrize("key", CHOICES)
def test_a_typo_in_a_choice_is_refused_with_the_nearest(key: str) -> None:
    valid = CHOICES[key][0]
    with pytest.raises(UnknownNameError, match=f"did you mean '{valid}'"):
        load_preset("fast", {key: valid + "x"})


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        load_preset("papers")


def test_every_choice_of_the_mechanism_can_be_trained():
    from ttame.attention import BRANCHES, GRIDS

    assert CHOICES["branch"] == tuple(BRANCHES)
    assert CHOICES["grid"] == GRIDS
