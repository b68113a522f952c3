from __future__ import annotations

import pytest
import torch

from tiny_backbone import tiny_backbone
from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.confidence import average_drop
from ttame.metrics.measure import get_measure
from ttame.metrics.shares import area_matched, cut_to_shares
from ttame.metrics.transfer import judged_classes, resized_pixels

NAMES = {"transfer_ad_100_matched", "transfer_ad_50_matched", "transfer_ad_15_matched"}


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_the_classifier_as_its_own_judge_gives_the_area_matched_average_drop(fill):
    case = make_case(images=5)
    judged = make_case(images=5, judge=case.backbone)
    found = get_measure("transfer", fill=fill)(judged).values
    own = get_measure("confidence", fill=fill)(case).values
    assert set(found) == NAMES
    for name, values in found.items():
        torch.testing.assert_close(values, own[name.removeprefix("transfer_")], atol=1e-4, rtol=0)


def test_only_images_on_which_the_judge_agrees_count():
    judge = tiny_backbone(seed=1)
    case = make_case(images=12, judge=judge)
    with torch.no_grad():
        full = judge.logits(case.images).double().softmax(dim=1)
        agrees = full.argmax(dim=1) == case.classes
        assert 0 < agrees.sum() < 12
        mask = cut_to_shares(area_matched(case.masks, case.seeds), [0.5])[:, 0]
        masked = judge.preprocessing.normalise(case.pixels * mask[:, None])
        after = judge.logits(masked).double().softmax(dim=1)
    found = get_measure("transfer")(case).values["transfer_ad_50_matched"]
    assert torch.equal(found.isnan(), ~agrees)
    rows = torch.arange(12)
    drop = average_drop(full[rows, case.classes], after[rows, case.classes])
    torch.testing.assert_close(found[agrees], drop[agrees], atol=1e-4, rtol=0)


def test_the_judge_has_its_own_input_size_and_normalisation():
    case = make_case(images=4)
    judge = tiny_backbone(crop=(48, 40))
    seen = []
    handle = judge.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    values = get_measure("transfer", shares=(1.0,))(make_case(images=4, judge=judge)).values
    handle.remove()
    assert {tuple(shape[1:]) for shape in seen} == {(3, 48, 40)}
    assert values["transfer_ad_100_matched"].shape == case.p.shape


def test_resizing_keeps_range_and_mean():
    pixels = torch.rand(2, 3, 16, 16)
    smaller = resized_pixels(pixels, (4, 8))
    assert smaller.shape == (2, 3, 4, 8)
    assert smaller.mean().item() == pytest.approx(pixels.mean().item(), abs=0.02)
    assert 0 <= smaller.min() <= smaller.max() <= 1
    assert resized_pixels(pixels, (16, 16)) is pixels


def test_a_missing_or_unfit_judge_is_refused():
    with pytest.raises(InputError, match="as judge, got none"):
        get_measure("transfer")(make_case(images=1))
    judge = tiny_backbone(classes=4)
    judge.class_names = ["class 3", "w", "x", "y"]
    with pytest.raises(InputError, match="'class 0'"):
        get_measure("transfer")(make_case(images=1, judge=judge))
    judge.class_names = None
    with pytest.raises(InputError, match="same 5 classes, got 4"):
        get_measure("transfer")(make_case(images=1, judge=judge))


def test_a_judge_of_more_classes_chooses_among_the_explained_ones():
    case = make_case(images=5)
    order = [4, 3, 2, 1, 0]
    judge = tiny_backbone(classes=7)
    head, own = judge.module[-1], case.backbone.module[-1]
    judge.module[:-1].load_state_dict(case.backbone.module[:-1].state_dict())
    with torch.no_grad():
        head.weight.zero_()[1:6] = own.weight[order]
        head.bias.fill_(100)[1:6] = own.bias[order]  # the other two classes always come first
    judge.class_names = ("x", *(f"class {index}" for index in order), "y")
    found = get_measure("transfer")(make_case(images=5, judge=judge)).values
    expected = get_measure("transfer")(make_case(images=5, judge=case.backbone)).values
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], atol=1e-4, rtol=0)
        assert values.isfinite().all()


def test_a_judge_of_fewer_classes_judges_the_images_of_those():
    case = make_case(images=12)
    unknown = int(case.classes.mode().values)
    shared = [label for label in (4, 2, 0, 1, 3) if label != unknown]
    assert 0 < sum(label in shared for label in case.classes.tolist()) < 12
    judge = tiny_backbone(classes=4)
    head, own = judge.module[-1], case.backbone.module[-1]
    judge.module[:-1].load_state_dict(case.backbone.module[:-1].state_dict())
    with torch.no_grad():
        head.weight.copy_(own.weight[shared])
        head.bias.copy_(own.bias[shared])
    judge.class_names = [f"class {index}" for index in shared]
    found = get_measure("transfer")(make_case(images=12, judge=judge)).values
    full = case.backbone.logits(case.images).double()[:, shared].softmax(dim=1)
    mask = cut_to_shares(area_matched(case.masks, case.seeds), [0.5])[:, 0]
    masked = case.backbone.preprocessing.normalise(case.pixels * mask[:, None])
    after = case.backbone.logits(masked).double()[:, shared].softmax(dim=1)
    for index, label in enumerate(case.classes.tolist()):
        value = found["transfer_ad_50_matched"][index]
        if label not in shared or shared[full[index].argmax()] != label:
            assert value.isnan()
        else:
            p, o = (float(scores[index, shared.index(label)]) for scores in (full, after))
            assert value.item() == pytest.approx(100 * max(0, (p - o) / p), abs=1e-4)


def test_a_judge_that_lacks_the_classes_is_refused():
    with pytest.raises(InputError, match="'otter'"):
        judged_classes(("cat", "otter"), ("cat", "dog", "fox"), (2, 3))
    assert judged_classes(("cat", "otter", "fox"), ("cat", "dog", "fox"), (3, 3)) == [0, None, 2]


def test_names_decide_before_the_order():
    assert judged_classes(("a", "crane", "crane"), ("a", "crane", "crane"), (3, 3)) == [0, 1, 2]
    with pytest.raises(InputError, match="'dog'"):
        judged_classes(("cat", "dog"), ("cat", "bus"), (2, 2))
    with pytest.raises(InputError, match="'crane'"):
        judged_classes(("crane", "crane"), ("crane", "ox"), (2, 2))
    twice = judged_classes(("ox", "crane", "crane", "cat"), ("cat", "crane", "ox"), (4, 3))
    assert twice == [2, None, None, 0]
    assert judged_classes(("cat", "dog"), None, (2, 2)) == [0, 1]
