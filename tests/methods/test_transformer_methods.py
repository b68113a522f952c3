from __future__ import annotations

import pytest
import torch
from PIL import Image

from references.slow_transformer import (
    slow_attention,
    slow_attnlrp,
    slow_rollout,
    slow_transformer_lrp,
)
from tiny_backbone import tiny_backbone
from tiny_transformers import KINDS, as_backbone, timm_transformer, transformer
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.registry import load_backbone
from ttame.errors import BackboneError, InputError
from ttame.methods.attention_blocks import attention_pass
from ttame.methods.attnlrp import RelevanceRules, attnlrp, gamma_linear
from ttame.methods.chefer import chefer
from ttame.methods.legrad import layerwise_pass, legrad
from ttame.methods.registry import get_method
from ttame.methods.rollout import gradient_rollout, rollout
from ttame.methods.transformer_lrp import (
    PositiveRules,
    attention_relevance,
    balanced_sum,
    positive_linear,
    relevance_pass,
    transformer_lrp,
)

NAMES = ["rollout", "gradient_rollout", "chefer", "transformer_lrp", "attnlrp", "legrad", "iia"]
ALL = [*KINDS, "torchvision"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_on_every_transformer(name, kind):
    backbone = transformer(kind)
    before = fingerprint(backbone.module)
    size = backbone.preprocessing.crop
    method = get_method(name, **({"steps": 3} if name == "iia" else {}))
    with torch.inference_mode():
        images = torch.randn(3, 3, *size)
        classes = torch.tensor([[0, 4], [1, 2], [3, 3]])
        maps = method(backbone, images, classes)
    assert maps.shape == (3, 2, size[0] // 8, size[1] // 8)
    assert maps.isfinite().all()
    assert (maps.std(dim=(2, 3)) > 0).all()
    # Two classes of one photo differ, the same class twice does not.
    assert torch.equal(maps[0, 0], maps[0, 1]) == (name == "rollout")
    torch.testing.assert_close(maps[2, 0], maps[2, 1])
    alone = torch.cat([method(backbone, images[i : i + 1], classes[i : i + 1]) for i in range(3)])
    scale = maps.abs().amax()
    torch.testing.assert_close(alone / scale, maps / scale, rtol=0, atol=1e-5)
    assert fingerprint(backbone.module) == before
    for module in backbone.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module.training
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "iia"])
def test_a_convolutional_network_is_refused(name):
    with pytest.raises(BackboneError, match="vision transformers"):
        get_method(name)(tiny_backbone(), torch.randn(1, 3, 32, 32), torch.tensor([[0]]))


def test_gradient_rollout_and_chefer_need_the_class_rows_gradient_only_at_the_last_block():
    backbone = transformer("class token")
    passed = attention_pass(backbone, torch.randn(1, 3, 32, 48), gradients=True)
    last = passed.gradients(torch.tensor([1]))[-1]
    assert last[:, :, 0].abs().sum() > 0
    assert last[:, :, 1:].abs().sum() == 0


@pytest.mark.parametrize(("kind", "residual"), [("registers", 0.5), ("pooled", 0.2)])
def test_rollout_equals_the_whole_matrix(kind, residual):
    backbone = transformer(kind)
    images = torch.randn(2, 3, 32, 48)
    whole = slow_rollout(slow_attention(backbone.module, images), residual)
    rows = whole[:, 0, 4:] if kind == "registers" else whole.mean(dim=1)
    maps = rollout(backbone, images, torch.zeros(2, 1).long(), residual)
    torch.testing.assert_close(maps[:, 0], rows.unflatten(1, (4, 6)).detach(), rtol=0, atol=1e-5)


