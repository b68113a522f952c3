from __future__ import annotations

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import UnknownNameError
from ttame.metrics.measure import get_measure


def drops(case, **options):
    return get_measure("confidence", **options)(case).values


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_the_fill_is_the_mask_space(fill):
    case = make_case(images=5)
    if fill == "black":
        images = case.backbone.preprocessing.normalise(case.pixels * case.masks[:, None])
    else:
        images = case.images * case.masks[:, None]
    with torch.no_grad():
        o = case.backbone.logits(images).double().softmax(dim=1)
    o = o.gather(1, case.classes[:, None])[:, 0]
    found = drops(case, fill=fill)
    drop, gain = 100 * (case.p - o) / case.p, 100 * (o - case.p) / (1 - case.p)
    for name, expected in (("ad_100", drop), ("ag_100", gain)):
        torch.testing.assert_close(found[name], expected.clamp(min=0), rtol=0, atol=1e-3)
    assert (found["ad_100"] + found["ag_100"]).min() > 0


def test_fills_differ_and_unknown_ones_are_refused():
    case = make_case(images=5)
    plain, blurred = drops(case), drops(case, fill="blur")
    assert not torch.allclose(plain["ad_50"], blurred["ad_50"], atol=0.1)
    torch.testing.assert_close(plain["mask_area"], blurred["mask_area"])
    with pytest.raises(UnknownNameError, match="fill"):
        drops(case, fill="gray")
