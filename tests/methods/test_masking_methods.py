"""Score-CAM, Ablation-CAM, RISE and occlusion against slow references and captum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from references.slow_masking_methods import slow_ablationcam, slow_rise, slow_scorecam
from tiny_backbone import tiny_backbone
from tiny_families import FAMILIES
from ttame.backbone.module import ModuleBackbone
from ttame.errors import InputError
from ttame.images.preprocessing import Preprocessing
from ttame.methods.ablationcam import ablationcam, shares_the_way
from ttame.methods.cam_layer import gradient_layer
from ttame.methods.channels import strongest_channels
from ttame.methods.occlusion import occlusion, slots
from ttame.methods.rise import random_masks, rise
from ttame.methods.scorecam import scorecam
from ttame.methods.seeding import photo_seeds
from ttame.metrics.cost import count_passes

CLASSES = torch.tensor([[0, 4], [3, 2]])


@pytest.mark.parametrize("crop", [(32, 32), (24, 40)])
def test_scorecam_equals_the_slow_reference(crop):
    backbone = tiny_backbone(crop)
    images = torch.randn(2, 3, *crop)
    maps = scorecam(backbone, images, CLASSES, batch_size=5)
    for row, image in enumerate(images):
        for column, index in enumerate(CLASSES[row].tolist()):
            expected = slow_scorecam(backbone.module, 2, image[None], index)
            torch.testing.assert_close(maps[row, column], expected, rtol=1e-4, atol=1e-5)


def test_scorecam_of_some_channels_is_that_of_a_map_without_the_others():
    backbone = tiny_backbone()
    image = torch.randn(1, 3, 32, 32)
    feature = backbone(image).features[2][0]
    best = int(feature.mean(dim=(1, 2)).argmax())
    maps = scorecam(backbone, image, torch.tensor([[1]]), channels=1)
    torch.testing.assert_close(maps[0, 0], feature[best].relu())
    for method in (scorecam, ablationcam):
        every = method(backbone, image, torch.tensor([[1]]))
        assert torch.equal(method(backbone, image, torch.tensor([[1]]), channels=99), every)
        with pytest.raises(InputError, match="positive number of channels"):
            method(backbone, image, torch.tensor([[1]]), channels=0)


def test_strongest_channels_survive_ties():
    feature = torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0]).view(5, 1, 1).expand(-1, 2, 3)
    assert strongest_channels(feature, 2).tolist() == [1, 2]
    assert strongest_channels(feature, None).tolist() == [0, 1, 2, 3, 4]


def _planes(family, grid):
    """Views of a layer's output, one per channel, in the family's order of axes."""
    return {
        "cnn": lambda out: list(out[0]),
        "vit": lambda out: [c.unflatten(0, grid) for c in out[0, 1:].unbind(1)],
        "swin": lambda out: list(out[0].unbind(2)),
    }[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_ablationcam_equals_the_slow_reference(family):
    backbone = FAMILIES[family]()
    images = torch.randn(2, 3, *backbone.preprocessing.crop)
    layer = gradient_layer(backbone)
    assert shares_the_way(backbone, layer)
    maps = ablationcam(backbone, images, CLASSES, batch_size=5)
    planes = _planes(family, tuple(maps.shape[2:]))
    for row, image in enumerate(images):
        for column, index in enumerate(CLASSES[row].tolist()):
            expected = slow_ablationcam(backbone.module, layer, image[None], index, planes)
            assert expected.std() > 0
            torch.testing.assert_close(maps[row, column], expected, rtol=1e-4, atol=1e-4)


class _CountsImages(nn.Module):
    """A classifier that relies on the number of images behind its feature map."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, stride=4)
        self.linear = nn.Linear(6, 4)

    def forward(self, images):
        feature = self.convolution(images)
        return self.linear(feature.view(len(images), 6, -1).mean(dim=2))


