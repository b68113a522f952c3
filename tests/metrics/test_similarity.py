from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttame.errors import InputError, UnknownNameError
from ttame.metrics.similarity import is_constant, map_similarity, pearson, spearman


@pytest.mark.parametrize("ties", [False, True])
def test_equals_scipy(ties):
    stats = pytest.importorskip("scipy.stats")
    first, second = torch.rand(4, 7, 11), torch.rand(4, 7, 11)
    if ties:
        first, second = first.mul(5).round() / 5, second.mul(3).round() / 3
    else:
        # No two values closer than ranks can tell apart.
        first, second = (torch.rand(4, 77).argsort(dim=1).view(4, 7, 11) / 77 for _ in range(2))
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        expected = [
            theirs(a.flatten().double().numpy(), b.flatten().double().numpy()).statistic
            for a, b in zip(first, second, strict=True)
        ]
        assert ours(first, second).tolist() == pytest.approx(expected, abs=1e-9)


def test_hand_computed():
    first = torch.tensor([[[0.0, 0.5, 1.0]]])
    second = torch.tensor([[[0.0, 1.0, 0.5]]])
    assert pearson(first, second).item() == pytest.approx(0.5)
    # Ranks 0, 1.5, 1.5 and 0, 1, 2: covariance 1.5, variances 1.5 and 2.
    tied = torch.tensor([[[0.0, 1.0, 1.0]]])
    assert spearman(tied, first).item() == pytest.approx(1.5 / 3**0.5)


def test_constant_masks_are_alike_and_unlike_all_others():
    constant, other = torch.full((1, 4, 4), 0.3), torch.rand(1, 4, 4)
    for correlation in ("pearson", "spearman"):
        assert map_similarity(constant, torch.zeros(1, 4, 4), correlation).tolist() == [100]
        assert map_similarity(constant, other, correlation).tolist() == [0]
        assert map_similarity(other, constant, correlation).tolist() == [0]
    assert pearson(constant, constant).tolist() == [0]
    assert is_constant(torch.cat([constant + 1e-8, other])).tolist() == [True, False]


def test_rounding_noise_does_not_order_a_plateau():
    mask = torch.zeros(1, 20, 20)
    mask[:, 5:9, 5:9] = torch.rand(4, 4) / 2 + 0.5
    noisy = (mask + 1e-7 * torch.randn_like(mask)).clamp(min=0)
    for correlation in ("pearson", "spearman"):
        assert map_similarity(mask, noisy, correlation).item() == pytest.approx(100, abs=1e-4)


def test_ranks_are_continuous():
    first, second = torch.rand(3, 32, 32), torch.rand(3, 32, 32)
    moved = first + 1e-6 * torch.randn_like(first)
    torch.testing.assert_close(spearman(moved, second), spearman(first, second), atol=1e-6, rtol=0)
    exact = [_exact_spearman(a, b) for a, b in zip(first, second, strict=True)]
    assert spearman(first, second).tolist() == pytest.approx(exact, abs=1e-4)


def _exact_spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    ranks = torch.stack([mask.flatten().argsort().argsort() for mask in (first, second)])
    return torch.corrcoef(ranks.double())[0, 1].item()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.floats(0.4, 2.5))
def test_properties(seed, power):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, 20, (2, 5, 6), generator=generator) / 19
    second = torch.randint(0, 20, (2, 5, 6), generator=generator) / 19
    for function in (pearson, spearman):
        forth, back = function(first, second), function(second, first)
        torch.testing.assert_close(forth, back)
        torch.testing.assert_close(function(first, 1 - second), -forth, atol=1e-6, rtol=0)
        assert (forth.abs() <= 1).all()
    # Shifted off 0, where a power brings values together.
    shifted = (1 + first) ** power
    torch.testing.assert_close(
        spearman(shifted, second), spearman(first, second), atol=1e-5, rtol=0
    )


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="same shape"):
        pearson(torch.rand(1, 2, 2), torch.rand(1, 2, 3))
    with pytest.raises(InputError, match="same shape"):
        spearman(torch.rand(2, 2), torch.rand(2, 2))
    with pytest.raises(UnknownNameError, match="spearman"):
        map_similarity(torch.rand(1, 2, 2), torch.rand(1, 2, 2), "spearmen")