def test_chefer_and_gradient_rollout_equal_the_whole_matrices():
    backbone = transformer("class token")
    images, classes = torch.randn(2, 3, 32, 48), torch.tensor([[3], [1]])
    passed = attention_pass(backbone, images, gradients=True)
    gradients = passed.gradients(classes[:, 0])
    identity = torch.eye(25).expand(2, -1, -1)
    added, rolled = identity, identity
    for attention, gradient in zip(passed.attention, gradients, strict=True):
        effect = torch.zeros(2, 25, 25)
        for head in range(2):
            effect += (attention[:, head] * gradient[:, head]).detach().clamp(min=0) / 2
        added = added + effect @ added
        step = effect + identity
        rolled = (step / step.sum(dim=2, keepdim=True)) @ rolled
    for method, whole in ((chefer, added), (gradient_rollout, rolled)):
        maps = method(backbone, images, classes)
        torch.testing.assert_close(maps[:, 0].flatten(1), whole[:, 0, 1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("gamma", "depth", "first"), [(0.0, 0, 0), (0.25, 0, 0), (0.0, 0.5, 1)])
def test_attnlrp_equals_relevance_written_by_hand_and_is_conserved(gamma, depth, first):
    model = timm_transformer().double().requires_grad_(False)
    backbone = as_backbone(model)
    image = torch.randn(3, 32, 48, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        relevance, kept = slow_attnlrp(model, image, 2, gamma, first)
    finally:
        torch.set_default_dtype(torch.float32)
    maps = attnlrp(backbone, image[None], torch.tensor([[2]]), gamma, depth)
    torch.testing.assert_close(maps[0, 0].flatten(), relevance[1:], rtol=1e-6, atol=1e-8)
    # All relevance of the logit is at a token, or was kept by a bias or a softmax.
    logit = backbone.logits(image[None])[0, 2]
    torch.testing.assert_close(relevance.sum() + kept, logit, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ALL)
def test_attnlrp_from_a_later_block_on_every_transformer(kind):
    backbone = transformer(kind)
    images = torch.randn(2, 3, *backbone.preprocessing.crop)
    classes = torch.tensor([[0, 4], [1, 2]])
    maps = attnlrp(backbone, images, classes, depth=0.5)
    assert maps.shape == attnlrp(backbone, images, classes).shape
    assert (maps.std(dim=(2, 3)) > 0).all()
    assert not torch.allclose(maps, attnlrp(backbone, images, classes))
    with pytest.raises(InputError, match="less than 1, got 1"):
        attnlrp(backbone, images, classes, depth=1)


def test_attnlrp_rules_leave_the_logits_alone():
    backbone = transformer("torchvision")
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    with RelevanceRules(0.25):
        logits = backbone.logits(images)
    torch.testing.assert_close(logits, backbone.logits(images), rtol=0, atol=1e-5)


def test_gamma_rule_conserves_relevance_without_bias():
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 6, dtype=torch.float64)
    for gamma in (0.0, 0.1, 10.0):
        output = gamma_linear(x, weight, None, gamma)
        torch.testing.assert_close(output, x @ weight.T)
        (gradient,) = torch.autograd.grad(output.sum(), x)
        torch.testing.assert_close((x * gradient).sum(dim=1), output.sum(dim=1))


def test_norms_divide_by_a_constant():
    x = torch.randn(3, 6, requires_grad=True)
    weight, bias = torch.randn(6), torch.randn(6)
    for given, kept in (((weight, None, 1e-6), 0), ((weight, bias, 1e-6), bias.sum()), ((), 0)):
        with RelevanceRules():
            output = torch.nn.functional.layer_norm(x, (6,), *given)
        torch.testing.assert_close(output, torch.nn.functional.layer_norm(x, (6,), *given))
        (gradient,) = torch.autograd.grad(output.sum(), x)
        torch.testing.assert_close((x * gradient).sum(dim=1), output.sum(dim=1) - kept,
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
    for given in ((weight, 1e-6), ()):
        with RelevanceRules():
            output = torch.nn.functional.rms_norm(x, (6,), *given)
        torch.testing.assert_close(output, torch.nn.functional.rms_norm(x, (6,), *given))
        (gradient,) = torch.autograd.grad(output.sum(), x)
        torch.testing.assert_close(x * gradient, output)


def test_activations_pass_relevance_through_and_products_halve_it():
    x = torch.tensor([-2.0, -0.5, 0.0, 1.5], requires_grad=True)
    for function in (torch.nn.functional.gelu, torch.nn.functional.silu, torch.tanh, torch.relu):
        with RelevanceRules():
            output = function(x)
        torch.testing.assert_close(output, function(x))
        (gradient,) = torch.autograd.grad(output.sum(), x)
        torch.testing.assert_close(x * gradient, output)
    with RelevanceRules():
        gated = x * torch.sigmoid(x)
        product = (x + 1) * (x + 1)
    (gradient,) = torch.autograd.grad(gated.sum(), x)
    torch.testing.assert_close(x * gradient, gated)
    (gradient,) = torch.autograd.grad(product.sum(), x)
    torch.testing.assert_close((x + 1) * gradient, product)


@pytest.mark.parametrize("index", [0, 2, 4])
def test_transformer_lrp_equals_relevance_written_by_hand(index):
    model = timm_transformer().double().requires_grad_(False)
    backbone = as_backbone(model)
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        slow = [slow_transformer_lrp(model, image, index) for image in images]
    finally:
        torch.set_default_dtype(torch.float32)
    classes = torch.tensor([index, index])
    relevances = attention_relevance(relevance_pass(backbone, images), classes)
    for block, found in enumerate(relevances):
        expected = torch.stack([matrices[block] for matrices, _, _ in slow])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    rows = torch.stack([row[1:] for _, _, row in slow])
    maps = transformer_lrp(backbone, images, classes[:, None])
    torch.testing.assert_close(maps[:, 0].flatten(1), rows, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_transformer_lrp_rules_keep_all_relevance_and_the_logits(kind):
    backbone = transformer(kind)
    images = torch.randn(3, 3, *backbone.preprocessing.crop)
    classes = torch.tensor([[0], [3], [2]])
    rules = PositiveRules()
    with rules:
        logits = backbone.logits(images.requires_grad_())
    torch.testing.assert_close(logits, backbone.logits(images), rtol=0, atol=1e-5)
    embeddings = rules.embeddings(rules.seen[0].shape[-1])
    (gradient,) = torch.autograd.grad(logits.gather(1, classes).sum(), embeddings)
    relevance = (embeddings * gradient).sum(dim=(1, 2))
    torch.testing.assert_close(relevance, logits.gather(1, classes)[:, 0], rtol=1e-3, atol=1e-4)


def test_transformer_lrp_of_pooled_tokens_is_the_mean_row_without_the_identity():
    backbone = transformer("pooled")
    images, classes = torch.randn(2, 3, 32, 48), torch.tensor([3, 1])
    gradients = attention_pass(backbone, images, gradients=True).gradients(classes)
    whole = torch.eye(24).double().expand(2, -1, -1)
    relevances = attention_relevance(relevance_pass(backbone, images), classes)
    for gradient, part in zip(gradients, relevances, strict=True):
        effect = (gradient * part).double().clamp(min=0).mean(dim=1)
        whole = whole + effect @ whole
    rows = (whole.mean(dim=1) - 1 / 24).float()
    maps = transformer_lrp(backbone, images, classes[:, None])
    torch.testing.assert_close(maps.flatten(1), rows, rtol=1e-4, atol=1e-9)


def test_positive_linear_conserves_relevance_and_leaves_out_what_has_no_positive_part():
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    output = positive_linear(x, weight, bias)
    assert torch.equal(output, torch.nn.functional.linear(x, weight, bias))
    (gradient,) = torch.autograd.grad(output[:, 2].sum(), x)
    shares = x * gradient / output[:, 2:3]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert (shares >= 0).all()
    assert (shares[x * weight[2] < 0] == 0).all()
    x = torch.tensor([[1.0, -1.0]], requires_grad=True)
    output = positive_linear(x, torch.tensor([[-1.0, 2.0]]))
    assert output.item() == -3
    assert torch.autograd.grad(output, x)[0].tolist() == [[0, 0]]


def test_balanced_sum_keeps_the_sum_of_relevance_image_by_image():
    left, right = torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(5, 4, 3, dtype=torch.float64)
    total = ((left + right) * gradient).sum(dim=(1, 2))
    sums = torch.stack([(part * gradient).sum(dim=(1, 2)) for part in (left, right)])
    assert (sums < 0).any()
    gradients = torch.autograd.grad(balanced_sum(left, right), (left, right), gradient)
    found = torch.stack([(left * gradients[0]).sum((1, 2)), (right * gradients[1]).sum((1, 2))])
    torch.testing.assert_close(found, sums.abs() / sums.abs().sum(dim=0) * total)


def test_every_way_to_write_a_skip_connection_is_balanced():
    def in_place(x):
        y = x * 2 - 1
        y += x
        return y

    ways = {
        "operator": lambda x: (x * 2 - 1) + x,
        "function": lambda x: torch.add(x * 2 - 1, x),
        "method": lambda x: (x * 2 - 1).add(x),
        "in-place operator": in_place,
        "in-place method": lambda x: (x * 2 - 1).add_(x),
    }
    x = torch.tensor([[0.1, 0.3], [1.0, -2.0]], requires_grad=True)
    expected = balanced_sum(x * 2 - 1, x)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    (plain,) = torch.autograd.grad(ways["operator"](x).sum(), x)
    assert not torch.allclose(plain, wanted)
    for name, way in ways.items():
        with PositiveRules():
            output = way(x)
        assert torch.equal(output, expected), name
        assert torch.equal(torch.autograd.grad(output.sum(), x)[0], wanted), name


def test_softmax_and_norms_pass_relevance_to_the_same_element():
    x = torch.tensor([[-2.0, -0.5, 1.0, 1.5]], requires_grad=True)
    for function in (
        lambda x: x.softmax(dim=-1),
        lambda x: torch.nn.functional.layer_norm(x, (4,), torch.ones(4), torch.ones(4)),
        lambda x: torch.nn.functional.rms_norm(x, (4,)),
    ):
        with PositiveRules():
            output = function(x)
        assert torch.equal(output, function(x))
        (gradient,) = torch.autograd.grad(output[0, 1], x)
        expected = output[0, 1] * torch.tensor([[0.0, 1.0, 0.0, 0.0]])
        torch.testing.assert_close(x * gradient, expected)
    masked = torch.tensor([[1.0, -torch.inf]], requires_grad=True)
    with PositiveRules():
        output = masked.softmax(dim=-1)
    assert output.tolist() == [[1, 0]]
    assert torch.autograd.grad(output.sum(), masked)[0].tolist() == [[1, 0]]


def test_legrad_scores_each_block_with_the_classifiers_own_head():
    backbone = transformer("class token")
    images = torch.randn(2, 3, 32, 48)
    passed = layerwise_pass(backbone, images)
    torch.testing.assert_close(passed.logits[2:], backbone.logits(images), rtol=0, atol=1e-5)
    model = backbone.module
    tokens = model.blocks[0](model.norm_pre(model._pos_embed(model.patch_embed(images))))
    first = model.forward_head(model.norm(tokens))
    torch.testing.assert_close(passed.logits[:2], first, rtol=0, atol=1e-5)
    # The last block's gradients are those of the logits; the first block's those of its own score.
    plain = attention_pass(backbone, images, gradients=True)
    classes = torch.tensor([1, 3])
    last = plain.gradients(classes)[1]
    torch.testing.assert_close(passed.gradients(classes.repeat(2))[1], last, rtol=0, atol=1e-5)
    short = timm_transformer(depth=1)
    short.load_state_dict({k: v for k, v in model.state_dict().items() if "blocks.1." not in k})
    own = attention_pass(as_backbone(short), images, gradients=True).gradients(classes)[0]
    torch.testing.assert_close(passed.gradients(classes.repeat(2))[0], own, rtol=0, atol=1e-5)
    expected = (own.clamp(min=0).mean(dim=(1, 2)) + last.clamp(min=0).mean(dim=(1, 2))) / 2
    maps = legrad(backbone, images, classes[:, None])
    torch.testing.assert_close(maps.flatten(1), expected[:, 1:], rtol=0, atol=1e-6)
    maps = legrad(backbone, images, classes[:, None], last=1)
    expected = last.clamp(min=0).mean(dim=(1, 2))
    torch.testing.assert_close(maps.flatten(1), expected[:, 1:], rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="at least one block"):
        legrad(backbone, images, classes[:, None], last=0)


def test_one_block_is_enough():
    backbone = as_backbone(timm_transformer(depth=1))
    for name in NAMES:
        maps = get_method(name)(backbone, torch.randn(2, 3, 32, 48), torch.tensor([[0], [1]]))
        assert maps.shape == (2, 1, 4, 6)
        assert maps.isfinite().all()


@pytest.mark.real
def test_real_transformer_and_photo(data_folder):
    backbone = load_backbone(
        "timm/vit_small_patch14_dinov2",
        weights=data_folder / "weights" / "vit_small_patch14_imagenette10.safetensors",
    )
    file = sorted((data_folder / "imagenette_val").rglob("*.jpg"))[0]
    with Image.open(file) as photo:
        plan = backbone.preprocessing
        image = plan.to_tensor(plan.view(photo.convert("RGB")))[None]
    with torch.no_grad():
        chosen = backbone.logits(image).argmax(dim=1)[:, None]
    for name in NAMES:
        maps = get_method(name, **({"steps": 2} if name == "iia" else {}))(backbone, image, chosen)
        assert maps.shape == (1, 1, 16, 16)
        assert maps.isfinite().all()
        assert maps.std() > 0
