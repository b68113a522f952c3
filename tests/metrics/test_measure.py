import pickle
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import InputError, UnknownNameError
from ttame.metrics.measure import Metric, Scores, get_measure, measures, register


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


def test_a_changed_option_is_sent_along():
    measure = get_measure("confidence", rule="exact")
    assert pickle.loads(pickle.dumps(measure)) == measure
    assert deepcopy(measure) == measure
    several = replace(measure, options={"shares": torch.ones(3)})
    assert torch.equal(deepcopy(several).options["shares"], torch.ones(3))
