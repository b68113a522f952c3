from __future__ import annotations

import pytest
import torch

from ttame.activation import (
    ACTIVATIONS,
    are_predicted,
    log_probabilities,
    probabilities,
    pseudo_labels,
)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5)])
def test_probabilities_by_hand(shape):
    logits = torch.randn(shape, dtype=torch.float64)
    powers = logits.exp()
    shared = powers / powers.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(probabilities(logits), shared)
    torch.testing.assert_close(probabilities(logits, "sigmoid"), powers / (1 + powers))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_logarithms_are_those_of_the_probabilities_and_stay_finite(activation):
    logits = torch.randn(3, 4)
    expected = probabilities(logits, activation).log()
    torch.testing.assert_close(log_probabilities(logits, activation), expected)
    assert torch.isfinite(log_probabilities(torch.tensor([[-500.0, 500.0]]), activation)).all()


def test_predicted_by_softmax_is_the_best_and_by_sigmoid_from_one_half_on():
    logits = torch.tensor([[0.5, 2.0, -1.0], [-3.0, -2.0, -1.0], [0.0, -1.0, -2.0]])
    classes = torch.tensor([0, 2, 0])
    assert are_predicted(logits, classes).tolist() == [False, True, True]
    assert are_predicted(logits, classes, "sigmoid").tolist() == [True, False, True]
    curves = are_predicted(logits[:, None].expand(-1, 2, -1), classes[:, None].expand(-1, 2))
    assert curves.tolist() == [[False] * 2, [True] * 2, [True] * 2]


def test_a_pseudo_label_by_softmax_is_the_best_and_draws_nothing():
    logits = torch.randn(6, 5)
    before = torch.get_rng_state()
    assert torch.equal(pseudo_labels(logits), logits.argmax(dim=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pseudo_label_by_sigmoid_is_drawn_from_the_predicted_ones():
    logits = torch.tensor([[1.0, -1.0, 3.0, -2.0], [-4.0, -1.0, -3.0, -2.0]]).repeat(500, 1)
    drawn = pseudo_labels(logits, "sigmoid").view(500, 2)
    counts = drawn[:, 0].bincount(minlength=4)
    assert counts[[1, 3]].tolist() == [0, 0]
    assert counts[[0, 2]].min() > 200  # equal chances: 250 expected, 3 deviations are 34
    assert set(drawn[:, 1].tolist()) == {1}
