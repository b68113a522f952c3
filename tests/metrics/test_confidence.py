from __future__ import annotations

import copy

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.case import normalised
from ttame.metrics.confidence import average_drop, average_gain, increase_in_confidence
from ttame.metrics.measure import get_measure

P = torch.tensor([0.8, 0.5, 0.4, 0.0, 1.0, 1.0])
O = torch.tensor([0.2, 0.75, 0.4, 0.3, 1.0, 0.9])  # noqa: E741


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (average_drop, [75, 0, 0, 0, 0, 10]),
        (increase_in_confidence, [0, 100, 0, 100, 0, 0]),
        (average_gain, [0, 50, 0, 30, 0, 0]),
    ],
)
def test_hand_computed_values(function, expected):
    torch.testing.assert_close(function(P, O), torch.tensor(expected).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("function", [average_drop, increase_in_confidence, average_gain])
def test_nan_stays_nan_and_wrong_shapes_are_refused(function):
    o = torch.tensor([torch.nan, 0.5])
    p = torch.tensor([0.5, 0.5])
    assert torch.isnan(function(p, o)).tolist() == [True, False]
    assert torch.isnan(function(o, p)).tolist() == [True, False]
    with pytest.raises(InputError, match=r"\(2,\) and \(1,\)"):
        function(p, o[:1])


def test_average_drop_and_increase_equal_torchcam():
    """Torchcam masks the normalised photo by the whole map: our mean fill at a share of 100 %."""
    methods = pytest.importorskip("torchcam.methods")
    metric = pytest.importorskip("torchcam.metrics").ClassificationMetric
    whole = make_case(images=12)
    model = copy.deepcopy(whole.backbone.module).requires_grad_()
    images = normalised(whole.backbone, whole.pixels)
    # Not the predicted classes alone: of those nearly all gain here.
    classes = torch.arange(12) % 5
    with torch.no_grad():
        p = whole.backbone.logits(images).double().softmax(dim=1)[range(12), classes]
    with methods.GradCAM(model, "2") as extractor:
        # The metric makes its maps from what it scores by, so from probabilities.
        (maps,) = extractor(classes.tolist(), model(images).softmax(dim=1))
        case = make_case(images=12, maps=maps, classes=classes, p=p)
        scores = get_measure("confidence", shares=(1.0,), fill="mean")(case)
        theirs = metric(extractor, lambda logits: logits.softmax(dim=1))
        singles = []
        for image, index in zip(images, classes.tolist(), strict=True):
            theirs.reset()
            theirs.update(image[None], index)
            singles.append([100 * theirs.summary()[key] for key in ("avg_drop", "conf_increase")])
    expected = torch.tensor(singles).double()
    expected[:, 0] *= (p + 1e-7) / p  # it adds this to what it divides by
    ours = torch.stack([scores.values["ad_100"], scores.values["ic_100"]], dim=1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)
    assert (ours[:, 0] > 1).sum() > 3
    assert (ours[:, 1] == 100).sum() > 1
