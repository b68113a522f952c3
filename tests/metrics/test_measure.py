import pickle
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import InputError, UnknownNameError
from ttame.metrics.measure import Metric, Scores, get_measure, measures, register
from ttame.metrics.measured import Measured


def test_every_measure_gives_exactly_the_metrics_it_declares():
    case = make_case(images=3)
    measure = get_measure("confidence", shares=(1.0, 0.25))
    scores = measure(case)
    declared = measure.metrics(measure.options)
    assert set(scores.values) == set(declared)
    assert all(values.shape == (3,) for values in scores.values.values())
    assert declared["ad_25_matched"].higher_is_better is False


def test_names_and_options_are_checked():
    with pytest.raises(UnknownNameError, match="confidence"):
        get_measure("confidance")
    with pytest.raises(UnknownNameError, match="shares"):
        get_measure("confidence", share=(1.0,))
    with pytest.raises(InputError, match="exists already"):

        @register(name="confidence", title="", metrics={"x": Metric("x", None)})
        def other(case):
            return Scores({})

    with pytest.raises(UnknownNameError):
        register(name="new", title="", metrics={}, needs=("magic",))
    assert "new" not in measures()


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
    metric = Measured(measure, next(iter(measure.metrics(measure.options))))
    metric._keep(torch.tensor([1.0, 4.0]))
    sent = pickle.loads(pickle.dumps(metric))
    assert sent.compute().item() == 2.5
    assert sent.measure == measure
    assert sent.higher_is_better == metric.higher_is_better


def test_a_changed_option_is_sent_along():
    measure = get_measure("confidence", rule="exact")
    assert pickle.loads(pickle.dumps(measure)) == measure
    assert deepcopy(measure) == measure
    several = replace(measure, options={"shares": torch.ones(3)})
    assert torch.equal(deepcopy(several).options["shares"], torch.ones(3))
