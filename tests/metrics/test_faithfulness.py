from __future__ import annotations

import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from ttame.metrics.confidence import average_drop
from ttame.metrics.faithfulness import (
    CONFIDENCE_METRICS,
    AverageDrop,
    AverageGain,
    MaskArea,
    mask_area,
)


@pytest.mark.parametrize("batch", [1, 3, 8, 10])
def test_the_mean_does_not_depend_on_the_batch_size(batch):
    p, o = torch.rand(10), torch.rand(10)
    metric = AverageDrop()
    for start in range(0, 10, batch):
        metric.update(p[start : start + batch], o[start : start + batch])
    expected = average_drop(p, o).double()
    torch.testing.assert_close(metric.per_image(), expected)
    torch.testing.assert_close(metric.compute(), expected.mean())


@pytest.mark.parametrize("name", CONFIDENCE_METRICS)
def test_merged_states_equal_one_metric(name):
    p, o = torch.rand(7), torch.rand(7)
    whole, left, right = (CONFIDENCE_METRICS[name]() for _ in range(3))
    whole.update(p, o)
    left.update(p[:5], o[:5])
    right.update(p[5:], o[5:])
    left.merge_state(right)
    torch.testing.assert_close(left.compute(), whole.compute())
    assert sorted(left.per_image().tolist()) == sorted(whole.per_image().tolist())


def test_directions_reset_pickling_and_the_empty_metric():
    assert [metric.higher_is_better for metric in CONFIDENCE_METRICS.values()] == [
        False,
        True,
        True,
    ]
    metric = MaskArea()
    metric.update(torch.tensor([[[0.0, 0.5]], [[1.0, 1.0]]]))
    assert pickle.loads(pickle.dumps(metric)).compute().item() == pytest.approx(0.625)
    metric.reset()
    assert metric.per_image().shape == (0,)


def test_mask_area_by_hand():
    assert mask_area(torch.tensor([[[0.0, 0.25], [0.75, 1.0]]])).tolist() == [0.5]


def test_a_collection_keeps_metrics_apart_that_agree_on_the_first_batch():
    collection = MetricCollection([AverageDrop(), AverageGain()])
    same = torch.tensor([0.5, 0.25])
    collection.update(same, same)  # nothing drops, nothing is gained
    collection.update(torch.tensor([0.8]), torch.tensor([0.2]))
    found = {name: value.item() for name, value in collection.compute().items()}
    assert found == pytest.approx({"AverageDrop": 25, "AverageGain": 0})
