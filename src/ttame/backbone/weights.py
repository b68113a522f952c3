"""Safe reading of local weight files: safetensors or plain tensors, never code."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ttame.errors import BackboneError, StorageError, first_line

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_REASON = re.compile(r"WeightsUnpickler error: (.+)")
_ADVICE = "pass weights=FILE to use a local file, or pretrained=False for random weights"


@dataclass(frozen=True)
class WeightFile:
    """Tensors of a weight file by name, and the file's own notes.

    Attributes:
        path: Where it was read.
        state: Tensors by parameter name.
        metadata: The safetensors header's notes; empty for other files.
    """

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_weights(path: str | Path | WeightFile) -> WeightFile:
    """Read a safetensors file or a torch state dict without running any code from it.

    Args:
        path: The file. Of a torch checkpoint, the entry ``state_dict``, ``model`` or
            ``model_state_dict`` is taken where there is one; leading ``module.`` is removed. What
            was read already is returned as it is.

    Raises:
        StorageError: The file is missing, damaged, holds no tensors, or holds more than tensors.
    """
    if isinstance(path, WeightFile):
        return path
    path = Path(path)
    if not path.is_file():
        raise StorageError(f"expected a weight file at {path}, found none")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _read_torch(path), {}
    if not state:
        raise StorageError(f"expected named tensors in {path}, found none")
    return WeightFile(path, _unprefixed(state), metadata)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} is no readable safetensors file: {error}") from error


def read_plain(path: Path, advice: str) -> Any:
    """Read a ``torch.save`` file of tensors and plain values, by torch's restricted unpickler.

    Args:
        path: The file; nothing in it is run.
        advice: What to do where the file holds more than that, for the message.

    Raises:
        StorageError: The file is damaged, or holds more; what was refused is named.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _refused(path, error)
        if not refused:
            # The rest of torch's message tells how to load the file with its code.
            reason = next(iter(_REASON.findall(str(error))), type(error).__name__)
            raise StorageError(f"{path} is no readable torch file: {reason}") from error
        raise StorageError(
            f"{path} holds more than tensors and plain values ({', '.join(refused)}), and loading "
            f"it could run code; nothing of it was run; {advice}"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise StorageError(f"{path} is no readable torch file: {first_line(error)}") from error


def _refused(path: Path, error: pickle.UnpicklingError) -> list[str]:
    """Name the classes and functions that a file asks for and the restricted unpickler refuses."""
    try:
        # Takes the pickle apart without running it.
        found = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # files of other formats, damaged files
        found = []
    return found or _GLOBAL.findall(str(error))[:1]


def _read_torch(path: Path) -> dict[str, Tensor]:
    content = read_plain(path, "save `model.state_dict()` as safetensors and pass that file")
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise StorageError(f"expected a state dict in {path}, got {type(content).__name__}")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copy a state dict into a model whose names and shapes it must match exactly.

    Values are converted to the model's own types, so float16 files give float32 weights.

    Args:
        model: Receives the weights.
        state: Tensors by name.
        origin: Where they come from, for the message.

    Raises:
        BackboneError: Names are missing or left over, or shapes differ; some are named.
    """
    own = model.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    check_fit(
        type(model).__name__,
        origin,
        {
            "missing": [name for name in own if name not in state],
            "not known": [name for name in state if name not in own],
            "of another shape": shapes,
        },
    )
    model.load_state_dict(dict(state))


def check_fit(model: str, origin: str, faults: Mapping[str, Sequence[str]]) -> None:
    """Refuse weights that do not fit.

    Args:
        model: Name of the model's class.
        origin: Where the weights come from.
        faults: By what is wrong with them, the weights it is wrong with.

    Raises:
        BackboneError: There are faults; some are named.
    """
    found = listed_faults(faults)
    if found:
        raise BackboneError(f"the weights of {origin} do not fit {model}: {'; '.join(found)}")


def listed_faults(faults: Mapping[str, Sequence[str]], most: int = 3) -> list[str]:
    """Say what is wrong with which weights, naming some of them; nothing where there are none.

    Example:
        >>> listed_faults({"missing": ["a", "b", "c", "d"], "not known": []})
        ['missing: a, b, c and 1 more']
    """
    return [
        f"{what}: {', '.join(names[:most])}"
        + (f" and {len(names) - most} more" if len(names) > most else "")
        for what, names in faults.items()
        if names
    ]


@contextmanager
def downloading(source: str, advice: str = _ADVICE) -> Iterator[None]:
    """Turn whatever goes wrong while fetching pretrained weights into one clear error.

    Args:
        source: What is fetched, for the message.
        advice: What to do without, for the message.

    Raises:
        BackboneError: The weights cannot be fetched.
    """
    try:
        yield
    except Exception as error:  # hubs raise errors of many libraries
        raise BackboneError(
            f"cannot fetch the pretrained weights of {source}: {first_line(error)}; {advice}"
        ) from error
