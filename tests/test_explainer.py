from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tiny_backbone import tiny_backbone, tiny_photos
from ttame import masking
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.registry import load_backbone
from ttame.benchmarking.float32 import whole_float32
from ttame.detail import with_detail
from ttame.errors import ImageError, InputError, UnknownNameError
from ttame.explainer import Explainer, new_explainer
from ttame.explanation import Explanation
from ttame.images.dataset import Broken
from ttame.images.listing import list_photos
from ttame.images.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    torch.manual_seed(0)
    return new_explainer(tiny_backbone(), "tied", start="random")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_photos(tmp_path_factory.mktemp("photos"), 5)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32)


def same(first: Explanation, second: Explanation) -> None:
    assert torch.equal(first.classes, second.classes)
    for name in ("logits", "probabilities", "maps", "masks", "pixels"):
        torch.testing.assert_close(
            getattr(first, name), getattr(second, name), atol=1e-5, rtol=1e-5, msg=name
        )


def test_a_call_gives_prediction_and_maps(explainer: Explainer, images: Tensor) -> None:
    result = explainer(images)
    assert torch.equal(result.logits, explainer.backbone.logits(images))
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(3))
    assert torch.equal(result.classes[:, 0], result.logits.argmax(1))
    assert result.maps.shape == result.masks.shape == (3, 1, 16, 16)
    assert result.maps.dtype == torch.float32
    assert torch.equal(result.masks.amin((2, 3)), torch.zeros(3, 1))
    torch.testing.assert_close(result.masks.amax((2, 3)), torch.ones(3, 1))
    assert result.class_names == explainer.backbone.class_names
    assert result.provenance["fingerprint"] == explainer.backbone.identity.fingerprint
    assert result.provenance["head"] == "tied"
    expected = explainer.backbone.preprocessing.denormalise(images).clamp(0, 1)
    torch.testing.assert_close(result.pixels, expected)


def test_a_gpu_explains_as_the_cpu_does(
    explainer: Explainer, images: Tensor, photos: Path, gpu: torch.device
) -> None:
    expected, of_photos = explainer(images), explainer.explain(photos)
    try:
        with whole_float32():
            found, from_photos = explainer.to(gpu)(images.to(gpu)), explainer.explain(photos)
    finally:
        explainer.to("cpu")
    assert found.maps.device.type == found.masks.device.type == "cuda"
    for one, other in ((found, expected), (from_photos, of_photos)):
        assert torch.equal(one.classes.cpu(), other.classes)
        torch.testing.assert_close(one.maps.cpu(), other.maps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("classes", [None, 1, "top3", "all", [0, 1, 2], [[0, 1], [2, 3], [4, 0]]])
def test_one_forward_pass_of_the_classifier(
    explainer: Explainer, images: Tensor, classes: Any
) -> None:
    calls = []
    handles = [
        module.register_forward_hook(lambda *_: calls.append(1))
        for module in (explainer.backbone.module, explainer.backbone.module[0][0])  # type: ignore[index]
    ]
    explainer(images, classes)
    for handle in handles:
        handle.remove()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (2, [[2], [2], [2]]),
        ("class 2", [[2], [2], [2]]),
        ("2", [[2], [2], [2]]),
        ("class 2, class 4", [[2, 4], [2, 4], [2, 4]]),
        (np.int64(4), [[4], [4], [4]]),
        (torch.tensor(4), [[4], [4], [4]]),
        ([0, 3, 1], [[0], [3], [1]]),
        (("class 0", 3, "CLASS 1"), [[0], [3], [1]]),
        (torch.tensor([0, 3, 1]), [[0], [3], [1]]),
        (np.array([0, 3, 1]), [[0], [3], [1]]),
        ([[0, 1], [2, 3], [4, 4]], [[0, 1], [2, 3], [4, 4]]),
        (torch.tensor([[0, 1], [2, 3], [4, 4]]), [[0, 1], [2, 3], [4, 4]]),
        ([["class 0"], ["class 1"], [2]], [[0], [1], [2]]),
        ([[3, 1]], [[3, 1], [3, 1], [3, 1]]),
        (torch.tensor([[3, 1]]), [[3, 1], [3, 1], [3, 1]]),
        ("all", [[0, 1, 2, 3, 4]] * 3),
    ],
)
def test_classes_in_every_form(
    explainer: Explainer, images: Tensor, classes: Any, expected: list[list[int]]
) -> None:
    result = explainer(images, classes)
    assert result.classes.tolist() == expected
    every = explainer(images, "all").maps
    rows = torch.arange(3)[:, None]
    torch.testing.assert_close(result.maps, every[rows, result.classes], atol=1e-5, rtol=1e-5)


