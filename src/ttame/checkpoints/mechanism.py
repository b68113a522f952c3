"""The authors' attention mechanism under our names."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ttame.attention import BRANCHES, AttentionMechanism
from ttame.backbone.weights import listed_faults
from ttame.checkpoints.reading import MECHANISM
from ttame.errors import StorageError, unknown_name

# Of a vision transformer, the mechanism is the second part of a sequence.
_SECOND = "1."
_OURS = re.compile(r"branches\.(\d+)\.(conv|norm)\.(.+)")
_THEIRS = {"conv": "convs", "norm": "bns"}
# The forms of a branch that their code knows.
_FORMS = ("paper", "no-norm", "no-skip", "sigmoid", "identity")
# An `attention_version` that is the method's own name means the published form.
_PUBLISHED = ("tame", "ttame")
# A counter that evaluation does not read.
_COUNTER = "num_batches_tracked"

_log = logging.getLogger(__name__)


def branch_of(
    tensors: Mapping[str, Tensor], version: str | None, path: Path, branch: str | None = None
) -> str:
    """Tell the form of the layers' branches.

    A checkpoint without ``attention_version`` is of the published form where its names allow that.
    Names tell a form by themselves only where no other has the same parts.

    Args:
        tensors: The mechanism's tensors by name.
        version: ``attention_version``, or None.
        path: The file, for messages.
        branch: What the user says, one of the authors' forms; None tells it.

    Raises:
        UnknownNameError: There is no such branch.
        StorageError: It cannot be told.
    """
    if branch is not None:
        if branch not in _FORMS:
            raise unknown_name("branch", branch, _FORMS)
        return branch
    start = _sequence(tensors)
    parts = {name.removeprefix(start).split(".")[0] for name in tensors} & set(_THEIRS.values())
    fitting = [name for name in _FORMS if _parts(name) == parts]
    published = version is None or re.sub(r"[\W_]", "", version).lower() in _PUBLISHED
    if published and (version is not None or "paper" in fitting or not fitting):
        return "paper"
    if len(fitting) != 1:
        forms = " or ".join(fitting or _FORMS)
        raise StorageError(
            f"attention_version {version!r} of {path} is not known, and its weights do not tell "
            f"which form the branches have ({forms}); say it with branch= (--branch)"
        )
    _log.warning("the weights of %s have the form %r: taken as that", path, fitting[0])
    return fitting[0]


def num_classes_of(tensors: Mapping[str, Tensor], path: Path) -> int:
    """Return K of the fusion, a 1x1 convolution (K, C, 1, 1).

    Raises:
        StorageError: There is none: the mechanism has another head.
    """
    name = f"{_sequence(tensors)}fuser.weight"
    weight = tensors.get(name)
    if weight is None or weight.ndim != 4 or weight.shape[2:] != (1, 1):
        came = "none" if weight is None else f"{tuple(weight.shape)}"
        raise StorageError(
            f"expected the head of {path} to be a 1x1 convolution {MECHANISM}{name} of shape "
            f"(classes, channels, 1, 1), got {came}"
        )
    return weight.shape[0]


def mechanism_state(
    tensors: Mapping[str, Tensor], attention: AttentionMechanism, layers: Sequence[str], path: Path
) -> dict[str, Tensor]:
    """Return the state dict of our mechanism from the authors' tensors.

    Args:
        tensors: The authors' tensors by name, without ``generic.attn_mech.``.
        attention: The mechanism made for the classifier's layers, of the right form.
        layers: Names of these layers, for messages.
        path: The file, for messages.

    Raises:
        StorageError: Tensors are missing, not known or of another shape; they are named.
    """
    start = _sequence(tensors)
    own = attention.state_dict()
    theirs = {name: start + _renamed(name) for name in own}
    shapes = {
        name: (*value.shape, 1, 1) if name == "head.weight" else tuple(value.shape)
        for name, value in own.items()
    }
    missing = [n for n in own if theirs[n] not in tensors and not n.endswith(_COUNTER)]
    unknown = [name for name in tensors if name not in theirs.values()]
    wrong = [
        n for n in own if n not in missing and _shape(tensors, theirs[n]) not in (shapes[n], None)
    ]
    faults = listed_faults(
        {
            "missing": [MECHANISM + theirs[n] for n in missing],
            "not known": [MECHANISM + name for name in unknown],
            "of another shape": [
                f"{MECHANISM}{theirs[n]} is {_shape(tensors, theirs[n])} instead of {shapes[n]}"
                f"{_of_layer(n, layers)}"
                for n in wrong
            ],
        }
    )
    if faults:
        raise StorageError(
            f"the attention mechanism of {path} does not fit the branch {attention.branch!r} on "
            f"the layers {', '.join(layers)}: {'; '.join(faults)}"
        )
    return {
        name: tensors[theirs[name]].to(value.dtype).reshape(value.shape)
        if theirs[name] in tensors
        else value
        for name, value in own.items()
    }


def _sequence(tensors: Mapping[str, Tensor]) -> str:
    return _SECOND if any(name.startswith(_SECOND) for name in tensors) else ""


def _parts(branch: str) -> set[str]:
    """What a branch of that form is made of, in the authors' words."""
    with torch.device("meta"):  # no random numbers are drawn
        return {_THEIRS[name.split(".")[0]] for name in BRANCHES[branch](1).state_dict()}


def _renamed(name: str) -> str:
    """Return the authors' name of one of our tensors.

    Example:
        >>> _renamed("branches.2.norm.running_var"), _renamed("head.bias")
        ('bns.2.running_var', 'fuser.bias')
    """
    match = _OURS.fullmatch(name)
    if match is None:
        return name.replace("head.", "fuser.")
    return f"{_THEIRS[match[2]]}.{match[1]}.{match[3]}"


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _of_layer(name: str, layers: Sequence[str]) -> str:
    match = _OURS.fullmatch(name)
    return "" if match is None else f" (for layer {layers[int(match[1])]})"
