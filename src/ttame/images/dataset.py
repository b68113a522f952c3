"""Photos for training and evaluation: items, batches and the loader; broken photos are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ttame.errors import InputError
from ttame.images.bands import channels_needed
from ttame.images.listing import Photo
from ttame.images.reading import MAX_PIXELS, as_photo, read_image

if TYPE_CHECKING:
    from ttame.images.augmentation import RandomView
    from ttame.images.preprocessing import Preprocessing


class Sample(NamedTuple):
    """A photo that could be read: pixels (C, H, W) float32 in [0, 1], and its place in the list."""

    pixels: Tensor
    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose


class Broken(NamedTuple):
    """A photo that could not be read: its place in the list, and why, in one line."""

    index: int  # type: ignore[assignment]  # hides tuple.index, on purpose
    message: str


@dataclass(frozen=True)
class Batch:
    """Photos of one step.

    Attributes:
        pixels: (B, C, H, W) float32 in [0, 1], not normalised; B counts the readable photos.
        indices: (B,) int64, places in the data set's list.
        broken: The photos that are left out.
    """

    pixels: Tensor
    indices: Tensor
    broken: tuple[Broken, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        move = partial(torch.Tensor.to, device=device, non_blocking=non_blocking)
        return Batch(move(self.pixels), move(self.indices), self.broken)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls this."""
        return Batch(self.pixels.pin_memory(), self.indices.pin_memory(), self.broken)


class PhotoDataset(Dataset["Sample | Broken"]):
    """Photos as a classifier sees them, before normalisation.

    Attributes:
        photos: What :func:`list_photos` returns.
        preprocessing: The way from a photo to the classifier's input.
        augmentation: A random view for training; None gives the classifier's own view.
        max_pixels: Photos with more pixels are reported as broken.

    Raises:
        InputError: The photos cannot have the channels that the classifier reads.

    Example:
        >>> from pathlib import Path
        >>> from ttame.images.preprocessing import Preprocessing
        >>> dataset = PhotoDataset([Photo(Path("missing.jpg"))], Preprocessing())
        >>> dataset[0].message
        "photo 'missing.jpg' does not exist; check the path"
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        preprocessing: Preprocessing,
        augmentation: RandomView | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.photos = list(photos)
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.max_pixels = max_pixels
        check_channels(self.photos, preprocessing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every item's pixels."""
        return (self.preprocessing.channels, *self.preprocessing.crop)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample | Broken:
        # Only random views read large JPEGs at a fraction: measured pixels must not depend on it.
        enough = None if self.augmentation is None else self.augmentation.enough
        item = self.photos[index]
        try:
            photo = (
                read_image(item.path, max_pixels=self.max_pixels, enough=enough)
                if item.read is None
                else as_photo(item.read(), channels=self.preprocessing.channels)
            )
        except InputError as error:
            return Broken(index, str(error))
        view = self.preprocessing.view if self.augmentation is None else self.augmentation
        return Sample(self.preprocessing.to_tensor(view(photo)), index)


def check_channels(photos: Sequence[Photo], preprocessing: Preprocessing) -> None:
    """Refuse photos that cannot have the channels that the classifier reads.

    Raises:
        InputError: Files where it reads neither 1 nor 3 channels, or a first array of wrong shape.
    """
    for photo in photos[:1]:
        if photo.read is not None:
            as_photo(photo.read(), channels=preprocessing.channels)
        elif preprocessing.channels not in (1, 3):
            raise InputError(channels_needed(preprocessing.channels, f"the file {photo.path}"))


def collate(samples: Sequence[Sample | Broken], shape: tuple[int, int, int] = (3, 0, 0)) -> Batch:
    """Stack readable photos and list the broken ones.

    Args:
        samples: Items of a :class:`PhotoDataset`.
        shape: (C, H, W) of the empty tensor where every photo is broken.

    Example:
        >>> batch = collate([Sample(torch.ones(3, 2, 2), 0), Broken(1, "photo is empty")])
        >>> batch.pixels.shape, batch.broken
        (torch.Size([1, 3, 2, 2]), (Broken(index=1, message='photo is empty'),))
    """
    good = [item for item in samples if isinstance(item, Sample)]
    broken = tuple(item for item in samples if isinstance(item, Broken))
    pixels = torch.stack([item.pixels for item in good]) if good else torch.empty(0, *shape)
    indices = torch.tensor([item.index for item in good], dtype=torch.int64)
    return Batch(pixels, indices, broken)


def loader(
    dataset: PhotoDataset, batch_size: int, workers: int = 0, shuffle: bool = False, seed: int = 0
) -> DataLoader[Any]:
    """Make the loader of a data set; it gives :class:`Batch` objects.

    Args:
        dataset: The photos.
        batch_size: Photos a batch, broken ones included.
        workers: Processes that read; they live on between epochs. 0 reads in this process.
        shuffle: Draw another order each epoch.
        seed: Seeds the order and, with workers, the random views. Without workers the views draw
            from torch's global generator.

    Raises:
        InputError: No photos, or a number out of range.

    Example:
        >>> from pathlib import Path
        >>> from ttame.images.preprocessing import Preprocessing
        >>> dataset = PhotoDataset([Photo(Path("missing.jpg"))], Preprocessing())
        >>> next(iter(loader(dataset, batch_size=2))).pixels.shape
        torch.Size([0, 3, 224, 224])
    """
    if batch_size < 1 or workers < 0 or len(dataset) == 0:
        raise InputError(
            "expected at least one photo, batch_size >= 1 and workers >= 0, got "
            f"{len(dataset)} photos, batch_size={batch_size}, workers={workers}"
        )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=partial(collate, shape=dataset.shape),
        generator=torch.Generator().manual_seed(seed),
        pin_memory=torch.cuda.is_available(),
    )
