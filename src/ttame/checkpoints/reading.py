"""Reading a PyTorch Lightning checkpoint file: its parts, sorted, and nothing of it run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttame.backbone.weights import read_plain
from ttame.errors import StorageError

MECHANISM = "generic.attn_mech."
BODY = "generic.body."

# What Lightning writes beside weights and settings: it concerns the training, not the explainer.
_TRAINING_ONLY = frozenset(
    {
        "epoch",
        "global_step",
        "pytorch-lightning_version",
        "optimizer_states",
        "lr_schedulers",
        "callbacks",
        "loops",
        "hparams_name",
        "hparams_type",
        "datamodule_hparams_name",
        "datamodule_hparams_type",
        "datamodule_hyper_parameters",
        "MixedPrecision",
        "MixedPrecisionPlugin",
        "NativeMixedPrecisionPlugin",
        "native_amp_scaling_state",
    }
)
_READ = frozenset({"state_dict", "hyper_parameters"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint file that make an explainer.

    Attributes:
        path: The file.
        mechanism: The attention mechanism's tensors by name, without ``generic.attn_mech.``.
        body: The classifier's tensors by name, without ``generic.body.``.
        settings: ``hyper_parameters``, any values.
        notes: Epoch, step and Lightning's version, where they are plain values.
    """

    path: Path
    mechanism: dict[str, Tensor]
    body: dict[str, Tensor]
    settings: Mapping[Any, Any]
    notes: dict[str, int | str]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file by torch's restricted unpickler, which runs no code from it.

    Raises:
        StorageError: The file is missing or damaged, holds more than tensors and plain values, is
            no such checkpoint, or holds weights that are not understood.
    """
    path = Path(path)
    if not path.is_file():
        raise StorageError(f"expected a checkpoint file at {path}, found none")
    content = read_plain(
        path,
        "where you trust the file's origin, save its `state_dict` and `hyper_parameters` alone, as "
        "plain values, with torch.save and import that file",
    )
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    settings = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        came = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
        raise StorageError(
            f"expected a Lightning checkpoint with `state_dict` and `hyper_parameters` in {path}, "
            f"got {came or 'nothing'}"
        )
    if settings is not None and not isinstance(settings, Mapping):
        raise StorageError(
            f"expected `hyper_parameters` of {path} as a dict, got {type(settings).__name__}"
        )
    _tell_ignored(path, "entries", [k for k in content if k not in _READ | _TRAINING_ONLY])
    mechanism, body = _sorted_out(path, state)
    notes = {
        name: value
        for name in ("epoch", "global_step", "pytorch-lightning_version")
        if isinstance(value := content.get(name), int | str)
    }
    return Checkpoint(path, mechanism, body, settings or {}, notes)


def digest(path: Path) -> str:
    """Return a file's SHA-256 as lower-case hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _sorted_out(
    path: Path, state: Mapping[Any, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Divide a state dict into mechanism and classifier."""
    parts: dict[str, dict[str, Tensor]] = {MECHANISM: {}, BODY: {}}
    others = []
    for name, value in state.items():
        prefix = next((prefix for prefix in parts if str(name).startswith(prefix)), None)
        if prefix is not None:
            parts[prefix][str(name)[len(prefix) :]] = _checked(path, name, value)
        elif str(name).startswith("generic."):
            raise StorageError(
                f"{path} has weights that are not understood: {name}; expected {MECHANISM}* and "
                f"{BODY}*"
            )
        else:
            others.append(name)
    if not parts[MECHANISM]:
        raise StorageError(
            f"expected the attention mechanism's weights as {MECHANISM}* in {path}, found none"
        )
    _tell_ignored(path, "weights", others)
    return parts[MECHANISM], parts[BODY]


def _checked(path: Path, name: object, value: object) -> Tensor:
    if not isinstance(value, Tensor) or not _plain(value):
        came = value.type() if isinstance(value, Tensor) else type(value).__name__
        raise StorageError(
            f"expected a dense tensor of real numbers as {name} of {path}, got {came}"
        )
    if not torch.isfinite(value).all():
        raise StorageError(f"{name} of {path} holds values that are not finite")
    return value


def _plain(value: Tensor) -> bool:
    odd = value.is_nested or value.is_quantized or value.is_meta or value.is_complex()
    return value.layout == torch.strided and not odd


def _tell_ignored(path: Path, what: str, names: list[Any], most: int = 3) -> None:
    if names:
        shown = ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
        _log.warning("%s holds %s that no explainer needs, ignored: %s", path, what, shown)
