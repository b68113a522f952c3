"""The CAM family against the package called directly on the classifier."""

from __future__ import annotations

import copy
import importlib
from functools import partial

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame.masking import minmax
from ttame.methods.cam_layer import gradient_layer
from ttame.methods.registry import get_method

package = pytest.importorskip("pytorch_grad_cam")

CLASSES = {
    "gradcam": "GradCAM",
    "gradcampp": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
}
CHOSEN = torch.tensor([[0, 4], [1, 2], [3, 3]])


def directly(cam, backbone, layer, images, column):
    """What the package says without our tap, resized by it to the images' size."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(backbone.module).requires_grad_()
    targets = [ClassifierOutputTarget(index) for index in column.tolist()]
    with cam(model, [model[int(layer)]]) as explainer:
        return torch.from_numpy(explainer(images.clone(), targets))


@pytest.mark.parametrize("layer", ["1", "2"])
@pytest.mark.parametrize("name", CLASSES)
def test_equals_the_package_called_directly(name, layer, monkeypatch):
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    # The package's Eigen-CAM leaves the sign open; another of its functions has our rule.
    monkeypatch.setattr(
        "pytorch_grad_cam.eigen_cam.get_2d_projection", get_2d_projection_with_sign_correction
    )

    backbone = tiny_backbone((24, 40)).with_layers((layer,))
    images = torch.randn(3, 3, 24, 40)
    maps = get_method(name)(backbone, images, CHOSEN)
    cam = getattr(importlib.import_module("pytorch_grad_cam"), CLASSES[name])
    for place in range(2):
        expected = directly(cam, backbone, layer, images, CHOSEN[:, place])
        ours = scale_cam_image(scale_cam_image(maps[:, place].numpy(), (40, 24)))
        torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=0, atol=1e-4)
        assert expected.std(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("layer", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "theirs"), [("scorecam", "ScoreCAM"), ("ablationcam", "AblationCAM")]
)
def test_methods_that_mask_equal_the_package(name, theirs, layer, monkeypatch):
    from pytorch_grad_cam.utils.image import scale_cam_image

    # The package resizes Score-CAM's masks with aligned corners, as nothing else of it does, and
    # divides Ablation-CAM by the logit, whose sign is right for positive ones.
    resized = partial(torch.nn.Upsample, mode="bilinear", align_corners=False)
    monkeypatch.setattr("torch.nn.UpsamplingBilinear2d", resized)
    backbone = tiny_backbone((24, 40)).with_layers((layer,))
    backbone.module[-1].bias.data += 20
    images = torch.randn(3, 3, 24, 40)
    maps = get_method(name)(backbone, images, CHOSEN)
    for place in range(2):
        expected = directly(getattr(package, theirs), backbone, layer, images, CHOSEN[:, place])
        ours = scale_cam_image(scale_cam_image(maps[:, place].numpy(), (40, 24)))
        torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=0, atol=1e-4)
        assert expected.std(dim=(1, 2)).min() > 0


@pytest.mark.parametrize(
    ("name", "theirs"), [("gradcam", "GradCAM"), ("xgradcam", "XGradCAM"), ("layercam", "LayerCAM")]
)
def test_equals_torchcam(name, theirs):
    methods = pytest.importorskip("torchcam.methods")
    backbone = tiny_backbone((24, 40)).with_layers(("1",))
    images = torch.randn(3, 3, 24, 40)
    maps = get_method(name)(backbone, images, CHOSEN)
    model = copy.deepcopy(backbone.module).requires_grad_()
    for place in range(2):
        with getattr(methods, theirs)(model, "1") as extractor:
            (expected,) = extractor(CHOSEN[:, place].tolist(), model(images))
        torch.testing.assert_close(minmax(maps[:, place]), expected, rtol=0, atol=1e-4)
        assert expected.std(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "layercam", "gradcampp", "xgradcam"])
def test_equals_the_formula(name):
    backbone = tiny_backbone().with_layers(("1",))
    images = torch.randn(2, 3, 32, 32)
    maps = get_method(name)(backbone, images, torch.tensor([[1], [4]]))[:, 0]
    feature = backbone.module[:2](images).detach().requires_grad_()
    logits = backbone.module[2:](feature)
    (gradient,) = torch.autograd.grad(logits[0, 1] + logits[1, 4], feature)
    feature = feature.detach()
    total = feature.sum(dim=(2, 3), keepdim=True)
    alpha = gradient**2 / (2 * gradient**2 + total * gradient**3 + 1e-6)
    weights = {
        "gradcam": gradient.mean(dim=(2, 3), keepdim=True),
        "hirescam": gradient,
        "layercam": gradient.relu(),
        "gradcampp": (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True),
        "xgradcam": (gradient * feature).sum(dim=(2, 3), keepdim=True) / (total + 1e-7),
    }[name]
    expected = (weights * feature).sum(dim=1).relu()
    # Values as they are: how they become masks is up to the benchmark.
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(maps, minmax(maps), rtol=0, atol=1e-3)


def test_eigencam_is_the_first_principal_component_strongest_side_up():
    backbone = tiny_backbone()
    images = torch.randn(4, 3, 32, 32)
    maps = get_method("eigencam")(backbone, images, torch.tensor([[0, 3]] * 4))
    assert torch.equal(maps[:, 0], maps[:, 1])
    features = backbone(images).features[2].flatten(2).transpose(1, 2)
    for feature, ours in zip(features, maps[:, 0], strict=True):
        centred = (feature - feature.mean(dim=0)).double()
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        projection = centred @ vectors[:, -1]
        if -projection.min() > projection.max():
            projection = -projection
        expected = minmax(projection.relu().float().view(4, 4))
        torch.testing.assert_close(minmax(ours), expected, rtol=0, atol=1e-4)


def test_all_read_the_layer_that_the_results_name():
    backbone = tiny_backbone()
    assert gradient_layer(backbone) == "2"
    for name in (*CLASSES, "scorecam", "ablationcam"):
        assert get_method(name).details(backbone) == {"layer": "2"}
