from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from references.attention import slow_attention
from tiny_backbone import tiny_backbone
from ttame.attention import BRANCHES, GRID_CAP, AttentionMechanism, FeatureBranch, unit_cells
from ttame.errors import InputError, UnknownNameError
from ttame.explainer import new_explainer
from ttame.heads import Head, IndependentHead, SharedHead, TiedHead

CHANNELS = (4, 6, 8)
SHAPES = ((12, 10), (6, 5), (3, 3))
CLASSES = 7
HEADS = ("independent", "tied", "shared")


def mechanism(
    head: str,
    channels: tuple[int, ...] = CHANNELS,
    grid: str = "first",
    branch: str = "paper",
    unit_cells: bool = False,
) -> AttentionMechanism:
    """A mechanism whose every parameter and statistic differs from its start."""
    made: Head
    if head == "tied":
        made = TiedHead(channels, torch.randn(CLASSES, 5))
        nn.init.constant_(made.bias, 0.3)
    elif head == "shared":
        made = SharedHead(channels, torch.randn(CLASSES, channels[-1]))
        nn.init.normal_(made.shared)
        nn.init.constant_(made.bias, 0.3)
    else:
        made = IndependentHead(channels, CLASSES)
    attention = AttentionMechanism(channels, made, grid, branch, unit_cells)
    for norm in attention.branches.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.2, 3)
    return attention


def feature_maps(batch: int = 3, channels: tuple[int, ...] = CHANNELS) -> list[Tensor]:
    return [torch.randn(batch, c, *shape) for c, shape in zip(channels, SHAPES, strict=False)]


def published(attention: AttentionMechanism, features: list[Tensor], training: bool) -> Tensor:
    weight, bias = attention.head(None)
    branches = [
        {name: value.clone() for name, value in branch.state_dict().items()}
        for branch in attention.branches
    ]
    return slow_attention(
        features,
        branches,
        weight,
        bias,
        batch_statistics=training,
        grid=attention.grid,
        branch=attention.branch,
        unit_cells=attention.unit_cells,
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("grid", "shape"), [("first", SHAPES[0]), ("last", SHAPES[-1])])
def test_equals_the_published_form(
    grid: str, shape: tuple[int, int], head: str, training: bool
) -> None:
    attention, features = mechanism(head, grid=grid).train(training), feature_maps()
    expected = published(attention, features, training)
    maps = attention(features)
    assert maps.shape == (3, CLASSES, *shape)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_cells_of_one_length_equal_the_slow_form(head: str, training: bool) -> None:
    attention = mechanism(head, grid="last", unit_cells=True).train(training)
    features = feature_maps()
    expected = published(attention, features, training)
    torch.testing.assert_close(attention(features), expected, atol=1e-4, rtol=1e-4)