def test_top3_are_each_image_s_best(explainer: Explainer, images: Tensor) -> None:
    result = explainer(images, "top3")
    assert torch.equal(result.classes, result.logits.topk(3, dim=1).indices)
    assert explainer(images, "top99").classes.shape == (3, 5)


@pytest.mark.parametrize(
    "classes",
    [
        [0, 1],
        [0, 1, 2, 3],
        [[0, 1], [2, 3]],
        [],
        [[], [], []],
        [[[0]], [[1]], [[2]]],
        [[0, 1], [2], [3, 4]],
        5,
        -1,
        [0, 1, 5],
        torch.tensor([0, 1, -1]),
        1.5,
        True,
        torch.tensor([0.0, 1.0, 2.0]),
        "",
        "top0",
        {"class": 1},
    ],
    ids=str,
)
def test_wrong_classes_are_refused(explainer: Explainer, images: Tensor, classes: Any) -> None:
    with pytest.raises(InputError):
        explainer(images, classes)


@pytest.mark.parametrize("classes", [[], [[]], torch.zeros(0, dtype=torch.long)], ids=str)
def test_no_class_for_a_single_image_is_refused(
    explainer: Explainer, images: Tensor, classes: Any
) -> None:
    with pytest.raises(InputError):
        explainer(images[:1], classes)


def test_an_unknown_name_is_refused_with_the_nearest(explainer: Explainer, images: Tensor) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'class"):
        explainer(images, "clas 2")


def test_wrong_images_are_refused(explainer: Explainer, images: Tensor) -> None:
    with pytest.raises(InputError, match="expected images of shape"):
        explainer(images[0])


def test_no_gradients_and_no_state(explainer: Explainer, images: Tensor) -> None:
    before = {name: value.clone() for name, value in explainer.state_dict().items()}
    attributes = {key: id(value) for key, value in vars(explainer).items()}
    result = explainer(images.requires_grad_(), "top3")
    assert not result.logits.requires_grad
    assert not result.maps.requires_grad
    assert images.grad is None
    assert all(torch.equal(value, before[name]) for name, value in explainer.state_dict().items())
    assert attributes == {key: id(value) for key, value in vars(explainer).items()}
    same(result, explainer(images.detach(), "top3"))


def test_the_classifier_stays_as_it_was(photos: Path) -> None:
    backbone = tiny_backbone()
    explainer = new_explainer(backbone)
    explainer.train()
    assert not backbone.module.training
    explainer.eval()
    explainer.explain(photos)
    assert fingerprint(backbone.module) == backbone.identity.fingerprint
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module._forward_hooks for module in backbone.modules())


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 100])
@pytest.mark.parametrize(
    "classes",
    [None, "top2", "all", 3, "class 3", [0, 1, 2, 3, 4], [[0, 1]], [[0], [1], [2], [3], [4]]],
    ids=str,
)
def test_the_batch_size_changes_nothing(
    explainer: Explainer, photos: Path, classes: Any, batch_size: int
) -> None:
    same(explainer.explain(photos, classes, batch_size), explainer.explain(photos, classes, 3))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize(
    "classes",
    [
        [0, 1],
        [0],
        torch.tensor([0]),
        [[0, 1], [2, 3]],
        [],
        torch.zeros(6, dtype=torch.long),
        [[0, 1], [2], [3], [4], [0]],
    ],
    ids=str,
)
def test_wrong_classes_for_photos_are_refused_whatever_the_batch_size(
    explainer: Explainer, photos: Path, classes: Any, batch_size: int
) -> None:
    with pytest.raises(InputError):
        explainer.explain(photos, classes, batch_size)


