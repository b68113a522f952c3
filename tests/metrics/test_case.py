"""Of a multi-label classifier every measure takes the sigmoid of the class' own logit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiny_backbone import tiny_backbone
from tiny_cases import SEEDED, make_case, seeded_map
from ttame.benchmarking.scoring import Scorer
from ttame.detail import with_detail
from ttame.errors import InputError
from ttame.masking import apply_mask
from ttame.methods.registry import get_method
from ttame.metrics.confidence import average_drop
from ttame.metrics.measure import Measure, Scores, get_measure
from ttame.metrics.shares import cut_to_shares
from ttame.normalisation import full_masks


def multi_label(**values):
    backbone = tiny_backbone()
    backbone.activation = "sigmoid"
    case = make_case()
    with torch.no_grad():
        logits = backbone.logits(backbone.preprocessing.normalise(case.pixels)).double()
    p = logits.max(dim=1).values.sigmoid()
    return make_case(backbone=backbone, p=p, explain=seeded_map, **values)


def own(case, pixels, backbone=None):
    return case.logits(pixels, backbone).gather(1, case.classes[:, None])[:, 0]


def test_changed_photos_bring_their_own_edges():
    plain = make_case()
    masks = with_detail(plain.masks[:, None], plain.pixels, 0.3)[:, 0]
    method = replace(SEEDED, detail=0.3)
    case = make_case(masks=masks, to_masks=method.to_masks)
    torch.testing.assert_close(case.masks_of(case.pixels), masks, atol=1e-5, rtol=0)
    changed = case.pixels.flip(-1)
    expected = with_detail(plain.masks_of(changed)[:, None], changed, 0.3)[:, 0]
    torch.testing.assert_close(case.masks_of(changed), expected, atol=1e-5, rtol=0)


def test_a_scored_method_makes_the_masks_of_changed_photos_as_its_own():
    seen = []
    case = make_case()
    scorer = Scorer(case.backbone)
    measure = Measure("look", "Look", lambda c: seen.append(c) or Scores({}), lambda _: {})
    method = replace(SEEDED, upsampling="nearest", detail=0.3)
    scorer.score(method, scorer.classify(case.pixels, case.seeds), [(measure, 4)])
    expected = full_masks(case.maps, case.size, "minmax", "nearest", 0.3, case.pixels)
    torch.testing.assert_close(seen[0].masks, expected)
    torch.testing.assert_close(seen[0].masks_of(case.pixels), expected)


def test_probabilities_are_sigmoids():
    case = multi_label()
    torch.testing.assert_close(case.probabilities(case.pixels), own(case, case.pixels).sigmoid())
    owners = torch.tensor([2, 0])
    found = case.probabilities(case.pixels[owners], owners)
    torch.testing.assert_close(found, own(case, case.pixels).sigmoid()[owners])
    photos = Scorer(case.backbone).classify(case.pixels, case.seeds)
    assert torch.equal(photos.classes, case.classes)
    torch.testing.assert_close(photos.p, case.p)


def test_average_drop_and_transfer():
    judge = tiny_backbone(seed=1)
    judge.activation = "sigmoid"
    case = multi_label(judge=judge)
    half = apply_mask(case.pixels, cut_to_shares(case.masks, (0.5,)), 0.0)
    expected = average_drop(case.p, own(case, half).sigmoid())
    found = get_measure("confidence")(case).values["ad_50"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    transfer = get_measure("transfer")(case).values["transfer_ad_50_matched"]
    assert torch.equal(transfer.isnan(), own(case, case.pixels, judge) < 0)


def test_road_asks_for_one_half(monkeypatch):
    case = multi_label()
    logits = torch.tensor([[[1.0, 5.0, -1.0, -2.0, 0.0]]]).expand(4, 2, 5).double()
    monkeypatch.setattr("ttame.metrics.road.logits_along", lambda *_: logits)
    case = multi_label(classes=torch.tensor([0, 1, 2, 4]))
    curves = get_measure("road", shares=(0.3, 0.6))(case).curves["road_morf"]
    assert curves.tolist() == [[100, 100], [100, 100], [0, 0], [100, 100]]


def test_insertion_ends_at_the_photo_s_own_probability():
    case = multi_label()
    curve = get_measure("insertion_deletion")(case).curves["insertion"]
    torch.testing.assert_close(curve[:, -1], 100 * case.p, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["rise", "occlusion"])
def test_masking_methods_weight_with_sigmoids(name):
    case = multi_label()
    images, classes = case.images[:1], torch.tensor([[0, 3]])
    method = get_method(name, **({"masks": 8} if name == "rise" else {}))
    whole = method(case.backbone, images, classes)
    # Other classes do not matter: without them the maps are the same, which softmax denies.
    with torch.no_grad():
        case.backbone.module[5].bias[1] += 5
    changed = method(case.backbone, images, classes)
    assert torch.equal(whole, changed)
    case.backbone.activation = "softmax"
    assert not torch.allclose(method(case.backbone, images, classes), whole)


@pytest.mark.parametrize("name", ["maps", "masks"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_maps_and_masks_must_be_finite(name, value):
    broken = getattr(make_case(), name).clone()
    broken[2, 0, 1] = value
    with pytest.raises(InputError, match=rf"expected finite {name}, .* of the images \[2\]"):
        make_case(**{name: broken})
