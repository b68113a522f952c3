"""The class-token product: every patch token multiplied by the class token, channel by channel."""

from __future__ import annotations

import pytest
import torch

import ttame
from tiny_backbone import tiny_backbone
from tiny_transformers import transformer
from ttame import storage
from ttame.backbone.contributions import CONTRIBUTIONS
from ttame.errors import BackboneError, InputError
from ttame.methods.ttame import rebound

SOURCE = "timm/test_vit"


def tokens_of(backbone, images):
    """Tokens of every layer of one pass, read by hooks of their own."""
    found = {}
    handles = [
        backbone.module.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.__setitem__(name, output)
        )
        for name in backbone.layers
    ]
    backbone.logits(images)
    for handle in handles:
        handle.remove()
    return [found[name] for name in backbone.layers]


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [("class token", 1), ("registers", 4), ("torchvision", 1), ("pooled beside a class token", 1)],
)
def test_every_patch_is_multiplied_by_the_class_token(kind, prefix):
    chosen = transformer(kind)
    plain = chosen.with_layers([name for name in chosen.layers if name != CONTRIBUTIONS])
    images = torch.randn(2, 3, *plain.preprocessing.crop)
    product = plain.with_class_token_product()
    output = product(images)
    assert torch.equal(output.logits, plain.logits(images))
    assert product.feature_shapes == plain.feature_shapes
    for tokens, feature in zip(tokens_of(plain, images), output.features, strict=True):
        rows, columns = feature.shape[2:]
        for row in range(rows):
            for column in range(columns):
                patch = tokens[:, prefix + row * columns + column]
                torch.testing.assert_close(feature[:, :, row, column], patch * tokens[:, 0])


def test_contributions_are_no_tokens_and_stay_as_they_are():
    plain = transformer("class token")
    images = torch.randn(2, 3, *plain.preprocessing.crop)
    assert plain.layers[-1] == CONTRIBUTIONS
    product = plain.with_class_token_product()
    assert torch.equal(product(images).features[-1], plain(images).features[-1])


def test_switching_it_leaves_the_backbone_as_it_was():
    plain = transformer("class token")
    images = torch.randn(1, 3, *plain.preprocessing.crop)
    before = plain(images).features
    product = plain.with_class_token_product()
    assert product.module is plain.module
    assert (plain.class_token_product, product.class_token_product) == (False, True)
    assert "class_token_product" not in plain.recipe
    assert product.recipe["class_token_product"] is True
    assert product.with_layers(plain.layers[:1]).class_token_product
    off = product.with_class_token_product(False)
    assert off.recipe == plain.recipe
    for one, other, back in zip(before, plain(images).features, off(images).features, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, back)
    assert plain.with_class_token_product(False) is plain


def test_it_is_refused_where_there_is_no_class_token():
    with pytest.raises(BackboneError, match="Sequential has none; leave class_token_product off"):
        tiny_backbone().with_class_token_product()
    # Registers alone are prefix tokens too.
    pooled = transformer("pooled")
    with pytest.raises(BackboneError, match="VisionTransformer has none"):
        pooled.with_class_token_product()
    product = transformer("class token").with_class_token_product()
    with pytest.raises(BackboneError, match=r"layer 'patch_embed' gives none; choose other layers"):
        product.with_layers(("patch_embed",))
    assert ttame.load_backbone(product, layers="patch_embed", class_token_product=False).layers == (
        "patch_embed",
    )


def test_load_backbone_takes_it_for_sources_modules_and_backbones():
    torch.manual_seed(0)
    plain = ttame.load_backbone(SOURCE, pretrained=False)
    loaded = ttame.load_backbone(plain.module, class_token_product=True)
    images = torch.randn(1, 3, *plain.preprocessing.crop)
    expected = plain.with_class_token_product()(images).features
    for one, other in zip(loaded(images).features, expected, strict=True):
        assert torch.equal(one, other)
    assert ttame.load_backbone(loaded).class_token_product
    assert not ttame.load_backbone(loaded, class_token_product=False).class_token_product
    assert ttame.load_backbone(SOURCE, pretrained=False, class_token_product=True).recipe == {
        **plain.recipe,
        "class_token_product": True,
    }
    with pytest.raises(InputError, match="only layers= and class_token_product= apply"):
        ttame.load_backbone(loaded, image_size=32)


@pytest.mark.parametrize("product", [True, False])
def test_an_explainer_folder_remembers_it(tmp_path, product):
    backbone = transformer("class token").with_class_token_product(product)
    explainer = ttame.new_explainer(backbone, start="random")
    images = torch.randn(1, 3, *backbone.preprocessing.crop)
    explainer.save(tmp_path)
    other = transformer("class token")
    for given in (other.module, other, other.with_class_token_product()):
        loaded = storage.load(tmp_path, backbone=given)
        assert loaded.backbone.class_token_product is product
        torch.testing.assert_close(loaded(images).maps, explainer(images).maps)


def test_an_explainer_of_a_source_remembers_it(tmp_path):
    from safetensors.torch import save_file

    plain = ttame.load_backbone(SOURCE, pretrained=False)
    file = tmp_path / "weights.safetensors"
    save_file(plain.module.state_dict(), file)
    backbone = ttame.load_backbone(SOURCE, weights=file, class_token_product=True)
    ttame.new_explainer(backbone, start="random").save(tmp_path / "explainer")
    assert ttame.load(tmp_path / "explainer").backbone.class_token_product


def test_a_mechanism_over_a_changed_copy_keeps_it():
    explainer = ttame.new_explainer(transformer("class token").with_class_token_product())
    assert rebound(explainer, transformer("class token")).backbone.class_token_product


@pytest.mark.parametrize("name", ["eigencam", "scorecam", "ablationcam"])
def test_other_methods_read_the_classifier_as_it_is(name):
    from ttame.methods.registry import get_method

    plain = transformer("class token")
    images, classes = torch.randn(1, 3, *plain.preprocessing.crop), torch.tensor([[1]])
    method = get_method(name)
    maps = method(plain.with_class_token_product(), images, classes)
    torch.testing.assert_close(maps, method(plain, images, classes))
