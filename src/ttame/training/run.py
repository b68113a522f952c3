"""``ttame.train``: from a classifier and a pile of photos to an explainer folder."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ttame import storage
from ttame.backbone.contract import Backbone
from ttame.backbone.fingerprint import fingerprint
from ttame.errors import InputError, StorageError, TrainingError
from ttame.explainer import Explainer, new_explainer
from ttame.files import check_writable, write_atomically
from ttame.training.config import TrainingConfig, load_preset
from ttame.training.fitting import fit_to_classifier
from ttame.training.precision import pick_accelerator, pick_precision
from ttame.training.surroundings import own_interrupts, own_random_numbers, quiet

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch import nn

    from ttame.training.data import PhotoData
    from ttame.training.keeping import BestExplainer
    from ttame.training.module import ExplainerTraining

_log = logging.getLogger(__name__)

LAST = "last.ckpt"

# Settings that a resumed training may change; all others must be those it began with.
FREE_ON_RESUME = {"device", "workers", "precision"}


def train(
    backbone_or_source: Backbone | nn.Module | str,
    data: Any,
    out: str | Path,
    preset: str = "fast",
    *,
    weights: str | Path | None = None,
    layers: Sequence[str] | None = None,
    multi_label: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    **overrides: Any,
) -> Explainer:
    """Train an explainer for a classifier on unlabelled photos.

    The classifier is only read; that not one bit of it changed is checked at the end. The explainer
    with the lowest validation score (mean average drop at 100, 50 and 15 %) is kept in ``out`` from
    the first validation on; logs and the checkpoint for ``resume`` lie in ``out/training``.

    Args:
        backbone_or_source: A backbone, a module, or a source such as ``"timm/resnet50"``.
        data: A folder, a file list, a CSV file, a list of photos' paths, arrays, tensors, or a
            torch data set; see :func:`ttame.images.listing.list_photos`.
        out: The explainer folder to write.
        preset: ``"fast"`` or ``"paper"``.
        weights: The classifier's local weight file.
        layers: Layers to read, shallow to deep; by default those that the preset knows for the
            classifier, else chosen for it.
        multi_label: Any number of classes may be there at once; see :func:`ttame.load_backbone`.
        resume: Continue a training that was cut off.
        overwrite: Train anew though ``out`` holds an explainer already.
        progress: Show a progress bar.
        **overrides: Any value of :class:`ttame.training.config.TrainingConfig`.

    Returns:
        The best explainer.

    Raises:
        TrainingError: Too few photos, a loss that is not finite (the last good state is kept in
            ``out``), or a classifier that changed.
        BackboneError: The classifier cannot be loaded, or no gradient passes through it.
        StorageError: ``out`` cannot be written or holds an explainer already.
        InputError: A setting does not fit.
    """
    config = load_preset(preset, overrides)
    out = check_writable(out)
    log_folder = out / "training"
    _check_place(out, log_folder, resume, overwrite)
    accelerator, devices = pick_accelerator(config.device)
    pick_precision(config.precision, accelerator)  # refuses unknown names before anything is done

    from ttame.training.data import PhotoData, find_photos

    found = find_photos(data)  # before a classifier is fetched for nothing
    backbone, config = fit_to_classifier(
        backbone_or_source, preset, overrides, weights, layers, multi_label
    )
    photos = PhotoData(found, backbone.preprocessing, config)
    _remember_config(log_folder, config, photos.digest, resume)
    try:
        with own_random_numbers(config.seed):
            explainer = new_explainer(
                backbone,
                config.head,
                mask_form=config.mask_form,
                start=config.start,
                grid=config.grid,
                branch=config.branch,
                smoothing=config.smoothing,
                upsampling=config.upsampling,
                detail=config.detail,
                unit_cells=config.unit_cells,
            )
            module, keeper = _fit(
                explainer, config, photos, out, preset, resume, progress, accelerator, devices
            )
    finally:
        backbone.to("cpu").to(memory_format=torch.contiguous_format)
    _check_untouched(backbone)
    if module.nan_at_step is not None:
        kept = _keep_last_good(explainer, keeper)
        raise TrainingError(
            f"the loss was not finite at step {module.nan_at_step}, the training stopped; "
            f"{kept} is in {out}; try a smaller lr"
        )
    return _best(explainer, keeper)


def _fit(
    explainer: Explainer,
    config: TrainingConfig,
    photos: PhotoData,
    out: Path,
    preset: str,
    resume: bool,
    progress: bool,
    accelerator: str,
    devices: Any,
) -> tuple[ExplainerTraining, BestExplainer]:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from ttame.training.guards import CollapseGuard
    from ttame.training.keeping import BestExplainer
    from ttame.training.module import ExplainerTraining
    from ttame.training.progress import Progress
    from ttame.training.seeding import EpochSeed

    log_folder = out / "training"
    module = ExplainerTraining(explainer, config)
    guard = CollapseGuard()
    keeper = BestExplainer(explainer, out, lambda: _record(config, photos, preset, guard.findings))
    callbacks: list[pl.Callback] = [
        EpochSeed(config.seed),
        guard,
        keeper,
        # Overwritten at the end of every epoch; what is best lies in the explainer folder.
        ModelCheckpoint(
            log_folder,
            filename=Path(LAST).stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    if progress:
        callbacks.append(Progress(leave=True))
    with quiet():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=pick_precision(config.precision, accelerator),  # type: ignore[arg-type]
            max_epochs=config.epochs,
            callbacks=callbacks,
            logger=_loggers(log_folder),
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            enable_progress_bar=progress,
            enable_model_summary=False,
            default_root_dir=log_folder,
            # What a classifier keeps for itself while the start is scored must serve the steps too.
            inference_mode=False,
        )
        last = str(log_folder / LAST) if resume else None
        with own_interrupts():
            if config.start == "cam" and config.head != "independent" and not resume:
                # A class activation map explains before the first step: the training must beat it.
                trainer.validate(module, datamodule=photos, verbose=False)
            trainer.fit(module, datamodule=photos, ckpt_path=last, weights_only=True)
    return module, keeper


def _check_place(out: Path, log_folder: Path, resume: bool, overwrite: bool) -> None:
    if resume and not (log_folder / LAST).is_file():
        raise StorageError(f"nothing to resume in {out}: there is no {log_folder / LAST}")
    if not resume and not overwrite and _holds_explainer(out, log_folder):
        raise StorageError(
            f"{out} holds an explainer already; choose another folder, resume its training "
            "(resume) or replace it (overwrite)"
        )


def _holds_explainer(out: Path, log_folder: Path) -> bool:
    """Whether there is one; the start of a training cut off in its first epoch does not count."""
    if not (out / storage.DESCRIPTION).exists():
        return False
    training = storage.read_description(out).get("training", {})
    return training.get("epoch") != 0 or (log_folder / LAST).is_file()


def _remember_config(log_folder: Path, config: TrainingConfig, digest: str, resume: bool) -> None:
    path = log_folder / "config.json"
    values = {**config.to_dict(), "data_digest": digest}
    if not resume:
        # What an earlier training left could be taken for this one's.
        (log_folder / LAST).unlink(missing_ok=True)
    if resume and path.is_file():
        # A training of before a setting was known had its plain form, not what presets have now.
        before = {"detail": 0.0, **json.loads(path.read_text(encoding="utf-8"))}
        changed = [
            f"{key} was {before[key]!r}, now {value!r}"
            for key, value in values.items()
            if key not in FREE_ON_RESUME and key in before and before[key] != value
        ]
        if changed:
            raise InputError(
                "a resumed training keeps its settings and its photos; " + "; ".join(changed)
            )
    text = json.dumps(values, indent=2).encode()
    write_atomically(path, lambda file: file.write(text))


def _record(
    config: TrainingConfig, photos: PhotoData, preset: str, collapse: Sequence[str]
) -> dict[str, Any]:
    import lightning
    import timm

    return {
        "training": {
            "preset": preset,
            "config": config.to_dict(),
            "data_digest": photos.digest,
            "photos": len(photos.train_photos),
            "validation_photos": len(photos.val_photos),
            "collapse": list(collapse),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "timm": timm.__version__,
            },
        }
    }


def _loggers(folder: Path) -> list[Any]:
    from importlib.util import find_spec

    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    # The logger would delete a log that lies there: each resumption gets a log of its own.
    free = next(name for name in _log_names() if not (folder / name).exists())
    loggers: list[Any] = [CSVLogger(folder, name="", version=free)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


def _log_names() -> Iterator[str]:
    yield "log"
    yield from (f"log-{number}" for number in count(2))


def _keep_last_good(explainer: Explainer, keeper: BestExplainer) -> str:
    if math.isfinite(keeper.best):
        return "the best explainer before it"
    explainer.attention.eval()
    explainer.provenance = keeper.describe()
    storage.save(explainer, keeper.folder)
    return "the last good state"


def _check_untouched(backbone: Backbone) -> None:
    if fingerprint(backbone.module) != backbone.identity.fingerprint:
        raise TrainingError(
            f"the weights of {backbone.identity.name} changed during the training: something "
            "outside ttame trains the same object; train on a copy of it"
        )


def _best(explainer: Explainer, keeper: BestExplainer) -> Explainer:
    if not math.isfinite(keeper.best):
        raise TrainingError(
            "no validation photo could be read, so there is no best explainer; check the data"
        )
    best = storage.load(keeper.folder, backbone=explainer.backbone)
    explainer.provenance = best.provenance
    explainer.attention.load_state_dict(best.attention.state_dict())
    explainer.attention.to("cpu")
    if best.provenance["training"]["epoch"] == 0:
        # The guard's findings of the epochs that were worse than the start must not be lost.
        collapse = keeper.describe()["training"]["collapse"]
        explainer.provenance["training"]["collapse"] = collapse
        storage.save(explainer, keeper.folder)
        _log.warning(
            "no epoch was better than the start on the validation photos: the explainer is the "
            "start, untrained; more photos may help"
        )
    return explainer.eval()
