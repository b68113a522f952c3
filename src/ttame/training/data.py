"""The photos of a training: found, split, read in the background, augmented."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from ttame.errors import TrainingError
from ttame.images.augmentation import RandomView
from ttame.images.dataset import Batch, PhotoDataset, check_channels, loader
from ttame.images.listing import Photo, data_digest, list_photos, sample, split
from ttame.training.seeding import epoch_seed

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from ttame.images.preprocessing import Preprocessing
    from ttame.training.config import TrainingConfig

FEWEST_PHOTOS = 8


def find_photos(data: Any) -> list[Photo]:
    """List the photos of a training.

    Args:
        data: What :func:`ttame.images.listing.list_photos` takes.

    Raises:
        TrainingError: There are too few.
    """
    photos = list_photos(data)
    if len(photos) < FEWEST_PHOTOS:
        place = f" in {data}" if isinstance(data, str | Path) else ""
        raise TrainingError(
            f"found {len(photos)} photos{place}, a training needs at least {FEWEST_PHOTOS} "
            "and works well from a few thousand"
        )
    return photos


class PhotoData(pl.LightningDataModule):
    """Training and validation photos of a folder, list or data set; labels are not needed.

    Args:
        data: What :func:`ttame.images.listing.list_photos` takes.
        preprocessing: The classifier's.
        config: Batch size, workers, seed and validation split.

    Raises:
        TrainingError: There are too few photos.
        InputError: They cannot have the channels that the classifier reads.
    """

    def __init__(self, data: Any, preprocessing: Preprocessing, config: TrainingConfig) -> None:
        super().__init__()
        photos = find_photos(data)
        check_channels(photos, preprocessing)
        self.digest = data_digest(photos)
        train_photos, held_out = split(photos, config.val_share, config.seed)
        wanted = config.train_images or len(train_photos)
        self.train_photos = sample(train_photos, wanted, config.seed)
        self.val_photos = sample(held_out, min(config.val_images, len(held_out)), config.seed)
        self.config = config
        self.first_epoch = 0
        self.preprocessing = preprocessing
        self.workers = config.workers if config.workers >= 0 else automatic_workers()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, randomly cropped and flipped."""
        dataset = PhotoDataset(
            self.train_photos, self.preprocessing, RandomView(self.preprocessing)
        )
        seed = epoch_seed(self.config.seed, self.first_epoch)
        return self._loader(dataset, shuffle=True, seed=seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """In order, as the classifier's own preprocessing sees them."""
        dataset = PhotoDataset(self.val_photos, self.preprocessing)
        return self._loader(dataset, shuffle=False, seed=self.config.seed)

    def state_dict(self) -> dict[str, Any]:
        """Return with which epoch a resumed training begins; checkpoints are written after one."""
        return {"first_epoch": self.trainer.current_epoch + 1 if self.trainer is not None else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a resumed training."""
        self.first_epoch = state_dict["first_epoch"]

    def _loader(self, dataset: PhotoDataset, shuffle: bool, seed: int) -> DataLoader[Batch]:
        return loader(
            dataset,
            batch_size=self.config.batch_size,
            workers=self.workers,
            shuffle=shuffle,
            seed=seed,
        )


def automatic_workers() -> int:
    """Return how many processes shall read photos: half of the cores, eight at most."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not every system knows affinities
        cores = os.cpu_count() or 1
    return min(8, cores // 2)
