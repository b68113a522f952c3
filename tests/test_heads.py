from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame.backbone.outputs import two_classes
from ttame.errors import BackboneError, UnknownNameError
from ttame.heads import HEADS, IndependentHead, SharedHead, TiedHead, make_head

CHANNELS = (4, 6, 5)
ROWS = 5


def test_independent_head_picks_rows() -> None:
    head = IndependentHead(CHANNELS, 7)
    classes = torch.tensor([[0, 6], [3, 3]])
    weight, bias = head(classes)
    assert weight.shape == (2, 2, 15)
    assert bias.shape == (2, 2)
    assert torch.equal(weight[0, 1], head.weight[6])
    assert torch.equal(weight[1, 0], weight[1, 1])
    assert torch.equal(bias, head.bias[classes])


def test_independent_head_starts_like_a_convolution() -> None:
    head = IndependentHead((100, 300), 50)
    bound = 1 / 20  # 1 / sqrt(400)
    for values in (head.weight, head.bias):
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.8 * bound


def test_tied_head_by_hand() -> None:
    rows = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, -1.0]])
    head = TiedHead([2, 3], rows)
    mean = torch.tensor([1.0, 1.0])
    for index, row in enumerate(rows):
        direction = (row - mean) / (row - mean).norm()
        expected = torch.cat([project.weight @ direction for project in head.maps])
        torch.testing.assert_close(head(torch.tensor(index))[0], expected)


def test_tied_filters_do_not_depend_on_scale_or_offset_of_the_classifier() -> None:
    rows = torch.randn(7, ROWS)
    head = TiedHead(CHANNELS, rows)
    other = TiedHead(CHANNELS, 9 * rows + torch.randn(ROWS))
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(None)[0], head(None)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("name", HEADS)
def test_classes_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    rows = torch.randn(7, CHANNELS[1])
    made = {
        "tied": lambda: TiedHead(CHANNELS, rows),
        "shared": lambda: SharedHead(CHANNELS, rows),
        "independent": lambda: IndependentHead(CHANNELS, 7),
    }
    chosen: Any = made[name]()
    classes = torch.randint(7, shape)
    weight, bias = chosen(classes)
    assert weight.shape == (*shape, 15)
    assert bias.shape == shape
    every, _ = chosen(None)
    torch.testing.assert_close(weight, every[classes])


def test_tied_head_stores_no_classifier_weights() -> None:
    head = TiedHead(CHANNELS, torch.randn(1000, ROWS))
    assert set(head.state_dict()) == {"bias", "maps.0.weight", "maps.1.weight", "maps.2.weight"}
    assert sum(parameter.numel() for parameter in head.parameters()) == 15 * ROWS + 1


def test_tied_head_of_one_logit_has_opposite_filters() -> None:
    row = torch.randn(1, ROWS)
    head = TiedHead(CHANNELS, two_classes(row, dim=0))
    weight, _ = head(None)
    torch.testing.assert_close(weight[0], -weight[1])
    assert torch.equal(head.directions[1], torch.nn.functional.normalize(row, dim=1)[0])


def test_shared_head_by_hand() -> None:
    rows = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, -1.0]])
    head = SharedHead([2, 2, 3], rows)
    torch.nn.init.normal_(head.shared)
    mean = torch.tensor([1.0, 1.0])
    for index, row in enumerate(rows):
        expected = head.shared.clone()
        expected[2:4] += (row - mean) / (row - mean).norm()
        torch.testing.assert_close(head(torch.tensor(index))[0], expected)
    assert set(head.state_dict()) == {"bias", "shared"}


def test_shared_head_gives_all_classes_the_same_but_their_direction() -> None:
    head = SharedHead([3, ROWS], torch.randn(4, ROWS))
    torch.nn.init.normal_(head.shared)
    learnt = head(None)[0][:, 3:] - head.directions
    torch.testing.assert_close(learnt, head.shared[3:].expand(4, -1))


def test_shared_head_without_a_fitting_layer_is_refused() -> None:
    with pytest.raises(BackboneError, match=rf"\({ROWS} channels\), the layers have 2, 9; read"):
        SharedHead([2, 9], torch.randn(4, ROWS))


@pytest.mark.parametrize("head", ["tied", "shared"])
def test_rows_of_a_multi_label_classifier_are_not_centred(head: str) -> None:
    backbone = tiny_backbone()
    backbone.activation = "sigmoid"
    rows = torch.nn.functional.normalize(backbone.class_weights, dim=1)
    torch.testing.assert_close(make_head(head, backbone).directions, rows)


def test_tied_head_of_equal_rows_is_finite() -> None:
    weight, _ = TiedHead(CHANNELS, torch.ones(3, ROWS))(None)
    assert torch.isfinite(weight).all()


def test_tied_head_takes_half_precision_rows() -> None:
    assert TiedHead(CHANNELS, torch.randn(4, ROWS).half())(None)[0].dtype == torch.float32


def test_cam_start_takes_the_deepest_layer_that_fits() -> None:
    head = TiedHead([ROWS, ROWS, 8], torch.randn(4, ROWS))
    assert head.start_as_cam(scale=1e-3)
    assert torch.equal(head.maps[1].weight, torch.eye(ROWS))
    assert 0 < head.maps[0].weight.abs().max() < 1e-2
    assert 0 < head.maps[2].weight.abs().max() < 1e-2


def test_cam_start_without_a_fitting_layer_changes_nothing() -> None:
    head = TiedHead([4, 6], torch.randn(4, ROWS))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    assert not head.start_as_cam()
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize("name", HEADS)
def test_make_head_fits_the_backbone(name: str) -> None:
    head = make_head(name, tiny_backbone())
    assert head.name == name
    assert head(None)[0].shape == (5, 8 + 12 + 16)


def test_unknown_head_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tied'"):
        make_head("tide", tiny_backbone())


def test_tied_head_without_a_linear_layer_is_refused() -> None:
    backbone: Any = SimpleNamespace(
        feature_shapes=((4, 2, 2),),
        class_weights=None,
        num_classes=3,
        identity=SimpleNamespace(name="convnet"),
    )
    with pytest.raises(BackboneError, match=r"'convnet' has none; use head='independent'"):
        make_head("tied", backbone)
    assert make_head("independent", backbone)(None)[0].shape == (3, 4)
