from __future__ import annotations

import pytest
import torch

from ttame.errors import InputError
from ttame.metrics.confidence import average_drop, average_gain, increase_in_confidence

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
