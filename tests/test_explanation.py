from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ttame import masking
from ttame.errors import InputError, StorageError
from ttame.explanation import Explanation, concatenate

NAMES = ("tench, Tinca tinca", "goldfish", "great white shark", "drake")


def explanation(batch: int = 2, n: int = 2, names: tuple[str, ...] | None = NAMES) -> Explanation:
    logits = torch.randn(batch, 4)
    maps = torch.randn(batch, n, 6, 5)
    return Explanation(
        logits=logits,
        probabilities=logits.softmax(1),
        classes=logits.topk(n, dim=1).indices,
        maps=maps,
        masks=masking.minmax(maps),
        pixels=torch.rand(batch, 3, 24, 20),
        class_names=names,
        sources=tuple(f"photos/Photo {i}.jpg" for i in range(batch)),
        provenance={"classifier": "tiny"},
    )


def test_labels_and_probabilities() -> None:
    one = replace(explanation(), classes=torch.tensor([[0, 3], [2, 1]]))
    assert len(one) == 2
    assert (one.label(0), one.label(0, 1), one.label(1, 1)) == ("tench", "drake", "goldfish")
    assert one.probability(0, 1) == pytest.approx(float(one.probabilities[0, 3]))
    assert replace(one, class_names=None).label(1) == "2"


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        explanation().maps = torch.zeros(1)  # type: ignore[misc]


def test_resize_makes_a_larger_copy() -> None:
    one = explanation()
    large = one.resize((24, 20))
    assert large.maps.shape == large.masks.shape == (2, 2, 24, 20)
    assert one.maps.shape == (2, 2, 6, 5)
    assert torch.equal(large.masks, masking.resize(one.masks, (24, 20)))
    assert large.masks.min() >= 0
    assert large.masks.max() <= 1
    assert torch.equal(large.logits, one.logits)


def test_overlay_has_the_size_of_what_the_classifier_saw() -> None:
    one = explanation()
    assert one.overlay().size == (20, 24)
    assert one.overlay(1, 1).mode == "RGB"
    assert one.overlay(0, 0).tobytes() != one.overlay(0, 1).tobytes()


def test_a_picture_is_larger_than_its_overlay() -> None:
    picture = explanation().picture(1, 0)
    assert picture.width > 20
    assert picture.height > 24


def test_save_writes_every_picture_and_valid_json(tmp_path: Path) -> None:
    one = explanation()
    paths = one.save(tmp_path / "new" / "folder")
    assert len(paths) == 4
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            image.load()
    assert paths[0].name.startswith("photo-0-")
    text = (tmp_path / "new" / "folder" / "explanations.json").read_text(encoding="utf-8")
    values = json.loads(text)
    assert values["provenance"] == {"classifier": "tiny"}
    assert [image["source"] for image in values["images"]] == list(one.sources or ())
    first = values["images"][0]["classes"][0]
    assert first["index"] == int(one.classes[0, 0])
    assert first["name"] == one.label(0, 0)
    assert first["probability"] == pytest.approx(one.probability(0, 0))
    assert first["mean_mask_area"] == pytest.approx(float(one.masks[0, 0].mean()))
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        *(path.name for path in paths),
        "explanations.json",
    }


def test_photos_of_one_name_get_pictures_of_their_own(tmp_path: Path) -> None:
    one = replace(
        explanation(3, 1),
        classes=torch.tensor([[1], [1], [1]]),
        sources=("a/cat.jpg", "b/cat.jpg", "c/cat.png"),
    )
    names = [path.name for path in one.save(tmp_path)]
    assert names == ["cat-goldfish.png", "cat-goldfish-2.png", "cat-goldfish-3.png"]
    assert all((tmp_path / name).is_file() for name in names)


def test_images_without_a_source_are_numbered() -> None:
    one = replace(explanation(), sources=None, classes=torch.tensor([[1, 0], [3, 2]]))
    assert one.stem(1, 1) == "image-1-great-white-shark"
    assert one.to_dict()["images"][0]["source"] is None


def test_an_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        explanation().save(tmp_path / "taken")


def test_concatenate_joins_in_order() -> None:
    first, second = explanation(2), explanation(1)
    joined = concatenate([first, second])
    assert len(joined) == 3
    assert torch.equal(joined.maps, torch.cat([first.maps, second.maps]))
    assert torch.equal(joined.classes[2:], second.classes)
    assert joined.sources == (*(first.sources or ()), *(second.sources or ()))
    assert joined.class_names == NAMES
    assert concatenate([first, replace(second, sources=None)]).sources is None


def test_concatenate_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="at least one explanation"):
        concatenate([])
    with pytest.raises(InputError, match="equal numbers of classes"):
        concatenate([explanation(2, 2), explanation(2, 1)])
