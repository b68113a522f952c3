"""No measure lets an image's values depend on the images beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiny_backbone import tiny_backbone
from tiny_cases import make_case
from ttame.benchmarking.float32 import whole_float32
from ttame.explainer import new_explainer
from ttame.methods.ttame import ttame_method
from ttame.metrics.case import Truth
from ttame.metrics.measure import get_measure, measures

IMAGES = 5
# In percent. Measures that rank pixels may swap two of nearly equal value, which the rounding noise
# of another batch size orders otherwise: one of 1024 pixels here, fifty times as many in real use.
TOLERANCE = 1e-3


SIZES = ((32, 32), (32, 48))


def truth(size):
    regions = torch.rand(IMAGES, *size, generator=torch.Generator().manual_seed(3)) > 0.7
    box = torch.tensor([[4.0, 4.0, 20.0, 28.0]])
    return tuple(Truth(box, region) for region in regions)


@pytest.fixture(scope="module")
def explained():
    torch.manual_seed(0)
    backbone = tiny_backbone()
    return backbone, ttame_method(new_explainer(backbone)), tiny_backbone(seed=1)


def assert_alike(found, expected, atol, equal_nan=False):
    for one, other in ((found.values, expected.values), (found.curves, expected.curves)):
        assert set(one) == set(other)
        for name, values in other.items():
            torch.testing.assert_close(
                one[name].cpu(), values, atol=atol, rtol=0, equal_nan=equal_nan, msg=name
            )


def case_of(explained, only=slice(None), size=SIZES[0], **values):
    backbone, method, judge = explained
    return make_case(
        images=IMAGES,
        size=size,
        only=only,
        backbone=backbone,
        explain=method,
        to_masks=method.to_masks,
        judge=judge,
        truth=truth(size)[only],
        **values,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", measures())
def test_values_do_not_depend_on_the_batch(name, size, explained):
    measure = get_measure(name)
    whole = measure(case_of(explained, size=size))
    assert set(whole.values) == set(measure.metrics(measure.options))
    parts = [
        measure(case_of(explained, slice(*ends), size, batch_size=batch_size))
        for ends, batch_size in (((0, 3), 2), ((3, 4), 32), ((4, 5), 1))
    ]
    for metric, values in whole.values.items():
        joined = torch.cat([part.values[metric] for part in parts])
        assert values.shape == (IMAGES,)
        torch.testing.assert_close(joined, values, atol=TOLERANCE, rtol=0, equal_nan=True)
    for curve, values in whole.curves.items():
        joined = torch.cat([part.curves[curve] for part in parts])
        torch.testing.assert_close(joined, values, atol=TOLERANCE, rtol=0, equal_nan=True)


def test_how_many_photos_are_filled_at_once_does_not_matter(explained, monkeypatch):
    measure, case = get_measure("road"), case_of(explained)
    expected = measure(case)
    for held in (1, 3 * IMAGES + 1, 1000):
        monkeypatch.setattr("ttame.metrics.road.filled_at_once", lambda *_, held=held: held)
        assert_alike(measure(case), expected, TOLERANCE)


@pytest.mark.parametrize("name", measures())
def test_on_a_gpu_the_values_stay_there_and_are_the_same(name, gpu):
    torch.manual_seed(0)
    explainer, judge = new_explainer(tiny_backbone()), tiny_backbone(seed=1)
    # Without noise: a GPU draws other numbers.
    measure = get_measure(name, **({"noise": 0.0} if name == "road" else {}))
    case = case_of((explainer.backbone, ttame_method(explainer), judge))
    expected = measure(case)
    with whole_float32():
        moved = ttame_method(explainer.to(gpu))
        tensors = {
            key: getattr(case, key).to(gpu) for key in ("pixels", "classes", "p", "maps", "masks")
        }
        marked = tuple(Truth(one.boxes.to(gpu), one.region.to(gpu)) for one in case.truth)
        found = measure(replace(case, **tensors, truth=marked, explain=moved, judge=judge.to(gpu)))
    assert {values.device.type for values in found.values.values()} == {"cuda"}
    assert_alike(found, expected, 0.05, equal_nan=True)


@pytest.mark.parametrize("name", measures())
def test_inputs_stay_as_they_are_and_values_repeat(name, explained):
    measure, case = get_measure(name), case_of(explained)
    before = [case.pixels.clone(), case.masks.clone(), case.maps.clone(), case.p.clone()]
    first, second = measure(case), measure(case)
    for metric, values in first.values.items():
        assert torch.equal(values.nan_to_num(), second.values[metric].nan_to_num())
    for then, now in zip(before, (case.pixels, case.masks, case.maps, case.p), strict=True):
        assert torch.equal(then, now)


@pytest.mark.parametrize("name", measures())
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map_does_not_crash(name, value, explained):
    measure, maps = get_measure(name), torch.full((IMAGES, 4, 4), value)
    scores = measure(case_of(explained, maps=maps)).values
    # What has no value has none for any map: images that nobody marked or the judge sees otherwise.
    for metric, values in measure(case_of(explained)).values.items():
        assert torch.equal(scores[metric].isnan(), values.isnan())
