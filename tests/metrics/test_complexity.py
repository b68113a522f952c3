from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_cases import make_case
from ttame.methods.registry import get_method
from ttame.metrics.complexity import adcc, coherency, complexity
from ttame.metrics.measure import get_measure


def test_hand_computed():
    masks = torch.tensor([[[0.0, 0.5], [0.5, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    assert complexity(masks).tolist() == [50, 25]
    # Correlation 1 and 0.8165 (covariance 0.125, variances 0.125 and 0.1875).
    again = torch.tensor([[[0.0, 0.5], [0.5, 1.0]], [[0.0, 0.5], [0.5, 1.0]]])
    assert coherency(masks, again).tolist() == pytest.approx([100, 50 * (1 + (2 / 3) ** 0.5)])
    values = [torch.tensor([value]).double() for value in (50.0, 100.0, 50.0)]
    assert adcc(*values).item() == pytest.approx(60)  # 3 / (1 + 2 + 2)


@pytest.mark.parametrize("parts", [(100, 80, 20), (20, 0, 20), (20, 80, 100)])
def test_a_zero_makes_the_harmonic_mean_zero(parts):
    assert adcc(*(torch.tensor([float(part)]) for part in parts)).tolist() == [0]


@settings(max_examples=50, deadline=None)
@given(*(st.floats(0, 100) for _ in range(3)))
def test_lies_between_its_parts(drop, coherent, simple):
    value = adcc(*(torch.tensor([part]).double() for part in (drop, coherent, simple))).item()
    parts = (100 - drop, coherent, 100 - simple)
    assert min(parts) - 1e-6 <= value <= max(parts) + 1e-6


# The tiny classifier's mean colour is 0.5.
@pytest.mark.parametrize(("fill", "colour"), [("black", 0.0), ("mean", 0.5)])
def test_the_measure_masks_classifies_and_explains_the_masked_image(fill, colour):
    case = make_case(images=3)
    values = get_measure("adcc", fill=fill)(case).values
    for index in range(3):
        mask = case.masks[index]
        masked = case.pixels[index : index + 1] * mask + colour * (1 - mask)
        images = case.backbone.preprocessing.normalise(masked)
        o = case.backbone.logits(images).double().softmax(dim=1)[0, case.classes[index]]
        drop = max(0.0, (case.p[index] - o).item()) / case.p[index].item()
        again = case.explain(case.backbone, images, case.classes[index].view(1, 1))[0, 0]
        again = (again - again.min()) / (again.max() - again.min())
        again = torch.nn.functional.interpolate(again[None, None], (32, 32), mode="bilinear")[0, 0]
        pair = torch.stack([case.masks[index].flatten(), again.flatten()]).double()
        coherent = (torch.corrcoef(pair)[0, 1].item() + 1) / 2
        simple = case.masks[index].mean().item()
        expected = 300 / (1 / coherent + 1 / (1 - simple) + 1 / (1 - drop))
        assert values["complexity"][index].item() == pytest.approx(100 * simple, rel=1e-5)
        assert values["coherency"][index].item() == pytest.approx(100 * coherent, rel=1e-5)
        assert values["adcc"][index].item() == pytest.approx(expected, rel=1e-4)


def test_constant_masks_score_zero_and_do_not_crash():
    # Everything is kept: no drop, but no simplicity either.
    ones = make_case(
        images=2,
        masks=torch.ones(2, 32, 32),
        maps=torch.ones(2, 4, 4),
        to_masks=get_method("all_ones").to_masks,
        explain=lambda _, images, classes: torch.ones(*classes.shape, 4, 4),
    )
    scores = get_measure("adcc")(ones).values
    assert scores["complexity"].tolist() == [100, 100]
    assert scores["coherency"].tolist() == [50, 50]
    assert scores["adcc"].tolist() == [0, 0]
    nothing = make_case(images=2, maps=torch.zeros(2, 4, 4))
    scores = get_measure("adcc")(nothing).values
    assert scores["complexity"].tolist() == [0, 0]
    assert all(torch.isfinite(values).all() for values in scores.values())


def test_a_map_with_nan_for_the_masked_image_counts_as_constant():
    case = make_case(
        images=2,
        maps=torch.rand(2, 4, 4),
        explain=lambda _, images, classes: torch.full((*classes.shape, 4, 4), torch.nan),
    )
    assert get_measure("adcc")(case).values["coherency"].tolist() == [50, 50]
