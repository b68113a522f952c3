from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_backbone import tiny_photos
from ttame.errors import InputError, TrainingError
from ttame.images.listing import data_digest, list_photos
from ttame.images.preprocessing import Preprocessing
from ttame.training.config import TrainingConfig
from ttame.training.data import FEWEST_PHOTOS, PhotoData, automatic_workers

PREPROCESSING = Preprocessing(crop=(32, 32), resize=None, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_splits_without_overlap(photos: Path, config: Callable[..., TrainingConfig]) -> None:
    data = PhotoData(photos, PREPROCESSING, config())
    training = {photo.path for photo in data.train_photos}
    validation = {photo.path for photo in data.val_photos}
    assert (len(training), len(validation)) == (18, 6)
    assert not training & validation
    assert data.digest == data_digest(list_photos(photos))


def test_the_split_depends_on_the_seed_only(
    photos: Path, config: Callable[..., TrainingConfig]
) -> None:
    first, again, other = (
        PhotoData(data, PREPROCESSING, config(seed=seed)).val_photos
        for data, seed in ((photos, 0), (sorted(photos.iterdir(), reverse=True), 0), (photos, 1))
    )
    assert first == again
    assert first != other


def test_validation_photos_are_capped(photos: Path, config: Callable[..., TrainingConfig]) -> None:
    data = PhotoData(photos, PREPROCESSING, config(val_images=2))
    assert (len(data.train_photos), len(data.val_photos)) == (18, 2)


def test_training_photos_are_drawn_from_those_that_are_not_for_validation(
    photos: Path, config: Callable[..., TrainingConfig]
) -> None:
    whole = PhotoData(photos, PREPROCESSING, config())
    few, again, other = (
        PhotoData(photos, PREPROCESSING, config(train_images=5, seed=seed)) for seed in (0, 0, 1)
    )
    assert len(few.train_photos) == 5
    assert set(few.train_photos) < set(whole.train_photos)
    assert few.val_photos == whole.val_photos
    assert few.train_photos == again.train_photos != other.train_photos
    many = PhotoData(photos, PREPROCESSING, config(train_images=1000))
    assert many.train_photos == whole.train_photos


def test_validation_is_in_order_and_as_the_classifier_sees_it(
    photos: Path, config: Callable[..., TrainingConfig]
) -> None:
    data = PhotoData(photos, PREPROCESSING, config(batch_size=4))
    batches = list(data.val_dataloader())
    assert [len(batch) for batch in batches] == [4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(6))
    again = list(data.val_dataloader())
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(batches, again, strict=True))


def test_training_is_shuffled_and_varied(
    photos: Path, config: Callable[..., TrainingConfig]
) -> None:
    loader = PhotoData(photos, PREPROCESSING, config()).train_dataloader()
    epochs = [list(loader) for _ in range(2)]
    orders = [torch.cat([batch.indices for batch in epoch]).tolist() for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(18))
    assert orders[0] != orders[1]
    views = [
        batch.pixels[batch.indices.tolist().index(0)]
        for epoch in epochs
        for batch in epoch
        if 0 in batch.indices.tolist()
    ]
    assert not torch.equal(views[0], views[1])


def test_too_few_photos(tmp_path: Path, config: Callable[..., TrainingConfig]) -> None:
    folder = tiny_photos(tmp_path / "few", FEWEST_PHOTOS - 1)
    with pytest.raises(TrainingError, match=f"found {FEWEST_PHOTOS - 1} photos"):
        PhotoData(folder, PREPROCESSING, config())
    tiny_photos(tmp_path / "few", FEWEST_PHOTOS)
    assert len(PhotoData(folder, PREPROCESSING, config()).val_photos) == 2


def test_too_few_paths_are_counted_and_not_all_printed(
    photos: Path, config: Callable[..., TrainingConfig]
) -> None:
    with pytest.raises(TrainingError) as caught:
        PhotoData([*photos.iterdir()][:7], PREPROCESSING, config())
    assert "found 7 photos" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_no_photos_at_all(tmp_path: Path, config: Callable[..., TrainingConfig]) -> None:
    for data in (tmp_path, tmp_path / "missing", []):
        with pytest.raises(InputError):
            PhotoData(data, PREPROCESSING, config())


def test_workers(photos: Path, config: Callable[..., TrainingConfig]) -> None:
    assert 0 <= automatic_workers() <= 8
    assert PhotoData(photos, PREPROCESSING, config(workers=-1)).workers == automatic_workers()
    assert PhotoData(photos, PREPROCESSING, config(workers=0)).workers == 0
