from contextlib import nullcontext

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.case import normalised
from ttame.metrics.insertion import insertion_deletion
from ttame.metrics.measure import get_measure
from ttame.metrics.perturbation import counts, mean_height

pytest.importorskip("scipy")
from references.slow_insertion import slow_area, slow_blur, slow_curve


def untied(count, size):
    generator = torch.Generator().manual_seed(0)
    pixels = size[0] * size[1]
    orders = [torch.randperm(pixels, generator=generator) for _ in range(count)]
    return torch.stack(orders).view(count, *size).float() / pixels


class Given:
    """What torchcam asks of an extractor, for masks that are there already."""

    def __init__(self, case):
        self.model, self.masks = case.backbone.module, case.masks

    def __call__(self, classes, scores):
        return [self.masks]

    def fuse_cams(self, maps):
        return maps[0]

    def _hooks_off(self):
        return nullcontext()


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_equals_the_slow_reference(size):
    case = make_case(images=2, size=size, masks=untied(2, size))
    scores = insertion_deletion(case, steps=7)
    for image in range(2):
        photo = case.pixels[image]
        blur = torch.stack([torch.from_numpy(slow_blur(part.numpy())) for part in photo]).float()
        # The tiny classifier's mean colour is 0.5.
        for name, start, end in (
            ("insertion", blur, photo),
            ("deletion", photo, torch.full_like(photo, 0.5)),
        ):
            curve = slow_curve(
                case.backbone, start, end, case.masks[image], int(case.classes[image]), 7
            )
            expected = pytest.approx([100 * value for value in curve], abs=1e-3)
            assert scores.curves[name][image].tolist() == expected
            area = 100 * slow_area(curve)
            assert scores.values[name][image].item() == pytest.approx(area, abs=1e-3)


def test_equals_torchcam():
    """Torchcam begins and ends at zeros of the normalised photo, which is our mean fill."""
    metric = getattr(pytest.importorskip("torchcam.metrics"), "DeletionInsertionMetric", None)
    if metric is None:
        pytest.skip("this torchcam has no deletion and insertion")
    case = make_case(images=3, masks=untied(3, (32, 32)))
    scores = insertion_deletion(case, steps=16, insertion_fill="mean")
    theirs = metric(Given(case), lambda logits: logits.softmax(dim=1), steps=16)
    theirs.update(normalised(case.backbone, case.pixels))
    means = theirs.summary()
    for name in ("insertion", "deletion"):
        ours = scores.values[name].mean().item()
        assert ours == pytest.approx(100 * means[f"{name}_auc"], abs=1e-3)
    assert abs(means["insertion_auc"] - means["deletion_auc"]) > 1e-3


def test_ends_of_the_curves_are_the_full_and_the_empty_photo():
    case = make_case(images=3)
    scores = insertion_deletion(case, steps=4, insertion_fill="black", deletion_fill="black")
    full = 100 * case.p
    torch.testing.assert_close(scores.curves["insertion"][:, -1], full, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.curves["deletion"][:, 0], full, atol=1e-4, rtol=0)
    black = 100 * case.probabilities(torch.zeros_like(case.pixels))
    torch.testing.assert_close(scores.curves["insertion"][:, 0], black, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.curves["deletion"][:, -1], black, atol=1e-4, rtol=0)


def test_hand_computed_area_and_counts():
    assert mean_height(torch.tensor([[1.0, 0.5, 0.25, 0.0]])).item() == pytest.approx(1.25 / 3)
    assert counts(7, 3) == [0, 2, 5, 7]
    assert counts(3, 6)[-1] == 3


def test_fewer_than_one_step_is_refused():
    case = make_case(images=1)
    with pytest.raises(InputError, match="at least 1 step"):
        insertion_deletion(case, steps=0)


def test_nothing_depends_on_the_batch_and_ties_are_seeded():
    masks = torch.zeros(5, 32, 32)
    masks[:, :8] = 1
    whole = insertion_deletion(make_case(images=5, masks=masks), steps=5)
    for part in (slice(0, 1), slice(1, 4), slice(3, 5)):
        again = insertion_deletion(
            make_case(images=5, only=part, masks=masks[part], batch_size=4), steps=5
        )
        for name, values in whole.values.items():
            torch.testing.assert_close(again.values[name], values[part], atol=1e-4, rtol=0)


def test_what_is_declared_is_given():
    measure = get_measure("insertion_deletion", steps=3)
    scores = measure(make_case(images=1, masks=torch.zeros(1, 32, 32)))
    assert set(scores.values) == set(measure.metrics(measure.options))
    assert scores.curves["insertion"].shape == (1, 4)
    assert measure.passes(measure.options) == 8
    assert measure.slow
