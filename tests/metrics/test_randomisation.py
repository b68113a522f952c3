from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from tiny_backbone import tiny_backbone
from tiny_cases import make_case
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.module import ModuleBackbone
from ttame.errors import BackboneError, InputError, UnknownNameError
from ttame.explainer import mask_settings, new_explainer
from ttame.images.preprocessing import Preprocessing
from ttame.methods.registry import get_method
from ttame.methods.ttame import rebound, ttame_method
from ttame.metrics import randomisation
from ttame.metrics.measure import get_measure
from ttame.metrics.randomisation import depths, layers_from_the_top, randomised_copy


def changed(before, after):
    other = dict(after.named_parameters())
    return {name for name, p in before.named_parameters() if not torch.equal(p, other[name])}


def test_layers_come_in_the_order_of_execution_from_the_top():
    names = ["5", "2.1", "2.0", "1.1", "1.0", "0.1", "0.0"]
    assert layers_from_the_top(tiny_backbone()) == names

    class Upside(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(4, 3), nn.Conv2d(3, 4, 3)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.head(self.body(images * self.scale).relu().mean(dim=(2, 3)))

    backbone = ModuleBackbone(Upside(), Preprocessing(crop=(8, 8), resize=None))
    assert layers_from_the_top(backbone) == ["head", "body", ""]
    assert not any(m._forward_pre_hooks for m in backbone.modules())


def test_modules_that_are_never_called_count_where_the_one_around_them_is():
    model = timm.create_model("test_vit", pretrained=False, num_classes=4)
    backbone = ModuleBackbone(model, Preprocessing(crop=(160, 160), resize=None))
    names = layers_from_the_top(backbone)
    assert names[:2] == ["head", "norm"]
    assert names[-2:] == ["patch_embed.proj", ""]

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 4, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 3)

        def forward(self, images):
            tokens = self.body(images).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))

    backbone = ModuleBackbone(Attending(), Preprocessing(crop=(16, 16), resize=None))
    names = layers_from_the_top(backbone)
    assert names == ["head", "attention.out_proj", "attention", "body"]


@pytest.mark.parametrize("rule", ["redraw", "reset"])
def test_only_the_copy_changes_and_longer_lists_extend_shorter_ones(rule):
    backbone = tiny_backbone()
    before = fingerprint(backbone.module)
    generator = torch.get_rng_state()
    names = layers_from_the_top(backbone)
    head, all_of_it = (randomised_copy(backbone, names[:n], 3, rule) for n in (1, len(names)))
    assert fingerprint(backbone.module) == before == backbone.identity.fingerprint
    assert torch.equal(torch.get_rng_state(), generator)
    assert changed(backbone.module, head.module) == {"5.weight", "5.bias"}
    assert changed(head.module, all_of_it.module) >= {"0.0.weight", "1.0.weight", "2.0.weight"}
    assert torch.equal(head.module[5].weight, all_of_it.module[5].weight)
    again = randomised_copy(backbone, names, 3, rule)
    assert fingerprint(again.module) == fingerprint(all_of_it.module)
    other = randomised_copy(backbone, names, 4, rule)
    assert not torch.equal(other.module[5].weight, all_of_it.module[5].weight)
    for copied in (head, all_of_it):
        assert copied.identity.fingerprint == fingerprint(copied.module) != before
        assert not copied.module.training
        assert not any(p.requires_grad for p in copied.parameters())


def test_redrawn_weights_keep_mean_and_deviation_and_reset_ones_do_not():
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.module[2][0].weight.mul_(7).add_(1)
    weight = backbone.module[2][0].weight
    redrawn = randomised_copy(backbone, ["2.0"]).module[2][0].weight
    assert redrawn.mean().item() == pytest.approx(weight.mean().item(), rel=0.05)
    assert redrawn.std().item() == pytest.approx(weight.std().item(), rel=0.05)
    reset = randomised_copy(backbone, ["2.0"], rule="reset").module[2][0].weight
    assert reset.std() < weight.std() / 3


def test_no_state_of_the_backbone_is_shared_with_the_copy():
    backbone = tiny_backbone()
    with torch.inference_mode():
        copied = randomised_copy(backbone, ["5"])
    pointers = {value.data_ptr() for value in backbone.state_dict().values()}
    assert not pointers & {value.data_ptr() for value in copied.state_dict().values()}
    assert not any(value.is_inference() for value in copied.state_dict().values())


