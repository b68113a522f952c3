from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tiny_backbone import tiny_backbone
from tiny_transformers import transformer
from ttame.errors import BackboneError, InputError, UnknownNameError
from ttame.explainer import Explainer, new_explainer
from ttame.images.dataset import Batch
from ttame.masking import resize
from ttame.methods.registry import Method, get_method
from ttame.objective import disagreement
from ttame.training.config import TrainingConfig
from ttame.training.module import ExplainerTraining
from ttame.training.teacher import find_teacher, taught_maps, why_not, with_other_classes


def test_a_teacher_is_a_method_that_explains() -> None:
    assert find_teacher("none") is None
    halfway = find_teacher("attnlrp")
    assert halfway is not None
    assert halfway.options == {**get_method("attnlrp").options, "depth": 0.5}
    plain = find_teacher("iia")
    assert plain is not None
    assert plain.options == get_method("iia").options
    with pytest.raises(UnknownNameError, match="attnlrp"):
        find_teacher("attnlrpp")
    with pytest.raises(InputError, match="control 'edge_map'"):
        find_teacher("edge_map")


def test_the_second_class_is_any_other() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(300)
    classes = with_other_classes(labels, 4, others=1)
    assert torch.equal(classes[:, 0], labels)
    pairs = Counter(map(tuple, classes.tolist()))
    assert len(pairs) == 12
    assert all(first != second for first, second in pairs)
    assert min(pairs.values()) > 60  # of 100


@pytest.mark.parametrize(("others", "width"), [(2, 3), (3, 4), (9, 4)])
def test_other_classes_are_drawn_once_each(others: int, width: int) -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(100)
    classes = with_other_classes(labels, 4, others)
    assert classes.shape == (400, width)
    assert torch.equal(classes[:, 0], labels)
    assert all(len(set(row)) == width for row in classes.tolist())
    assert torch.bincount(classes[:, 1], minlength=4).min() > 60


@pytest.mark.parametrize("name", ["rollout", "attnlrp"])
def test_maps_are_constants_on_the_grid_that_is_asked_for(name: str) -> None:
    backbone = transformer("class token")
    images, classes = torch.randn(2, 3, 32, 48), torch.tensor([[0, 1], [2, 0]])
    method = get_method(name)
    maps = taught_maps(method, backbone, images, classes, (4, 6))
    torch.testing.assert_close(maps, method(backbone, images, classes))
    factor = torch.ones((), requires_grad=True)
    (maps * factor).sum().backward()  # made in inference mode, they could not take part
    assert factor.grad is not None
    smaller = taught_maps(method, backbone, images, classes, (2, 3))
    torch.testing.assert_close(smaller, resize(maps, (2, 3), antialias=True))
    assert smaller.abs().max() > 0


def test_why_a_method_cannot_teach() -> None:
    images = torch.randn(1, 3, 32, 32)
    attnlrp, gradcam = get_method("attnlrp"), get_method("gradcam")
    assert "vision transformers" in why_not(attnlrp, tiny_backbone(), images)
    assert why_not(gradcam, tiny_backbone(), images) == ""

    def crash(backbone: object, images: Tensor, classes: Tensor) -> Tensor:
        raise IndexError("too far\nand more")

    def endless(backbone: object, images: Tensor, classes: Tensor) -> Tensor:
        return torch.full((1, 1, 2, 2), torch.inf)

    assert why_not(Method("a", "A", crash), tiny_backbone(), images) == "IndexError: too far"
    assert "not finite" in why_not(Method("b", "B", endless), tiny_backbone(), images)


def test_nothing_is_learnt_of_maps_that_are_not_finite() -> None:
    def half_broken(backbone: object, images: Tensor, classes: Tensor) -> Tensor:
        maps = torch.arange(4.0).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
        maps[0, 0, 1, 1] = torch.nan
        return maps

    method, classes = Method("half", "Half", half_broken), torch.zeros(2, 1, dtype=torch.long)
    images = torch.randn(2, 3, 32, 32)
    taught = taught_maps(method, tiny_backbone(), images, classes, (2, 2))
    assert torch.equal(taught[1, 0], torch.arange(4.0).view(2, 2))
    maps = torch.randn(2, 1, 2, 2, requires_grad=True)
    disagreement(maps, taught).sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert maps.grad[0].abs().max() == 0
    assert maps.grad[1].abs().max() > 0


def test_what_is_taught_is_learnt(config: Callable[..., TrainingConfig]) -> None:
    """From a random start, maps come to resemble Grad-CAM's on photos that were not seen."""
    torch.manual_seed(0)
    explainer = new_explainer(tiny_backbone(), "tied", start="random", grid="last")
    backbone = explainer.backbone
    module = ExplainerTraining(explainer, config(teacher="gradcam", smoothing=0))
    module.log_dict = lambda *_, **__: None  # type: ignore[assignment]
    pixels, classes = torch.rand(16, 3, 32, 32), torch.arange(16)[:, None] % 5
    images = backbone.preprocessing.normalise(pixels)
    with torch.no_grad():
        features = backbone(images).features
    grid = (features[-1].shape[-2], features[-1].shape[-1])
    aim = taught_maps(get_method("gradcam"), backbone, images, classes, grid)

    def apart() -> float:
        with torch.no_grad():
            return float(disagreement(explainer.attention(features, classes), aim).mean())

    before = apart()
    optimizer = torch.optim.Adam(explainer.attention.parameters(), 0.01)
    for _ in range(40):
        loss = module.training_step(Batch(torch.rand(8, 3, 32, 32), torch.arange(8)), 0)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert apart() < before - 0.3


def test_a_training_with_a_teacher_writes_an_explainer(
    tiny_train: Callable[..., Explainer],
) -> None:
    explainer = tiny_train(teacher="gradcam")
    assert explainer.provenance["training"]["config"]["teacher"] == "gradcam"
    with pytest.raises(BackboneError, match=r"'attnlrp' cannot teach here: .*transformers"):
        tiny_train(teacher="attnlrp", overwrite=True)