def test_a_scalar_tensor_stands_for_all_photos(explainer: Explainer, photos: Path) -> None:
    same(explainer.explain(photos, torch.tensor(3)), explainer.explain(photos, 3))
    same(explainer.explain(photos, np.array(3)), explainer.explain(photos, 3))


def test_a_flat_list_for_a_single_photo_asks_for_several_classes(
    explainer: Explainer, photos: Path
) -> None:
    photo = next(iter(sorted(photos.iterdir())))
    assert explainer.explain(photo, [4, "class 1"]).classes.tolist() == [[4, 1]]
    assert explainer.explain([photo], [4, "class 1"]).classes.tolist() == [[4, 1]]


def test_photos_of_every_kind(explainer: Explainer, photos: Path) -> None:
    path = next(iter(sorted(photos.iterdir())))
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = explainer.explain(path)
    assert expected.sources == (str(path),)
    forms: list[Any] = [
        str(path),
        picture,
        array,
        array.astype(np.float32) / 255,
        tensor,
        tensor.float() / 255,
        [path],
        (picture,),
        array[None],
        tensor[None],
        path.read_bytes(),
    ]
    for form in forms:
        same(explainer.explain(form), expected)


def test_what_the_classifier_saw_is_in_the_pixels(explainer: Explainer, photos: Path) -> None:
    path = next(iter(sorted(photos.iterdir())))
    result = explainer.explain(path)
    with Image.open(path) as opened:
        pixels = explainer.backbone.preprocessing.pixels(opened.convert("RGB"))
    assert torch.equal(result.pixels[0], pixels)
    images = explainer.backbone.preprocessing.normalise(pixels)[None]
    torch.testing.assert_close(result.logits, explainer.backbone.logits(images))


def test_a_list_mixes_kinds_and_a_folder_is_sorted(explainer: Explainer, photos: Path) -> None:
    paths = sorted(photos.iterdir())
    whole = explainer.explain(photos)
    assert whole.sources == tuple(str(path) for path in paths)
    with Image.open(paths[1]) as opened:
        mixed = explainer.explain([paths[0], opened.convert("RGB"), *paths[2:]])
    same(mixed, whole)