def test_cells_of_one_length_do_not_depend_on_how_strongly_they_fire() -> None:
    feature = torch.randn(2, 6, 3, 4)
    unit = unit_cells(feature)
    torch.testing.assert_close(unit.square().mean(dim=1), torch.ones(2, 3, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(unit_cells(feature * torch.rand(2, 1, 3, 4).add(0.5)), unit)
    empty = unit_cells(torch.zeros(1, 6, 3, 4))
    assert torch.equal(empty, torch.zeros(1, 6, 3, 4))
    assert unit_cells(feature.bfloat16()).dtype == torch.bfloat16


def test_an_untrained_shared_head_on_cells_of_one_length_is_the_cosine() -> None:
    backbone = tiny_backbone()
    explainer = new_explainer(backbone, "shared", grid="last", unit_cells=True)
    images = torch.randn(4, 3, 32, 32)
    deepest, rows = backbone(images).features[-1].relu(), backbone.class_weights
    assert rows is not None
    rows = rows - rows.mean(dim=0)
    for k in range(backbone.num_classes):
        cosine = torch.cosine_similarity(deepest, rows[k].view(1, -1, 1, 1), dim=1)
        maps = explainer(images, k).maps[:, 0]
        torch.testing.assert_close(maps, cosine * len(rows[k]) ** 0.5, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_chosen_classes_are_rows_of_all(head: str, training: bool) -> None:
    attention, features = mechanism(head).train(training), feature_maps()
    classes = torch.tensor([[0, 6], [3, 3], [5, 1]])
    every = attention(features)
    expected = every[torch.arange(3)[:, None], classes]
    torch.testing.assert_close(attention(features, classes), expected, atol=1e-5, rtol=1e-5)


def test_one_image_does_not_depend_on_its_batch_in_eval_mode() -> None:
    attention, features = mechanism("tied").eval(), feature_maps()
    classes = torch.tensor([[0], [6], [3]])
    alone = attention([feature[1:2] for feature in features], classes[1:2])
    torch.testing.assert_close(attention(features, classes)[1:2], alone, atol=1e-5, rtol=1e-5)


def test_folded_branch_equals_its_three_parts() -> None:
    branch = mechanism("tied").branches[0].eval()
    feature = torch.randn(2, CHANNELS[0], 5, 4)
    expected = torch.relu(branch.norm(branch.conv(feature)) + feature)
    torch.testing.assert_close(branch(feature), expected, atol=1e-5, rtol=1e-5)
    weight, bias = branch.folded()
    assert weight.shape == (CHANNELS[0], CHANNELS[0], 1, 1)
    assert bias.shape == (CHANNELS[0],)


def test_folding_follows_the_statistics_of_training() -> None:
    branch = FeatureBranch(4)
    branch.train()(torch.randn(8, 4, 5, 5) * 3 + 2)
    branch.eval()
    feature = torch.randn(2, 4, 3, 3)
    expected = torch.relu(branch.norm(branch.conv(feature)) + feature)
    torch.testing.assert_close(branch(feature), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("branch", BRANCHES)
def test_every_branch_equals_its_slow_form(branch: str, training: bool) -> None:
    attention = mechanism("independent", branch=branch).train(training)
    features = feature_maps()
    expected = published(attention, features, training)
    torch.testing.assert_close(attention(features), expected, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():  # the folded filters are remembered there
        again = attention(features)
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("branch", ["paper", "no-norm", "identity"])
def test_silent_branches_show_the_feature_map(branch: str) -> None:
    attention = mechanism("independent", branch=branch).eval()
    for part in attention.branches:
        if getattr(part, "norm", None) is not None:
            nn.init.zeros_(part.norm.bias)
        if hasattr(part, "conv"):
            nn.init.zeros_(part.conv.bias)
    attention.silence_branches()
    for part, feature in zip(attention.branches, feature_maps(), strict=True):
        expected = feature if branch == "identity" else feature.relu()
        torch.testing.assert_close(part(feature), expected)


def test_a_silent_perceptron_shows_the_cells_at_length_one() -> None:
    attention = mechanism("independent", branch="perceptron").eval()
    features = feature_maps()
    loud = [part(feature) for part, feature in zip(attention.branches, features, strict=True)]
    attention.silence_branches()
    for part, feature, before in zip(attention.branches, features, loud, strict=True):
        torch.testing.assert_close(part(feature), unit_cells(feature))
        assert not torch.allclose(before, part(feature), atol=1e-2)


def test_an_unknown_branch_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no-skip"):
        AttentionMechanism([1], IndependentHead([1], 1), branch="noskip")


def test_the_last_grid_sees_every_finer_cell() -> None:
    attention = mechanism("independent", (2, 3), grid="last").eval()
    fine = torch.rand(1, 2, 8, 8, requires_grad=True)
    maps = attention([fine + 5, torch.rand(1, 3, 2, 2)])
    (gradient,) = torch.autograd.grad(maps.sum(), fine)
    # Plain bilinear shrinking by 4 would read only half of the rows and columns.
    active = gradient.abs().sum(dim=1) > 0
    assert active.all()


def test_an_unknown_grid_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="first"):
        AttentionMechanism([1], IndependentHead([1], 1), grid="finest")


def test_the_grid_is_capped_at_56_on_each_side() -> None:
    attention = mechanism("independent", (2, 3)).eval()
    features = [torch.randn(1, 2, 80, 40), torch.randn(1, 3, 20, 10)]
    maps = attention(features, torch.tensor([[1]]))
    assert GRID_CAP == 56
    assert maps.shape == (1, 1, 56, 40)
    expected = published(attention, features, training=False)[:, 1:2]
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("classes", [None, torch.tensor([[0], [1], [2]])])
@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(head: str, classes: Tensor | None) -> None:
    attention = mechanism(head).train()
    maps = attention(feature_maps(), classes)
    (maps * torch.randn_like(maps)).sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A bias before BatchNorm moves nothing: the batch mean takes it away again.
        assert name.endswith("conv.bias") or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [
        ((256, 512, 512), 1_874_664),
        ((512, 1024, 2048), 9_100_776),
        ((768, 768, 768), 4_081_384),
    ],
    ids=["VGG-16", "ResNet-50", "ViT-B-16"],
)
def test_parameter_counts_of_the_paper(channels: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        attention = AttentionMechanism(channels, IndependentHead(channels, 1000))
    assert sum(parameter.numel() for parameter in attention.parameters()) == parameters


def test_half_precision_features_give_float32_maps() -> None:
    attention, features = mechanism("tied").eval(), feature_maps()
    classes = torch.tensor([[0], [6], [3]])
    with torch.autocast("cpu", torch.bfloat16):
        maps = attention([feature.bfloat16() for feature in features], classes)
    assert maps.dtype == torch.float32
    expected = attention(features, classes)
    assert (maps - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    "channels", [(4, 6), (4, 6, 8, 8), (4, 6, 9), (8, 6, 4)], ids=["few", "many", "other", "order"]
)
def test_features_of_other_layers_are_refused(channels: tuple[int, ...]) -> None:
    attention = mechanism("independent")
    features = [torch.randn(1, width, 3, 3) for width in channels]
    with pytest.raises(InputError, match=r"expected feature maps with \(4, 6, 8\) channels"):
        attention(features)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), (3, 1, 1)])
def test_classes_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    attention = mechanism("independent")
    with pytest.raises(InputError, match=r"expected classes of shape \(3, n\)"):
        attention(feature_maps(), torch.zeros(shape, dtype=torch.long))


def test_started_as_cam_it_is_the_class_activation_map() -> None:
    backbone = tiny_backbone()
    attention = new_explainer(backbone, "tied").attention
    head = attention.head
    assert isinstance(head, TiedHead)
    assert head.start_as_cam(scale=0.0)
    output = backbone(torch.randn(4, 3, 32, 32))
    deepest, rows = output.features[-1], backbone.class_weights
    assert rows is not None
    # What all classes share moves no probability and is no part of a class' map.
    cam = torch.einsum("kc,bchw->bkhw", rows - rows.mean(dim=0), deepest)
    cam = torch.nn.functional.interpolate(cam, output.features[0].shape[2:], mode="bilinear")
    maps = attention(output.features).detach()
    pairs = torch.stack([maps.flatten(2), cam.flatten(2)], dim=2).flatten(0, 1)
    correlations = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    assert len(correlations) == 4 * backbone.num_classes
    assert correlations.min() > 0.999


def test_the_default_start_stays_near_the_class_activation_map() -> None:
    backbone = tiny_backbone()
    explainer = new_explainer(backbone, "tied")
    images = torch.randn(4, 3, 32, 32)
    maps = explainer(images, "all").maps
    explainer.attention.head.start_as_cam(scale=0.0)
    cam = explainer(images, "all").maps
    pairs = torch.stack([maps.flatten(2), cam.flatten(2)], dim=2).flatten(0, 1)
    assert torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).min() > 0.95