@pytest.mark.parametrize("head", ["tied", "shared", "independent"])
def test_ttame_explains_the_copy_with_its_trained_parameters(head):
    backbone = tiny_backbone()
    explainer = new_explainer(backbone, head, detail=0.2)
    method = ttame_method(explainer)
    before = fingerprint(explainer)
    copied = randomised_copy(backbone, layers_from_the_top(backbone))
    images, classes = torch.randn(2, 3, 32, 32), torch.tensor([[0], [1]])
    with pytest.raises(InputError, match="other weights"):
        method(copied, images, classes)
    other = method.rebind(copied)
    maps = other(copied, images, classes)
    assert not torch.allclose(maps, method(backbone, images, classes), atol=1e-2)
    with pytest.raises(InputError, match="other weights"):
        other(backbone, images, classes)
    moved = rebound(explainer, copied)
    assert mask_settings(moved) == mask_settings(explainer)
    trained = dict(explainer.attention.named_parameters())
    for name, parameter in moved.attention.named_parameters():
        assert torch.equal(parameter, trained[name])
    if head != "independent":
        fresh = new_explainer(copied, head).attention.head.directions
        assert torch.equal(moved.attention.head.directions, fresh)
        assert not torch.equal(explainer.attention.head.directions, fresh)
    assert fingerprint(explainer) == before
    assert method.rebind(copied) is other


def test_a_multi_label_head_over_a_changed_copy_is_not_centred():
    backbone = tiny_backbone()
    backbone.activation = "sigmoid"
    explainer = new_explainer(backbone)
    copied = randomised_copy(backbone, layers_from_the_top(backbone))
    copied.activation = "sigmoid"
    fresh = new_explainer(copied).attention.head.directions
    assert torch.equal(rebound(explainer, copied).attention.head.directions, fresh)


def test_maps_that_follow_the_classifier_change_and_others_do_not():
    backbone = tiny_backbone()
    method = ttame_method(new_explainer(backbone))
    case = make_case(images=6, backbone=backbone, explain=method, to_masks=method.to_masks)
    scores = get_measure("randomisation")(case)
    curve = scores.curves["randomised_similarity"]
    assert curve.shape == (6, 3)
    torch.testing.assert_close(scores.values["randomised_similarity"], curve.mean(dim=1))
    assert curve[:, -1].mean() < 60
    # Of the images alone, as a control is.
    blind = get_measure("randomisation")(make_case(images=3))
    assert blind.values["randomised_similarity"].tolist() == pytest.approx([100] * 3)


def test_gradcam_explains_the_copies_under_inference_mode():
    pytest.importorskip("pytorch_grad_cam")
    method, backbone = get_method("gradcam"), tiny_backbone()
    before = fingerprint(backbone.module)
    case = make_case(images=3, backbone=backbone, explain=method)
    with torch.inference_mode():
        case = replace(case, pixels=case.pixels.clone(), classes=case.classes.clone())
        found = get_measure("randomisation", steps=2)(case)
    assert torch.isfinite(found.curves["randomised_similarity"]).all()
    assert fingerprint(backbone.module) == before


def test_every_layer_may_be_a_step():
    backbone = tiny_backbone()
    method = ttame_method(new_explainer(backbone))
    case = make_case(images=2, backbone=backbone, explain=method, to_masks=method.to_masks)
    every = get_measure("randomisation", steps=0)(case).curves["randomised_similarity"]
    layers = layers_from_the_top(backbone)
    assert every.shape == (2, len(layers))
    three = get_measure("randomisation", steps=3)(case).curves["randomised_similarity"]
    kept = [depth - 1 for depth in depths(len(layers), 3)]
    assert every[:, kept].tolist() == three.tolist()


def test_copies_are_made_once_and_go_with_the_classifier(monkeypatch):
    made = []

    def counted(*args):
        made.append(args[1])
        return randomised_copy(*args)

    monkeypatch.setattr(randomisation, "randomised_copy", counted)
    backbone = tiny_backbone()
    measure = get_measure("randomisation", steps=2)
    for _ in range(3):
        measure(make_case(images=1, backbone=backbone))
    assert [len(names) for names in made] == [1, 7]
    measure.with_options(seed=1)(make_case(images=1, backbone=backbone))
    assert len(made) == 4
    (kept,) = [copies for known, copies in randomisation._COPIES.items() if known is backbone]
    first = weakref.ref(kept[1][0])
    del kept, backbone
    gc.collect()
    assert first() is None


def test_depths_go_from_the_head_to_all():
    assert depths(7, 3) == [1, 4, 7]
    assert depths(1, 3) == [1]
    assert depths(3, 5) == depths(3, 0) == [1, 2, 3]
    assert depths(10, 2) == [1, 10]
    for layers in range(1, 20):
        for steps in range(2, 25):
            found = depths(layers, steps)
            assert found == sorted(set(found))
            assert (found[0], found[-1]) == (1, layers)
    with pytest.raises(InputError, match="0 for one at every layer, got -1"):
        depths(7, -1)


def test_wrong_rules_and_classifiers_that_cannot_be_copied_are_refused():
    with pytest.raises(UnknownNameError, match="redraw"):
        randomised_copy(tiny_backbone(), [], rule="redrew")
    backbone = tiny_backbone()
    backbone.module.stuck = torch.ones(1, requires_grad=True) * 2
    with pytest.raises(BackboneError, match="cannot be copied"):
        randomised_copy(backbone, ["5"])
