from __future__ import annotations

import math

import pytest
import torch

from references.slow_masking import slow_area, slow_variation
from ttame.objective import (
    ObjectiveWeights,
    area,
    cross_entropy,
    disagreement,
    objective,
    variation,
)


def test_the_weights_are_the_paper_s() -> None:
    assert ObjectiveWeights() == ObjectiveWeights(1.5, 2.0, 0.01, bound=0.0)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    value = cross_entropy(logits, torch.tensor([1, 0]))
    assert float(value) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-6)


def test_cross_entropy_of_half_precision_logits_is_float32() -> None:
    assert cross_entropy(torch.randn(2, 3).bfloat16(), torch.tensor([0, 1])).dtype == torch.float32


@pytest.mark.parametrize("bound", [0.2, 0.7, 1.0])
def test_bounded_cross_entropy_by_hand(bound: float) -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    value = cross_entropy(logits, torch.tensor([1, 0]), bound)
    expected = ((1 - 0.75**bound) / bound + (1 - 0.5**bound) / bound) / 2
    assert float(value) == pytest.approx(expected, abs=1e-6)
    lost = cross_entropy(torch.tensor([[0.0, 500.0]]), torch.tensor([0]), bound)
    assert float(lost) == pytest.approx(1 / bound, abs=1e-6)


def test_a_small_bound_is_nearly_the_cross_entropy() -> None:
    logits, classes = torch.randn(4, 5), torch.tensor([0, 1, 4, 2])
    near = cross_entropy(logits, classes, 1e-4)
    torch.testing.assert_close(near, cross_entropy(logits, classes), rtol=1e-3, atol=0)


def test_area_by_hand() -> None:
    masks = torch.tensor([[[[0.0, 1.0]]]])
    expected = (5e-4**0.3 + 1.0005**0.3) / 2
    assert float(area(masks)) == pytest.approx(expected, abs=1e-6)


def test_area_at_zero_has_a_finite_gradient() -> None:
    masks = torch.zeros(1, 1, 2, 2, requires_grad=True)
    area(masks).backward()
    assert masks.grad is not None
    assert torch.isfinite(masks.grad).all()


def test_variation_by_hand() -> None:
    # Differences: across 1 + 4, down 9 + 0; borders: rows (0 + 1) + (9 + 1), columns
    # (0 + 9) + (1 + 1).
    masks = torch.tensor([[[[0.0, 1.0], [3.0, 1.0]]]])
    assert float(variation(masks)) == pytest.approx((1 + 4 + 9 + 0 + 0.3 * (11 + 11)) / 2, abs=1e-5)


def test_variation_of_a_constant_mask_is_its_borders() -> None:
    assert float(variation(torch.ones(3, 1, 4, 6))) == pytest.approx(0.3 * 20 / 2, abs=1e-5)
    assert float(variation(torch.ones(3, 1, 4, 6), border=0)) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 5, 4), (3, 3, 4, 6), (1, 2, 1, 7)])
def test_terms_equal_the_loops(shape: tuple[int, ...]) -> None:
    masks = torch.rand(shape)
    assert float(variation(masks)) == pytest.approx(slow_variation(masks), rel=1e-5)
    assert float(area(masks)) == pytest.approx(slow_area(masks), rel=1e-5)


@pytest.mark.parametrize(
    "weights", [ObjectiveWeights(), ObjectiveWeights(1.0, 0.0, 0.5, 0.3), ObjectiveWeights(0, 0, 0)]
)
def test_objective_adds_the_weighted_terms(weights: ObjectiveWeights) -> None:
    logits, classes, masks = torch.randn(2, 5), torch.tensor([4, 0]), torch.rand(2, 1, 3, 3)
    terms = objective(logits, classes, masks, weights)
    assert set(terms) == {"cross_entropy", "area", "variation", "loss"}
    expected = (
        weights.cross_entropy * cross_entropy(logits, classes, weights.bound)
        + weights.area * area(masks)
        + weights.variation * variation(masks)
    )
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["area"], area(masks))


def test_the_regularisers_may_run_over_more_masks_than_the_cross_entropy() -> None:
    block = torch.rand(2, 2, 3, 3)
    terms = objective(torch.randn(2, 5), torch.tensor([1, 2]), block, ObjectiveWeights())
    assert float(terms["variation"]) == pytest.approx(slow_variation(block), rel=1e-5)
    assert float(terms["area"]) == pytest.approx(slow_area(block), rel=1e-5)


def test_nan_comes_out() -> None:
    terms = objective(
        torch.full((1, 3), torch.nan), torch.tensor([0]), torch.rand(1, 1, 2, 2), ObjectiveWeights()
    )
    assert torch.isnan(terms["loss"])
    assert torch.isfinite(terms["area"])


@pytest.mark.parametrize("bound", [0.0, 0.5])
def test_by_sigmoid_only_the_class_itself_counts(bound: float) -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [-5.0, 0.0]], requires_grad=True)
    value = cross_entropy(logits, torch.tensor([1, 1]), bound, "sigmoid")
    kept = (0.75, 0.5)
    expected = sum((1 - o**bound) / bound if bound else -math.log(o) for o in kept) / 2
    assert float(value) == pytest.approx(expected, abs=1e-6)
    value.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 0], torch.zeros(2))
    terms = objective(
        logits, torch.tensor([1, 1]), torch.rand(2, 1, 3, 3), ObjectiveWeights(1, 0, 0, bound),
        "sigmoid",
    )  # fmt: skip
    assert float(terms["loss"]) == pytest.approx(expected, abs=1e-6)


def test_disagreement_by_hand() -> None:
    # Ranks 1, 2, 3, 4 against 1, 2, 4, 3: correlation 0.8.
    maps = torch.tensor([[1.0, 2.0], [4.0, 3.0]]).expand(1, 2, 2, 2)
    teacher = torch.tensor([[[[-9.0, 0.1], [0.2, 50.0]], [[9.0, 0.3], [-8.0, 0.2]]]])
    # The other class: 1, 2, 4, 3 against 4, 3, 1, 2.
    expected = torch.tensor([[0.2, 2.0]])
    torch.testing.assert_close(disagreement(maps, teacher), expected, rtol=0, atol=1e-6)


def test_disagreement_sees_the_order_of_the_teacher_s_cells_only() -> None:
    maps, teacher = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    one = disagreement(maps, teacher)
    torch.testing.assert_close(disagreement(3 * maps - 7, 5 * teacher + 1), one)
    # Values far enough apart keep their ranks under any monotone change.
    apart = torch.randperm(16).float().view(1, 1, 4, 4)
    torch.testing.assert_close(
        disagreement(maps[:1, :1], apart.square()), disagreement(maps[:1, :1], apart)
    )


def test_constant_maps_disagree_by_one_and_stop_no_training() -> None:
    maps = torch.randn(2, 1, 3, 3, requires_grad=True)
    constant = torch.ones(2, 1, 3, 3)
    assert disagreement(maps, constant).flatten().tolist() == pytest.approx([1, 1], abs=1e-6)
    flat = torch.full((2, 1, 3, 3), 0.5, requires_grad=True)
    value = disagreement(flat, maps.detach()).mean()
    value.backward()
    assert float(value) == pytest.approx(1, abs=1e-6)
    assert flat.grad is not None
    assert flat.grad.abs().max() == 0