def test_ablationcam_makes_whole_passes_where_copies_cannot_follow_one_image():
    backbone = ModuleBackbone(_CountsImages(), Preprocessing(crop=(32, 32), resize=None))
    image = torch.randn(1, 3, 32, 32)
    assert not shares_the_way(backbone, gradient_layer(backbone))
    with count_passes(backbone) as passes:
        maps = ablationcam(backbone, image, torch.tensor([[2]]), batch_size=4)
    assert passes.forward == 1 + 6
    planes = _planes("cnn", (8, 8))
    expected = slow_ablationcam(backbone.module, "convolution", image, 2, planes)
    torch.testing.assert_close(maps[0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crop", [(32, 32), (24, 40)])
def test_rise_equals_the_slow_reference(crop):
    backbone = tiny_backbone(crop)
    photos = torch.randint(0, 256, (2, 3, *crop)) / 255
    images = backbone.preprocessing.normalise(photos)
    maps = rise(backbone, images, CLASSES, masks=13, cells=5, keep=0.4, batch_size=4)
    seeds = photo_seeds(backbone, images)
    for row, photo in enumerate(photos):
        for column, index in enumerate(CLASSES[row].tolist()):
            expected = slow_rise(
                backbone.module, photo, backbone.preprocessing.normalise, index, seeds[row],
                masks=13, cells=5, keep=0.4,
            )  # fmt: skip
            torch.testing.assert_close(maps[row, column], expected, rtol=1e-4, atol=1e-5)


def test_rise_of_a_classifier_that_sees_one_place_points_at_it():
    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(8)
            self.scale = nn.Parameter(torch.tensor(4.0))

        def forward(self, images):
            seen = (self.pool(images)[:, 0, 0, 0] - 0.5) * self.scale
            return torch.stack([seen, -seen], dim=1)

    preprocessing = Preprocessing(crop=(32, 32), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    backbone = ModuleBackbone(Corner(), preprocessing)
    (saliency,) = rise(backbone, torch.ones(1, 3, 32, 32), torch.tensor([[0]]), masks=1000)[0]
    assert saliency[:8, :8].mean() > 1.1 * saliency.mean()
    assert saliency[:8, :8].min() > saliency[16:, 16:].max()


def test_random_masks_keep_their_share_and_differ():
    masks = torch.cat(list(random_masks(5, 300, 7, 0.3, (20, 33), 64)))
    assert masks.shape == (300, 20, 33)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert abs(float(masks.mean()) - 0.3) < 0.02
    assert (masks.mean(dim=0) - 0.3).abs().max() < 0.12
    assert len(torch.unique(masks.flatten(1), dim=0)) == 300
    again = torch.cat(list(random_masks(5, 300, 7, 0.3, (20, 33), 300)))
    torch.testing.assert_close(again, masks)
    assert not torch.equal(next(random_masks(6, 9, 7, 0.3, (20, 33), 9)), masks[:9])


def test_rise_and_occlusion_share_their_passes_between_classes():
    backbone = tiny_backbone()
    images, classes = torch.rand(2, 3, 32, 32), torch.tensor([[0, 1, 2]] * 2)
    with count_passes(backbone) as passes:
        rise(backbone, images, classes, masks=21)
    assert (passes.forward, passes.backward) == (2 * 21, 0)
    with count_passes(backbone) as passes:
        occlusion(backbone, images, classes, window=0.5, stride=0.5)
    assert (passes.forward, passes.backward) == (2 * (1 + 4), 0)


@pytest.mark.parametrize("options", [{"masks": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.0}])
def test_rise_refuses_masks_that_cannot_be(options):
    with pytest.raises(InputError, match="share to keep"):
        rise(tiny_backbone(), torch.zeros(1, 3, 32, 32), torch.zeros(1, 1).long(), **options)


@pytest.mark.parametrize("fill", ["mean", "black"])
@pytest.mark.parametrize(
    ("crop", "window", "stride"), [((32, 32), 1 / 7, 1 / 14), ((24, 40), 0.3, 0.2)]
)
def test_occlusion_equals_captum(crop, window, stride, fill):
    captum = pytest.importorskip("captum.attr")
    backbone = tiny_backbone(crop)
    images = torch.randn(2, 3, *crop)
    maps = occlusion(backbone, images, CLASSES, window, stride, fill)
    explainer = captum.Occlusion(lambda images: backbone.logits(images).softmax(dim=1))
    sides = [(3, *(round(side * share) for side in crop)) for share in (window, stride)]
    for column in range(2):
        expected = explainer.attribute(
            images,
            sliding_window_shapes=sides[0],
            strides=sides[1],
            baselines=-2.0 if fill == "black" else 0.0,
            target=CLASSES[:, column],
        )
        torch.testing.assert_close(maps[:, column], expected[:, 0], rtol=0, atol=1e-6)
    assert maps.min() < 0 < maps.max()


def test_occlusion_covers_every_pixel():
    for side, window, stride in [(7, 0.5, 0.5), (32, 1 / 7, 1 / 14), (3, 0.1, 0.1), (5, 1.0, 0.3)]:
        assert slots(side, window, stride).sum(dim=0).min() >= 1
    assert len(slots(224, 1 / 7, 1 / 14)) ** 2 == 169
    images = torch.zeros(1, 3, 32, 32)
    for window, stride in [(0.1, 0.2), (1.5, 0.1), (0.5, 0.0)]:
        with pytest.raises(InputError, match="every pixel is covered"):
            occlusion(tiny_backbone(), images, torch.zeros(1, 1).long(), window, stride)


@pytest.mark.parametrize("method", [scorecam, ablationcam, rise, occlusion])
def test_a_batch_size_of_zero_is_refused(method):
    with pytest.raises(InputError, match="batch_size"):
        method(tiny_backbone(), torch.zeros(1, 3, 32, 32), torch.zeros(1, 1).long(), batch_size=0)