def test_wrong_photos_are_refused(explainer: Explainer, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one photo"):
        explainer.explain([])
    with pytest.raises(ImageError, match="does not exist"):
        explainer.explain(tmp_path / "missing.jpg")
    with pytest.raises(InputError):
        explainer.explain(tmp_path)
    with pytest.raises(InputError):
        explainer.explain(3)
    with pytest.raises(InputError, match="batch size"):
        explainer.explain(photos, batch_size=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_stream_explains_what_can_be_read(
    explainer: Explainer, tmp_path: Path, workers: int
) -> None:
    folder = tiny_photos(tmp_path / "photos", 5)
    broken = folder / "photo-02.png"
    broken.write_bytes(broken.read_bytes()[:60])
    photos = list_photos(folder)
    parts = list(explainer.stream(photos, "top2", batch_size=2, workers=workers))
    failed = [part for part in parts if isinstance(part, Broken)]
    good = [part for part in parts if isinstance(part, Explanation)]
    assert [item.index for item in failed] == [2]
    assert "photo-02.png" in failed[0].message
    sources = [source for part in good for source in part.sources or ()]
    assert sources == [str(photo.path) for i, photo in enumerate(photos) if i != 2]
    assert all(part.classes.shape[1] == 2 for part in good)
    whole = explainer.explain(sources, "top2")
    torch.testing.assert_close(
        torch.cat([part.maps for part in good]), whole.maps, atol=1e-5, rtol=1e-5
    )


def test_stream_of_broken_photos_only(explainer: Explainer, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    parts = list(explainer.stream(list_photos(tmp_path)))
    assert [type(part) for part in parts] == [Broken, Broken]


@pytest.mark.parametrize("head", ["tied", "independent"])
def test_new_explainer_is_ready_to_use(head: str, images: Tensor) -> None:
    made = new_explainer(tiny_backbone(), head, layers=["0", "2"], mask_form="ranks")
    assert made.attention.head.name == head
    assert made.backbone.layers == ("0", "2")
    assert not made.training
    assert torch.isfinite(made(images, "all").maps).all()
    assert made.summary()["mask_form"] == "ranks"


def test_cam_start_silences_the_branches_and_a_random_start_does_not() -> None:
    cam = new_explainer(tiny_backbone())
    assert all(torch.all(branch.norm.weight == 0) for branch in cam.attention.branches)
    for other in (
        new_explainer(tiny_backbone(), start="random"),
        new_explainer(tiny_backbone(), "independent"),
    ):
        assert all(torch.all(branch.norm.weight == 1) for branch in other.attention.branches)


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ({"head": "tide"}, "tied"),
        ({"mask_form": "rank"}, "ranks"),
        ({"start": "cams"}, "cam"),
        ({"layers": ["9"]}, "layer"),
        ({"upsampling": "neares"}, "nearest"),
    ],
)
def test_new_explainer_refuses_unknown_names(arguments: dict[str, Any], near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        new_explainer(tiny_backbone(), **arguments)


def test_masks_of_whole_cells_have_the_size_of_the_image(images: Tensor) -> None:
    torch.manual_seed(0)
    plain = new_explainer(tiny_backbone(), start="random", mask_form="ranks")
    whole = Explainer(plain.backbone, plain.attention, "ranks", upsampling="nearest")
    coarse, fine = plain(images, "all"), whole(images, "all")
    assert torch.equal(fine.maps, coarse.maps)
    height, width = coarse.masks.shape[-2:]
    assert fine.masks.shape[-2:] == images.shape[-2:] != (height, width)
    cells = fine.masks.unflatten(-1, (width, -1)).unflatten(-3, (height, -1))
    expected = coarse.masks[:, :, :, None, :, None].expand_as(cells)
    assert torch.equal(cells, expected)
    size = (images.shape[-2], images.shape[-1])
    assert torch.equal(fine.resize(size).masks, fine.masks)
    double = (2 * size[0], 2 * size[1])
    assert torch.equal(fine.resize(double).masks[..., ::2, ::2], fine.masks)
    assert whole.summary()["upsampling"] == "nearest"


def test_masks_with_detail_have_the_size_and_the_edges_of_the_image(images: Tensor) -> None:
    torch.manual_seed(0)
    plain = new_explainer(tiny_backbone(), start="random", mask_form="ranks")
    fine = Explainer(plain.backbone, plain.attention, "ranks", detail=0.1)
    size = (images.shape[-2], images.shape[-1])
    coarse, found = plain(images, "all"), fine(images, "all")
    assert torch.equal(found.maps, coarse.maps)
    expected = with_detail(coarse.resize(size).masks, found.pixels, 0.1)
    assert torch.equal(found.masks, expected)
    assert not torch.allclose(found.masks, coarse.resize(size).masks)
    assert torch.equal(found.resize(size).masks, found.masks)
    alone = torch.cat([fine(images[i : i + 1], "all").masks for i in range(len(images))])
    torch.testing.assert_close(found.masks, alone, atol=1e-5, rtol=0)
    assert fine.summary()["detail"] == 0.1
    small = (size[0] // 8, size[1] // 8)
    shrunk = found.resize(small).masks
    assert torch.equal(shrunk, masking.resize(found.masks, small, antialias=True))
    assert not torch.allclose(shrunk, masking.resize(found.masks, small), atol=1e-2)


def test_new_explainer_refuses_detail_outside_its_range() -> None:
    with pytest.raises(InputError, match="detail from 0"):
        new_explainer(tiny_backbone(), detail=1.5)


def test_the_paper_s_masks_are_the_maps_before_the_sigmoid(images: Tensor) -> None:
    # method.md, explaining: the map before the sigmoid, min-max normalised per image.
    made = new_explainer(tiny_backbone(), "independent", mask_form="sigmoid")
    result = made(images)
    low, high = result.maps.amin((2, 3), True), result.maps.amax((2, 3), True)
    torch.testing.assert_close(result.masks, (result.maps - low) / (high - low))


def test_a_head_that_no_layer_fits_says_that_it_does_not_start_as_cam(caplog):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    backbone = load_backbone(model, preprocessing=Preprocessing(crop=(16, 16)))
    new_explainer(backbone)
    assert "start at random" in caplog.text
