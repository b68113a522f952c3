"""Learning from a slow method: the attention mechanism foretells its maps from one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ttame.errors import BackboneError, InputError, first_line, unknown_name
from ttame.masking import resize
from ttame.methods.registry import get_method, methods
from ttame.normalisation import without_nan

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method

NO_TEACHER = "none"

# Relevance at the tokens half-way up is as faithful as at the patches (docs/faithfulness.md), costs
# half and is easier to foretell from the layers that are read.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"attnlrp": {"depth": 0.5}}


def find_teacher(name: str) -> Method | None:
    """Return the method that a training learns from, or None for ``"none"``.

    Raises:
        UnknownNameError: There is no such method.
        InputError: It explains nothing (a control), or a package that it needs is missing.

    Example:
        >>> find_teacher("attnlrp").options["depth"]
        0.5
    """
    if name == NO_TEACHER:
        return None
    known = methods()
    if name not in known:
        raise unknown_name("teacher", name, [NO_TEACHER, *known])
    if known[name].control:
        raise InputError(f"expected a teacher that explains, got the control {name!r}")
    return get_method(name, **_OPTIONS.get(name, {}))


def why_not(teacher: Method, backbone: Backbone, images: Tensor) -> str:
    """Say why a method cannot explain a classifier; empty if it can.

    Args:
        teacher: The method.
        backbone: The classifier.
        images: Some normalised input of it, (B, C, H, W).
    """
    classes = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    try:
        maps = teacher(backbone, images, classes)
    except BackboneError as error:
        return str(error)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # A method meets code here that nobody tried it on; a training must not end with it.
        return f"{type(error).__name__}: {first_line(error)}"
    return "" if maps.isfinite().all() else "its maps are not finite"


def with_other_classes(labels: Tensor, num_classes: int, others: int) -> Tensor:
    """Put other classes beside each label, drawn with equal chances from torch's generator.

    Maps of one class alone would teach neither what tells classes apart nor anything of classes
    that the photos do not hold.

    Args:
        labels: (B,) class indices.
        num_classes: K, at least 2.
        others: How many, at least 1; all where there are fewer.

    Returns:
        (B, 1 + others) class indices, no two alike in a row.

    Example:
        >>> with_other_classes(torch.tensor([0, 1]), 2, others=4)
        tensor([[0, 1],
                [1, 0]])
    """
    chances = torch.rand(len(labels), num_classes - 1, device=labels.device)
    drawn = chances.argsort(dim=1)[:, :others]
    own = labels[:, None]
    return torch.cat([own, drawn + (drawn >= own)], dim=1)


def taught_maps(
    teacher: Method, backbone: Backbone, images: Tensor, classes: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Let the teacher explain images; (B, n, *grid), constants for a training.

    A map with NaN or infinity becomes all zeros, of which nothing is learnt.
    """
    # What was made in inference mode cannot take part in a backward pass; its copy can.
    maps, _ = without_nan(teacher(backbone, images, classes).clone())
    return resize(maps, grid, antialias=True)
