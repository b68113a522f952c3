from __future__ import annotations

import pytest

from ttame.benchmarking.choosing import choose_measures, choose_methods, left_out


def told(boxes=False, judge=False, regions=False, explainers=("ttame",), measures="all", **given):
    taken = choose_measures(measures, boxes, judge, regions)
    methods = choose_methods(given.get("methods", "all"), explainers)
    return left_out(taken, methods, explainers, boxes, judge, regions)


def test_a_run_of_everything_names_what_it_lacks():
    found = told()
    assert found == {
        "localisation": "needs marked objects; give a file of boxes (--boxes)",
        "segmentation": "needs segmentation masks; give a file of them (--regions)",
        "transfer": "needs another classifier as judge (--judge)",
        "lcam_img": "needs an explainer (--also lcam_img=FOLDER)",
    }
    assert set(told(boxes=True, judge=True, regions=True)) == {"lcam_img"}
    assert told(True, True, True, explainers=("ttame", "lcam_img")) == {}
    assert "ttame" in told(explainers=("other",))


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ({"measures": ["confidence"]}, {"lcam_img"}),
        ({"methods": ["random"]}, {"localisation", "segmentation", "transfer"}),
        ({"measures": ["confidence"], "methods": ["random"]}, set()),
    ],
)
def test_what_was_not_asked_for_is_not_missed(given, lacking):
    assert set(told(**given)) == lacking
