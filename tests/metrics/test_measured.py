from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from torchmetrics import MetricCollection

from tiny_cases import make_case
from ttame.errors import UnknownNameError
from ttame.metrics.case import Truth
from ttame.metrics.cost import count_passes
from ttame.metrics.measure import get_measure, measures
from ttame.metrics.measured import Measured

SIZES = (3, 1, 2)


def regions(*shown: bool) -> tuple[Truth, ...]:
    """Return where the class is: the left half of the photo, or nobody marked it."""
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[:, :16] = True
    return tuple(Truth(torch.zeros(0, 4), region if one else None) for one in shown)


def ragged():
    """Return cases of three sizes, of whose photos the second and the last have no region."""
    marked = (True, False, True, True, True, False)
    ends = [sum(SIZES[: i + 1]) for i in range(len(SIZES))]
    return [
        make_case(images=size, seed=end, truth=regions(*marked[end - size : end]))
        for size, end in zip(SIZES, ends, strict=True)
    ]


def same(found, expected):
    """Hold two results equal to the bit, NaN where NaN is."""
    torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)


def test_the_running_mean_does_not_depend_on_the_batches():
    whole = Measured("confidence", "ad_50")
    whole.update(make_case(images=5))
    parts = Measured("confidence", "ad_50")
    for start, stop in ((0, 2), (2, 5)):
        parts.update(make_case(images=5, only=slice(start, stop)))
    torch.testing.assert_close(parts.per_image(), whole.per_image(), atol=1e-4, rtol=0)
    assert whole.compute() == whole.per_image().mean()
    assert whole.higher_is_better is False
    assert torch.isnan(Measured("confidence", "ad_50").compute())


def test_an_unknown_metric_is_refused():
    with pytest.raises(UnknownNameError, match="ad_50"):
        Measured("confidence", "ad_55")


@pytest.mark.parametrize("name", measures())
def test_a_running_metric_of_any_measure_can_be_sent_to_another_process(name: str):
    measure = replace(get_measure(name), slow=True)
    followed = next(iter(measure.metrics(measure.options)))
    metric = Measured(measure, followed)
    metric._keep(torch.tensor([1.0, 4.0]), f"values_{followed}")
    sent = pickle.loads(pickle.dumps(metric))
    assert sent.compute().item() == 2.5
    assert sent.measure == measure
    assert sent.higher_is_better == metric.higher_is_better


@pytest.mark.parametrize("name", ["confidence", "road", "segmentation"])
def test_all_metrics_of_a_measure_at_once_equal_each_alone_to_the_bit(name: str):
    together, cases = Measured(name), ragged()
    alone = {metric: Measured(name, metric) for metric in together.metrics}
    assert list(alone) == list(get_measure(name).metrics(get_measure(name).options))
    for metric in (together, *alone.values()):
        for case in cases:
            metric.update(case)
    same(together.per_image(), {key: metric.per_image() for key, metric in alone.items()})
    same(together.compute(), {key: metric.compute() for key, metric in alone.items()})
    assert {len(values) for values in together.per_image().values()} == {sum(SIZES)}


def test_photos_without_a_value_do_not_count():
    together = Measured("segmentation")
    same(together.compute()["iou"], torch.tensor(torch.nan).double())
    assert together.per_image()["iou"].shape == (0,)
    for case in ragged():
        together.update(case)
    values = together.per_image()["iou"]
    assert values.isnan().tolist() == [False, True, False, False, False, True]
    same(together.compute()["iou"], values[~values.isnan()].mean())


def test_all_metrics_cost_the_passes_of_one():
    measure, case = get_measure("confidence"), make_case(images=3)
    spent = []
    for metric in (Measured(measure), Measured(measure, "ad_50")):
        with count_passes(case.backbone) as passes:
            metric.update(case)
            metric.compute()
            metric.per_image()
        spent.append(passes.forward)
    assert spent == [3 * measure.passes(measure.options)] * 2


def test_merged_states_give_the_values_of_one():
    whole, left, right = (Measured("segmentation") for _ in range(3))
    cases = ragged()
    for case, part in zip(cases, (right, right, left), strict=True):
        whole.update(case)
        part.update(case)
    left.merge_state(right)  # what is merged in comes first
    same(left.per_image(), whole.per_image())
    same(left.compute(), whole.compute())


def test_forward_gives_the_batch_and_reset_forgets():
    together, cases = Measured("segmentation"), ragged()
    for case in cases:
        batch = Measured("segmentation")
        batch.update(case)
        same(together(case), batch.compute())
    assert together.per_image()["iou"].shape == (sum(SIZES),)
    together.reset()
    assert together.per_image()["iou"].shape == (0,)
    same(together(cases[0]), together.compute())


def test_a_collection_takes_several_measures_and_single_metrics_beside():
    def fresh():
        return {
            "kept": Measured("confidence"),
            "overlap": Measured("segmentation"),
            "one": Measured("confidence", "ad_50"),
        }

    collection, alone = MetricCollection(fresh()), fresh()
    for case in ragged():
        collection.update(case)
        for metric in alone.values():
            metric.update(case)
    expected = {
        **alone["kept"].compute(),
        **alone["overlap"].compute(),
        "one": alone["one"].compute(),
    }
    same(collection.compute(), expected)
    assert len(collection.compute_groups) == 3


def test_a_collection_keeps_single_metrics_apart_that_agree_on_the_first_batch():
    collection = MetricCollection(
        {name: Measured("segmentation", name) for name in ("mass_in_mask", "iou")}
    )
    nowhere = make_case(images=1, truth=regions(False))
    for case in (nowhere, *ragged()):
        collection.update(case)
    alone = Measured("segmentation")
    for case in (nowhere, *ragged()):
        alone.update(case)
    same(collection.compute(), alone.compute())
    assert len(collection.compute_groups) == 2


def test_all_metrics_can_be_sent_to_another_process_and_stored():
    together = Measured("segmentation")
    assert not together.state_dict()
    together.update(ragged()[0])
    same(pickle.loads(pickle.dumps(together)).compute(), together.compute())
    together.persistent(True)
    loaded = Measured("segmentation")
    loaded.persistent(True)
    loaded.load_state_dict(together.state_dict())
    same(loaded.per_image(), together.per_image())


def test_which_end_is_better_is_said_of_each_metric():
    together, alone = Measured("confidence"), Measured("confidence", "ad_50")
    assert together.higher_is_better is None
    assert together.metrics["ad_50"].higher_is_better is False
    assert together.metrics["ic_50"].higher_is_better is True
    assert list(alone.metrics) == ["ad_50"]
