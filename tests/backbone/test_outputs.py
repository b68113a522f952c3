from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ttame.backbone.outputs import first_tensor, flat_logits, logits_of, part_of
from ttame.errors import BackboneError, UnknownNameError


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


LOGITS = torch.rand(3, 5)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        LOGITS[:, :, None, None],
        Output(None, LOGITS),
        {"features": torch.rand(3, 8), "logits": LOGITS},
        (torch.rand(3, 4, 7, 7), LOGITS, torch.rand(3, 9)),
        [[LOGITS]],
    ],
)
def test_logits_are_found(output):
    assert torch.equal(logits_of(output, 3), LOGITS)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1, 1)])
def test_one_logit_per_image_is_two_classes(shape):
    logit = torch.randn(shape)
    assert flat_logits(logit, 3).shape == (3, 1)
    positive = logit.flatten().sigmoid()
    probabilities = logits_of(logit, 3).softmax(dim=1)
    torch.testing.assert_close(probabilities, torch.stack([1 - positive, positive], dim=1))


def test_parts_are_found_by_name_and_by_place():
    pair = namedtuple("pair", "loss scores")(torch.rand(()), LOGITS)
    for output in (pair, {"loss": pair.loss, "scores": LOGITS}, Output(pair.loss, LOGITS)):
        name = "logits" if isinstance(output, Output) else "scores"
        for which in (1, -1) if output is pair else (name, 1, -1):
            assert part_of(output, which) is LOGITS
    with pytest.raises(UnknownNameError, match="unknown output -3"):
        part_of((1, 2), -3)


def test_the_named_part_may_hold_more_than_logits():
    output = {"aux": torch.rand(3, 2), "head": (torch.rand(3, 4, 7, 7), LOGITS)}
    assert logits_of(output, 3, "head") is LOGITS
    with pytest.raises(BackboneError, match="say which they are"):
        logits_of({"aux": torch.rand(3, 2, 5), "scores": LOGITS}, 3, "aux")


@pytest.mark.parametrize(
    "output", [torch.rand(3, 5, 2, 2), None, (), torch.rand(2, 5), torch.rand(())]
)
def test_other_outputs_are_refused(output):
    with pytest.raises(BackboneError, match=r"expected logits of shape \(3, K\)"):
        logits_of(output, 3)


def test_first_tensor_looks_inside():
    tensor = torch.zeros(1)
    assert first_tensor({"a": None, "b": [(), Output(tensor, LOGITS)]}) is tensor
    assert first_tensor("nothing") is None
