from __future__ import annotations

import pytest
import torch
from torch import nn

from ttame.backbone.affine import AffineNorms
from ttame.backbone.fingerprint import fingerprint


def _norm(kind: type[nn.Module], affine: bool) -> nn.Module:
    norm = kind(5, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm.eval().requires_grad_(False)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm2d, (3, 5, 4, 6)), (nn.BatchNorm1d, (3, 5))]
)
def test_values_and_input_gradients_equal_pytorchs_own(kind, shape, affine):
    norm = _norm(kind, affine)
    before = fingerprint(norm)
    images = torch.randn(shape, requires_grad=True)
    weights = torch.randn(shape)
    outside = norm(images)
    (expected,) = torch.autograd.grad((outside * weights).sum(), images)
    with AffineNorms():
        inside = norm(images)
    (gradient,) = torch.autograd.grad((inside * weights).sum(), images)
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    assert fingerprint(norm) == before


def test_training_batch_norm_is_left_alone():
    norm, twin = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    images = torch.randn(4, 3, 5, 5)
    with AffineNorms():
        inside = norm(images)
    assert torch.equal(inside, twin(images))
    assert torch.equal(norm.running_mean, twin.running_mean)


def test_instance_statistics_are_left_alone():
    norm = nn.BatchNorm2d(3, track_running_stats=False).eval()
    images = torch.randn(4, 3, 5, 5)
    with AffineNorms():
        inside = norm(images)
    assert torch.equal(inside, norm(images))
