"""Replacing what goes into or comes out of a layer during one call, and leaving no trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ttame.backbone.outputs import logits_of
from ttame.errors import BackboneError, first_line

if TYPE_CHECKING:
    from ttame.backbone.module import ModuleBackbone

_Change = Callable[[Tensor], Tensor]


@contextmanager
def replacing(
    model: nn.Module, layer: str, *, inputs: _Change | None = None, output: _Change | None = None
) -> Iterator[None]:
    """Change the first tensor that enters or leaves a layer, for calls made by this thread.

    Args:
        model: The module that holds the layer.
        layer: Its name.
        inputs: From the first tensor that the layer is given to the one it gets.
        output: From the first tensor that it returns to the one that is returned.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with replacing(model, "0", output=lambda tensor: tensor + 1):
        ...     model(torch.zeros(1))
        tensor([1.])
    """
    owner = threading.get_ident()

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if inputs is None or threading.get_ident() != owner:
            return None
        if args:
            return (inputs(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: inputs(kwargs[first])}

    def after(_module: nn.Module, _args: Any, result: Any) -> Any:
        if output is None or threading.get_ident() != owner:
            return None
        if isinstance(result, tuple):
            return (output(result[0]), *result[1:])
        return output(result)

    module = model.get_submodule(layer)
    handles = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def stacked_logits(backbone: ModuleBackbone, images: Tensor, copies: int) -> Tensor:
    """Classify where a layer's output is replaced by ``copies`` outputs, one below the other.

    Args:
        backbone: With that replacement in place.
        images: (B, C, H, W).
        copies: How many times B the tokens or maps behind the layer are.

    Returns:
        (copies * B, K).

    Raises:
        BackboneError: What comes behind the layer relies on the number of images.
    """
    model = backbone.module.eval()
    try:
        return logits_of(model(images), copies * len(images), backbone.logits_part)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, BackboneError) as error:
        raise BackboneError(
            f"{backbone.identity.name} cannot classify {copies} outputs of a layer at once, which "
            f"this method needs: {first_line(error)}"
        ) from error
