from __future__ import annotations

import pytest
import torch

from tiny_cases import make_case, seeded_map
from ttame.errors import InputError
from ttame.metrics.measure import get_measure
from ttame.metrics.similarity import pearson
from ttame.metrics.stability import noisy, runner_up


def constant_method(backbone, images, classes):
    return torch.ones(*classes.shape, 4, 4)


def noise_method(backbone, images, classes):
    return torch.stack([torch.rand(classes.shape[1], 4, 4) for _ in images])


def test_noise_has_its_deviation_and_belongs_to_the_image():
    pixels = torch.full((3, 3, 40, 40), 0.5)
    versions = noisy(pixels, 0.05, 2, [1, 2, 1])
    assert versions.shape == (2, 3, 3, 40, 40)
    assert (versions - pixels).std().item() == pytest.approx(0.05, rel=0.05)
    assert torch.equal(versions[:, 0], versions[:, 2])
    assert not torch.equal(versions[:, 0], versions[:, 1])
    assert not torch.equal(versions[0], versions[1])
    assert torch.equal(versions[:, 1:2], noisy(pixels[1:2], 0.05, 2, [2]))
    dark = noisy(torch.zeros(1, 3, 8, 8), 0.5, 1, [0])
    assert dark.min() == 0
    assert dark.max() <= 1


def test_without_noise_a_map_is_itself():
    values = get_measure("sensitivity", std=0.0)(make_case()).values["noise_similarity"]
    assert values.tolist() == pytest.approx([100] * 4)


def test_more_noise_moves_the_map_more_and_unstable_methods_show():
    case = make_case(images=6)
    some, much = (
        get_measure("sensitivity", std=std)(case).values["noise_similarity"].mean()
        for std in (0.02, 0.5)
    )
    assert 90 < some < 100
    assert much < some
    unstable = make_case(images=6, explain=noise_method)
    assert get_measure("sensitivity")(unstable).values["noise_similarity"].mean() < 60


def test_the_runner_up_is_never_the_own_class():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    assert runner_up(logits, torch.tensor([0, 2, 0])).tolist() == [1, 0, 1]


def test_class_swap_compares_with_the_second_class():
    case = make_case(images=3)
    with torch.no_grad():
        second = case.backbone.logits(case.images).topk(2).indices[:, 1]
    expected = 100 * pearson(case.masks, case.masks_of(case.pixels, second))
    found = get_measure("class_swap")(case).values["class_swap_similarity"]
    torch.testing.assert_close(found, expected)


def test_constant_maps_win_nothing():
    case = make_case(images=2, explain=constant_method)
    assert get_measure("sensitivity")(case).values["noise_similarity"].tolist() == [0, 0]
    assert get_measure("class_swap")(case).values["class_swap_similarity"].tolist() == [100, 100]


def test_gradient_methods_work_inside_inference_mode():
    def gradients(backbone, images, classes):
        with torch.inference_mode(False), torch.enable_grad():
            images = images.requires_grad_()
            logits = backbone.logits(images).gather(1, classes)
            return torch.autograd.grad(logits.sum(), images)[0].abs().sum(dim=1, keepdim=True)

    case = make_case(images=2, explain=gradients, maps=seeded_maps(2))
    with torch.inference_mode():
        found = get_measure("class_swap")(case).values["class_swap_similarity"]
    assert torch.isfinite(found).all()


def seeded_maps(images):
    return seeded_map(None, torch.rand(images, 3, 8, 8), torch.zeros(images, 1).long())[:, 0]


@pytest.mark.parametrize("options", [{"std": -0.1}, {"draws": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError, match="std >= 0"):
        get_measure("sensitivity", **options)(make_case(images=1))
