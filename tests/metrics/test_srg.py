import pytest
import torch

from references.slow_srg import slow_srg
from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.measure import get_measure
from ttame.metrics.srg import cell_means, cell_numbers, grid_of, srg


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
@pytest.mark.parametrize("steps", [5, 100])
@pytest.mark.parametrize(("fill", "colour"), [("photo_mean", None), ("black", torch.zeros(3))])
def test_equals_the_slow_reference(size, steps, fill, colour):
    case = make_case(images=3, size=size, masks=torch.rand(3, *size))
    scores = srg(case, steps, cell=8, fill=fill)
    for image in range(3):
        expected = slow_srg(
            case.backbone,
            case.pixels[image],
            case.masks[image],
            int(case.classes[image]),
            8,
            steps,
            colour,
        )
        assert scores.values["srg"][image].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("levels", [3, 64])
def test_the_negated_map_has_the_negated_score_also_with_ties(levels):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, levels + 1, (4, 4, 4), generator=generator) / levels
    masks = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    one = srg(make_case(images=4, masks=masks), cell=8).values["srg"]
    other = srg(make_case(images=4, masks=1 - masks), cell=8).values["srg"]
    assert one.abs().min() > 1e-3
    torch.testing.assert_close(one, -other, atol=1e-6, rtol=0)


def test_a_constant_map_scores_exactly_zero():
    masks = torch.full((2, 33, 50), 0.3)
    case = make_case(images=2, size=(33, 50), masks=masks)
    torch.testing.assert_close(
        srg(case, cell=5).values["srg"], torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_random_maps_have_the_expectation_zero():
    case = make_case(images=1)
    values = []
    for seed in range(60):
        masks = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(seed))
        scored = make_case(images=1, masks=masks, batch_size=64)
        values.append(srg(scored, cell=8).values["srg"].item())
    values = torch.tensor(values)
    span = case.logits(case.pixels)[0].abs().max().item()
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert 0 < values.std() < span


def test_a_map_of_the_important_cells_scores_higher_than_its_opposite():
    case = make_case(images=1, size=(32, 32))
    numbers = cell_numbers((32, 32), (4, 4))
    full = case.logits(case.pixels)[0, case.classes[0]]
    drops = torch.zeros(16)
    for cell in range(16):
        mean = case.pixels.mean(dim=(2, 3), keepdim=True)
        occluded = torch.where(numbers == cell, mean, case.pixels)
        drops[cell] = full - case.logits(occluded)[0, case.classes[0]]
    drops = (drops - drops.min()) / (drops.max() - drops.min())
    scored = make_case(images=1, masks=drops[numbers][None])
    assert srg(scored, cell=8).values["srg"].item() > 0.01


def test_cells_fill_any_image():
    assert grid_of((224, 224), 16) == (14, 14)
    assert grid_of((8, 100), 16) == (1, 6)
    for size in ((33, 50), (7, 3), (224, 160)):
        grid = grid_of(size, 16)
        numbers = cell_numbers(size, grid)
        assert numbers.unique().tolist() == list(range(grid[0] * grid[1]))
    masks = torch.rand(2, 5, 7)
    numbers = cell_numbers((5, 7), (2, 3))
    means = cell_means(masks, numbers)
    assert means[1, 4].item() == pytest.approx(masks[1][numbers == 4].double().mean().item())
    with pytest.raises(InputError, match="at least 1 pixel"):
        srg(make_case(images=1), cell=0)


def test_nothing_depends_on_the_batch():
    whole = srg(make_case(images=5), cell=8).values["srg"]
    for part in (slice(0, 1), slice(1, 4), slice(3, 5)):
        again = srg(make_case(images=5, only=part, batch_size=4), cell=8).values["srg"]
        torch.testing.assert_close(again, whole[part], atol=1e-5, rtol=0)


def test_what_is_declared_is_given():
    measure = get_measure("srg", steps=3)
    scores = measure(make_case(images=1))
    assert set(scores.values) == set(measure.metrics(measure.options))
    assert scores.curves["srg_least_first"].shape == (1, 4)
    assert measure.passes(measure.options) == 6
    assert measure.slow
    assert get_measure("srg").options["steps"] == 100
    one_cell = srg(make_case(images=1), cell=64)
    assert one_cell.values["srg"].item() == 0
