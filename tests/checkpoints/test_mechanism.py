from __future__ import annotations

from pathlib import Path

import pytest
import torch

from made_checkpoint import mechanism
from ttame.attention import AttentionMechanism
from ttame.checkpoints.mechanism import branch_of, mechanism_state, num_classes_of
from ttame.errors import StorageError, UnknownNameError
from ttame.heads import IndependentHead

FILE = Path("a.ckpt")
CHANNELS, CLASSES, LAYERS = [4, 6], 3, ("layer2", "layer3")


def weights(prefix="", **parts):
    found = mechanism(CHANNELS, CLASSES, prefix=prefix, **parts)
    return {name.removeprefix("generic.attn_mech."): value for name, value in found.items()}


def attention(branch="paper", channels=CHANNELS, classes=CLASSES):
    return AttentionMechanism(channels, IndependentHead(channels, classes), "first", branch)


@pytest.mark.parametrize("prefix", ["", "1."])
def test_every_tensor_comes_to_its_place(prefix):
    tensors, ours = weights(prefix), attention()
    ours.load_state_dict(mechanism_state(tensors, ours, LAYERS, FILE))
    for index, branch in enumerate(ours.branches):
        for theirs, module in (("convs", branch.conv), ("bns", branch.norm)):
            for name, value in module.state_dict().items():
                assert torch.equal(value, tensors[f"{prefix}{theirs}.{index}.{name}"])
    assert torch.equal(ours.head.weight, tensors[f"{prefix}fuser.weight"][:, :, 0, 0])
    assert torch.equal(ours.head.bias, tensors[f"{prefix}fuser.bias"])


def test_half_weights_become_float32_and_the_counter_may_be_missing():
    tensors = {name: value.half() for name, value in weights().items() if "batches" not in name}
    state = mechanism_state(tensors, attention(), LAYERS, FILE)
    assert state["branches.0.conv.weight"].dtype == torch.float32
    assert state["branches.1.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bns.0.running_var": None}, r"missing: generic\.attn_mech\.bns\.0\.running_var"),
        ({"fuser.bias": None}, r"missing: generic\.attn_mech\.fuser\.bias"),
        ({"extra.weight": 1}, r"not known: generic\.attn_mech\.extra\.weight"),
        ({"0.weight": 1}, r"not known: generic\.attn_mech\.0\.weight"),
        ({"convs.2.weight": 1}, r"not known: generic\.attn_mech\.convs\.2\.weight"),
        (
            {"convs.1.weight": torch.zeros(6, 6, 3, 3)},
            r"convs\.1\.weight is \(6, 6, 3, 3\) instead of \(6, 6, 1, 1\) \(for layer layer3\)",
        ),
        (
            {"fuser.weight": torch.zeros(3, 11, 1, 1)},
            r"fuser\.weight is \(3, 11, 1, 1\) instead of \(3, 10, 1, 1\)",
        ),
        ({"fuser.bias": torch.zeros(4)}, r"fuser\.bias is \(4,\) instead of \(3,\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", ["", "1."])
def test_what_does_not_fit_is_named(change, message, prefix):
    tensors = weights(prefix)
    for name, value in change.items():
        if value is None:
            del tensors[prefix + name]
        else:
            tensors[prefix + name] = torch.zeros(1) if isinstance(value, int) else value
    message = message.replace(r"attn_mech\.", rf"attn_mech\.{prefix}")
    with pytest.raises(StorageError, match=message):
        mechanism_state(tensors, attention(), LAYERS, FILE)


def test_names_outside_of_the_sequence_are_not_known():
    tensors = {**weights("1."), "fuser.bias": torch.zeros(3)}
    with pytest.raises(StorageError, match=r"not known: generic\.attn_mech\.fuser\.bias$"):
        mechanism_state(tensors, attention(), LAYERS, FILE)


def test_another_order_of_the_layers_is_refused():
    with pytest.raises(StorageError, match=r"on the layers layer3, layer2: of another shape"):
        mechanism_state(weights(), attention(channels=[6, 4]), ("layer3", "layer2"), FILE)


@pytest.mark.parametrize(
    ("parts", "version", "expected"),
    [
        ({}, None, "paper"),
        ({}, "TTAME", "paper"),
        ({}, "t-tame", "paper"),
        ({}, "TAME", "paper"),
        ({"norms": False}, None, "no-norm"),
        ({"norms": False}, "x", "no-norm"),
        ({"norms": False, "convs": False}, "x", "identity"),
        ({"norms": False}, "TTAME", "paper"),  # refused later, as its BatchNorms are missing
        ({"convs": False}, None, "paper"),  # and so are these convolutions
    ],
)
@pytest.mark.parametrize("prefix", ["", "1."])
def test_the_form_of_the_branches_is_told(parts, version, expected, prefix):
    assert branch_of(weights(prefix, **parts), version, FILE) == expected


@pytest.mark.parametrize("parts", [{}, {"convs": False}])
def test_a_form_that_cannot_be_told_must_be_said(parts):
    with pytest.raises(StorageError, match=r"attention_version 'new' .*paper or no-.*--branch"):
        branch_of(weights(**parts), "new", FILE)
    assert branch_of(weights(**parts), "new", FILE, "no-skip") == "no-skip"
    with pytest.raises(UnknownNameError, match="did you mean 'no-skip'"):
        branch_of(weights(**parts), "new", FILE, "noskip")


@pytest.mark.parametrize(
    "weight", [None, torch.zeros(3, 10), torch.zeros(3, 10, 3, 3), torch.zeros(3, 10, 1, 1)]
)
@pytest.mark.parametrize("prefix", ["", "1."])
def test_number_of_classes_and_other_heads(weight, prefix):
    tensors = weights(prefix)
    tensors[f"{prefix}fuser.weight"] = weight
    if weight is None:
        del tensors[f"{prefix}fuser.weight"]
    if weight is not None and weight.shape == (3, 10, 1, 1):
        assert num_classes_of(tensors, FILE) == 3
        return
    with pytest.raises(StorageError, match=rf"expected the head .*attn_mech\.{prefix}fuser"):
        num_classes_of(tensors, FILE)
