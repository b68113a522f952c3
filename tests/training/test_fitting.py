import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer, resnet50
from torchvision.models.vgg import cfgs, make_layers

import ttame
from tiny_backbone import tiny_backbone, tiny_classifier
from tiny_transformers import transformer
from ttame.errors import BackboneError
from ttame.images.preprocessing import Preprocessing
from ttame.training import fitting
from ttame.training.config import contribution_values, load_preset
from ttame.training.fitting import fit_to_classifier

SMALL = Preprocessing(crop=(32, 32), resize=None, mean=(0.5,) * 3, std=(0.5,) * 3)


class Vgg16Features(nn.Module):
    """VGG-16's feature layers with a small classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])
        self.classifier = nn.Linear(512, 3)

    def forward(self, images):
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class Cosine(nn.Module):
    """A classifier's end that is no linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, width))

    def forward(self, features):
        return F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T


def small_vit() -> nn.Module:
    return VisionTransformer(
        image_size=224,
        patch_size=16,
        num_layers=12,
        num_heads=2,
        hidden_dim=768,
        mlp_dim=8,
        num_classes=3,
    )


@pytest.mark.parametrize(
    ("build", "layers", "shapes", "fill"),
    [
        (
            Vgg16Features,
            ("features.16", "features.23", "features.30"),
            ((256, 28, 28), (512, 14, 14), (512, 7, 7)),
            "black",
        ),
        (
            lambda: resnet50(num_classes=3),
            ("layer2", "layer3", "layer4"),
            ((512, 28, 28), (1024, 14, 14), (2048, 7, 7)),
            "black",
        ),
        (
            small_vit,
            tuple(f"encoder.layers.encoder_layer_{block}.ln_1" for block in (9, 10, 11)),
            ((768, 14, 14),) * 3,
            "mean",
        ),
    ],
    ids=["vgg16", "resnet50", "vit_b_16"],
)
def test_the_paper_preset_knows_the_papers_backbones(build, layers, shapes, fill):
    backbone, config = fit_to_classifier(build().eval(), "paper", {})
    assert backbone.layers == layers
    assert backbone.feature_shapes == shapes
    assert (config.fill, config.mask_form, config.head) == (fill, "sigmoid", "independent")


def test_what_the_caller_names_stays():
    module = resnet50(num_classes=3).eval()
    backbone, config = fit_to_classifier(
        module, "paper", {"fill": "blur", "epochs": 1}, layers=["layer3", "layer4"]
    )
    assert backbone.layers == ("layer3", "layer4")
    assert (config.fill, config.epochs, config.lr) == ("blur", 1, 1e-3)
    built = ttame.load_backbone(module, layers=["layer1", "layer4"])
    assert fit_to_classifier(built, "paper", {})[0].layers == ("layer1", "layer4")


def test_a_preset_says_when_it_does_not_know_the_backbone(caplog):
    backbone = tiny_backbone()
    with caplog.at_level(logging.WARNING):
        fitted, config = fit_to_classifier(backbone, "paper", {})
    assert fitted is backbone
    assert config.fill == "black"
    assert "knows no layers of tiny" in caplog.text
    assert "ViT-B-16" in caplog.text
    caplog.clear()
    fit_to_classifier(backbone, "fast", {})
    assert not caplog.records


def test_a_tied_head_needs_a_final_linear_layer(caplog):
    body = tiny_classifier()
    body[-1] = Cosine(16, 5)
    backbone = ttame.load_backbone(body.eval(), preprocessing=SMALL)
    _, config = fit_to_classifier(backbone, "fast", {})
    assert (config.head, config.start) == ("independent", "random")
    assert "no final linear layer" in caplog.text
    assert fit_to_classifier(backbone, "fast", {"head": "tied"})[1].head == "tied"


def test_a_shared_head_needs_a_layer_as_wide_as_the_final_linear_one(caplog):
    backbone = tiny_backbone()
    assert fit_to_classifier(backbone, "fast", {})[1].head == "shared"
    narrow = backbone.with_layers(("0", "1"))
    _, config = fit_to_classifier(narrow, "fast", {})
    assert (config.head, config.start) == ("tied", "cam")
    assert "as wide as its final linear layer" in caplog.text
    assert fit_to_classifier(narrow, "fast", {"head": "shared"})[1].head == "shared"


