from dataclasses import replace

import pytest
import torch

from tiny_backbone import tiny_backbone
from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.measure import get_measure
from ttame.metrics.perturbation import removal_ranks
from ttame.metrics.road import first_to_go, kept_curve, road

pytest.importorskip("scipy")
from references.slow_road import slow_imputation, slow_removal


def untied(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [torch.randperm(size[0] * size[1], generator=generator) for _ in range(count)]
    ).view(count, *size).float() / (size[0] * size[1])


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_equals_the_slow_reference(size):
    case = make_case(images=3, size=size, masks=untied(3, size))
    shares = (0.1, 0.5, 0.9)
    scores = road(case, shares, noise=0)
    for image in range(3):
        stays = {}
        for name, most_first in (("road_morf", True), ("road_lerf", False)):
            stays[name] = []
            for share in shares:
                gone = slow_removal(case.masks[image].numpy(), share, most_first)
                filled = torch.from_numpy(slow_imputation(case.pixels[image].numpy(), gone))
                logits = case.logits(filled[None].float())
                stays[name].append(100.0 * (int(logits.argmax()) == int(case.classes[image])))
            assert scores.curves[name][image].tolist() == stays[name]
        expected = {name: sum(values) / 3 for name, values in stays.items()}
        assert scores.values["road_morf"][image].item() == pytest.approx(expected["road_morf"])
        assert scores.values["road_combined"][image].item() == pytest.approx(
            (expected["road_lerf"] - expected["road_morf"]) / 2
        )


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_exactly_k_pixels_go_from_half_zero_and_constant_maps(share):
    half = torch.zeros(2, 32, 48)
    half[:, :16] = torch.rand(2, 16, 48)
    for masks in (half, torch.zeros(2, 32, 48)):
        for most_first in (True, False):
            gone = first_to_go(removal_ranks(masks, [3, 4], most_first), share)
            assert gone.sum(dim=(1, 2)).tolist() == [round(share * 32 * 48)] * 2
    assert not torch.equal(gone[0], gone[1])


def test_a_constant_map_scores_the_same_in_both_directions():
    scores = road(make_case(images=3, masks=torch.zeros(3, 32, 32)), noise=0)
    assert torch.equal(scores.curves["road_morf"], scores.curves["road_lerf"])
    assert not scores.values["road_combined"].any()


def test_a_negated_map_swaps_the_directions_also_with_ties():
    masks = torch.randint(0, 5, (3, 32, 32), generator=torch.Generator().manual_seed(0)) / 4
    one = road(make_case(images=3, masks=masks), noise=0)
    other = road(make_case(images=3, masks=1 - masks), noise=0)
    assert torch.equal(one.curves["road_morf"], other.curves["road_lerf"])
    torch.testing.assert_close(one.values["road_combined"], -other.values["road_combined"])


def test_labels_that_were_never_predicted_have_no_value():
    case = make_case(images=2, p=torch.tensor([0.49, 0.5], dtype=torch.float64))
    labels = tiny_backbone()
    labels.activation = "sigmoid"
    scores = road(replace(case, backbone=labels), noise=0)
    for values in scores.values.values():
        assert values.isnan().tolist() == [True, False]
    assert not road(case, noise=0).values["road_morf"].isnan().any()


def test_logits_that_are_no_numbers_give_no_value():
    case = make_case(images=2)
    backbone = tiny_backbone()
    plain = backbone.logits
    backbone.logits = lambda images: plain(images).masked_fill(images.mean() > -99, torch.nan)
    assert road(replace(case, backbone=backbone), noise=0).values["road_lerf"].isnan().all()


def test_nothing_depends_on_the_batch():
    whole = road(make_case(images=5))
    for part in (slice(0, 1), slice(1, 4), slice(3, 5)):
        again = road(make_case(images=5, only=part, batch_size=3))
        for name, values in whole.values.items():
            torch.testing.assert_close(again.values[name], values[part], atol=1e-6, rtol=0)


def test_what_is_declared_is_given():
    measure = get_measure("road", shares=(0.2, 0.6))
    scores = measure(make_case(images=1))
    assert set(scores.values) == set(measure.metrics(measure.options))
    assert scores.curves["road_morf"].shape == (1, 2)
    assert measure.passes(measure.options) == 4
    assert not measure.slow
    assert get_measure("road").options["shares"] == (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    with pytest.raises(InputError, match="shares"):
        road(make_case(images=1), shares=(0.0,))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_curve_of_a_class_that_stays_goes_and_is_no_number(activation):
    kept, lost = [2.0, 1.0], [-1.0, 3.0]
    logits = torch.tensor([[kept, lost, [float("nan"), 0.0]]])
    curve = kept_curve(logits, torch.tensor([0]), activation)[0].tolist()
    assert [None if value != value else value for value in curve] == [100, 0, None]
    # Of several labels, one that is likely stays though another is likelier.
    both = torch.tensor([[[1.0, 4.0]]])
    assert kept_curve(both, torch.tensor([0]), activation).item() == (activation == "sigmoid") * 100
