from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.errors import InputError
from ttame.images.augmentation import RandomView
from ttame.images.dataset import Broken, PhotoDataset, Sample, collate, loader
from ttame.images.listing import Photo, list_photos
from ttame.images.preprocessing import Preprocessing

SMALL = Preprocessing(crop=(8, 12), resize=14)
BAD = {4: b"", 11: b"no image", 29: None}


@pytest.fixture
def folder(tmp_path) -> Path:
    """30 photos, three of them broken."""
    generator = np.random.default_rng(0)
    for i in range(30):
        pixels = generator.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8)
        path = tmp_path / f"{i:02}.jpg"
        Image.fromarray(pixels).save(path)
        if i in BAD:
            path.write_bytes(path.read_bytes()[:400] if BAD[i] is None else BAD[i])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_readable_photo_comes_once_and_broken_ones_are_listed(folder, workers, shuffle):
    dataset = PhotoDataset(list_photos(folder), SMALL)
    batches = list(loader(dataset, 8, workers=workers, shuffle=shuffle, seed=3))
    indices = torch.cat([batch.indices for batch in batches]).tolist()
    broken = [item for batch in batches for item in batch.broken]
    assert sorted(indices) == [i for i in range(30) if i not in BAD]
    assert (indices != sorted(indices)) == shuffle
    assert sorted(item.index for item in broken) == sorted(BAD)
    assert all(f"{item.index:02}.jpg" in item.message for item in broken)
    for batch in batches:
        assert batch.pixels.shape == (len(batch), 3, 8, 12)
        for pixels, index in zip(batch.pixels, batch.indices.tolist(), strict=True):
            photo = Image.open(dataset.photos[index].path)
            assert torch.equal(pixels, SMALL.pixels(photo))


def test_order_follows_the_seed_and_changes_each_epoch(folder):
    dataset = PhotoDataset(list_photos(folder), SMALL)

    def epochs(seed: int) -> list[list[int]]:
        batches = loader(dataset, 30, shuffle=True, seed=seed)
        return [next(iter(batches)).indices.tolist() for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


def test_random_views_with_workers_follow_the_seed_and_differ_between_epochs(folder):
    photos = [photo for i, photo in enumerate(list_photos(folder)) if i not in BAD][:8]
    dataset = PhotoDataset(photos, SMALL, RandomView(SMALL))

    def epochs(seed: int) -> list[torch.Tensor]:
        batches = loader(dataset, 4, workers=2, seed=seed)
        return [torch.cat([batch.pixels for batch in batches]) for _ in range(2)]

    first, again = epochs(1), epochs(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert first[0].shape == (8, 3, 8, 12)


def test_items(folder):
    dataset = PhotoDataset(list_photos(folder), SMALL)
    assert len(dataset) == 30
    assert dataset.shape == (3, 8, 12)
    item = dataset[2]
    assert isinstance(item, Sample)
    assert item.index == 2
    assert item.pixels.dtype == torch.float32
    assert 0 <= item.pixels.min() < item.pixels.max() <= 1
    assert isinstance(dataset[4], Broken)
    assert dataset[4].message.count("\n") == 0


def test_batches_of_broken_photos_are_empty_and_keep_their_shape(folder):
    dataset = PhotoDataset([Photo(folder / "04.jpg"), Photo(folder / "11.jpg")], SMALL)
    (batch,) = loader(dataset, 4)
    assert batch.pixels.shape == (0, 3, 8, 12)
    assert batch.indices.shape == (0,)
    assert batch.indices.dtype == torch.int64
    assert [item.index for item in batch.broken] == [0, 1]
    assert SMALL.normalise(batch.pixels).shape == (0, 3, 8, 12)
    assert collate([Broken(0, "x")]).pixels.shape == (0, 3, 0, 0)


def test_large_jpegs_are_read_at_a_fraction_for_training_only(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    Image.new("RGB", (640, 480), (200, 100, 50)).save(path)
    sizes = []

    class Watching(Preprocessing):
        def view(self, photo, *args, **options):
            sizes.append(photo.size)
            return super().view(photo, *args, **options)

    watching = Watching(crop=(8, 12), resize=14)
    for augmentation in (None, RandomView(watching)):
        item = PhotoDataset([Photo(path)], watching, augmentation)[0]
        expected = torch.tensor([200, 100, 50]).view(3, 1, 1).expand(3, 8, 12) / 255
        torch.testing.assert_close(item.pixels, expected, atol=2 / 255, rtol=0)
    assert sizes == [(640, 480), (80, 60)]


def test_photos_above_the_limit_are_broken(folder):
    item = PhotoDataset([Photo(folder / "00.jpg")], SMALL, max_pixels=100)[0]
    assert isinstance(item, Broken)
    assert "limit of 100" in item.message


def test_batches_move_and_datasets_travel(folder):
    dataset = PhotoDataset(list_photos(folder), SMALL, RandomView(SMALL))
    batch = next(iter(loader(pickle.loads(pickle.dumps(dataset)), 5)))
    moved = batch.to(torch.device("meta"))
    assert moved.pixels.device.type == moved.indices.device.type == "meta"
    assert moved.broken == batch.broken
    assert len(batch) == 4


@pytest.mark.parametrize(("batch_size", "workers", "n"), [(0, 0, 3), (2, -1, 3), (2, 0, 0)])
def test_wrong_loaders(batch_size, workers, n):
    dataset = PhotoDataset([Photo(Path("a.jpg"))] * n, SMALL)
    with pytest.raises(InputError, match="expected at least one photo"):
        loader(dataset, batch_size, workers=workers)
