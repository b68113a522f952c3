from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ttame.backbone.outputs import first_tensor, logits_of
from ttame.errors import BackboneError


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


def test_one_logit_per_image_is_one_class():
    assert logits_of(torch.rand(3), 3).shape == (3, 1)


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