def test_parameters_made_in_inference_mode_work_too():
    with torch.inference_mode():
        made = AttentionMechanism([4], IndependentHead([4], 3)).eval()
        features = (torch.randn(2, 4, 5, 5),)
        inside = made(features)
    with torch.no_grad():
        torch.testing.assert_close(made(features), inside)


@pytest.mark.parametrize("unit", [False, True])
def test_plain_layers_are_read_as_they_are(unit):
    torch.manual_seed(0)
    head = SharedHead(CHANNELS, torch.randn(CLASSES, CHANNELS[-1]))
    nn.init.normal_(head.shared)
    attention = AttentionMechanism(CHANNELS, head, "last", unit_cells=unit, plain=(2,)).eval()
    features = feature_maps()
    classes = torch.tensor([[1], [2], [6]])
    maps = attention(features, classes)[:, 0]
    weight, _ = head(classes[:, 0])
    own = torch.einsum("bchw,bc->bhw", features[2], weight[:, -CHANNELS[-1] :])
    others = attention([*features[:2], torch.zeros_like(features[2])], classes)[:, 0]
    torch.testing.assert_close(maps, own + others, rtol=1e-4, atol=1e-5)
    # Nothing of it is trained but the head, and its sign and length count.
    assert not list(attention.branches[2].parameters())
    changed = attention([*features[:2], -2 * features[2]], classes)[:, 0]
    torch.testing.assert_close(changed - others, -2 * own, rtol=1e-4, atol=1e-4)