def test_a_preset_may_differ_where_contributions_are_read():
    values = contribution_values("fast")
    shown = {"smoothing", "upsampling", "detail"}
    assert set(values) == {"head", "branch", "teacher", "lr", "epochs", "batch_size"} | shown
    classifier = transformer("torchvision").classifier
    backbone = ttame.load_backbone(classifier, preprocessing=SMALL)
    assert backbone.plain_layers
    _, config = fit_to_classifier(backbone, "fast", {})
    assert {name: getattr(config, name) for name in values} == values
    unnamed = dict.fromkeys(values)
    assert fit_to_classifier(backbone, "fast", unnamed)[1] == config
    _, given = fit_to_classifier(backbone, "fast", {"head": "shared", "epochs": 7})
    assert (given.head, given.epochs, given.branch) == ("shared", 7, values["branch"])
    others = backbone.with_layers(backbone.layers[:-1])
    assert not others.plain_layers
    assert fit_to_classifier(others, "fast", {})[1].teacher == "none"
    assert fit_to_classifier(backbone, "paper", {})[1].teacher == "none"


def test_a_teacher_that_cannot_explain_the_classifier(caplog, monkeypatch):
    backbone = tiny_backbone()
    with pytest.raises(BackboneError, match="'attnlrp' cannot teach here"):
        fit_to_classifier(backbone, "fast", {"teacher": "attnlrp"})
    assert fit_to_classifier(backbone, "fast", {"teacher": "gradcam"})[1].teacher == "gradcam"
    # A preset's own is left out, which is told.
    classifier = ttame.load_backbone(transformer("torchvision").classifier, preprocessing=SMALL)
    monkeypatch.setattr(fitting, "contribution_values", lambda _: {"teacher": "guided_backprop"})
    assert fit_to_classifier(classifier, "fast", {})[1].teacher == "none"
    assert "Guided backprop cannot teach here" in caplog.text


def test_maps_of_one_common_grid_are_not_smoothed_unless_asked():
    several = fit_to_classifier(tiny_backbone(), "fast", {})[1]
    assert several.smoothing == load_preset("fast").smoothing > 0
    single = tiny_backbone().with_layers(("2",))
    assert fit_to_classifier(single, "fast", {})[1].smoothing == 0
    assert fit_to_classifier(single, "fast", {"smoothing": 0.5})[1].smoothing == 0.5


def test_a_preset_may_smooth_contributions_which_share_one_grid():
    classifier = ttame.load_backbone(transformer("torchvision").classifier, preprocessing=SMALL)
    assert len({shape[1:] for shape in classifier.feature_shapes}) == 1
    assert fit_to_classifier(classifier, "fast", {})[1].smoothing > 0
    assert fit_to_classifier(classifier, "fast", {"smoothing": 0})[1].smoothing == 0
    assert fit_to_classifier(classifier, "paper", {})[1].smoothing == 0


def test_one_logit_has_a_head_of_two_classes():
    backbone, config = fit_to_classifier(tiny_classifier(classes=1), "fast", {})
    assert backbone.class_weights.shape == (2, 16)
    assert config.head == "shared"


@pytest.mark.parametrize("how", ["no_grad", "detach"])
def test_a_classifier_without_gradients_is_refused(how):
    class Blocked(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_classifier()

        def forward(self, images):
            with torch.set_grad_enabled(how != "no_grad"):
                return self.model(images.detach() if how == "detach" else images)

    backbone = ttame.load_backbone(Blocked(), preprocessing=SMALL)
    with pytest.raises(BackboneError, match="no gradient passes from the logits of Blocked"):
        fit_to_classifier(backbone, "fast", {})


def test_multi_label_reaches_the_classifier():
    assert fit_to_classifier(tiny_classifier(), "fast", {}, multi_label=True)[0].activation == (
        "sigmoid"
    )


def test_the_class_token_product_is_a_setting_and_a_property_of_the_backbone():
    plain = transformer("class token")
    for given, overrides, expected in (
        (plain, {}, False),
        (plain, {"class_token_product": True}, True),
        (plain.with_class_token_product(), {}, True),
        (plain.with_class_token_product(), {"class_token_product": "false"}, False),
    ):
        backbone, config = fit_to_classifier(given, "fast", overrides)
        assert backbone.class_token_product is config.class_token_product is expected
    with pytest.raises(BackboneError, match="class_token_product multiplies"):
        fit_to_classifier(tiny_backbone(), "fast", {"class_token_product": True})
