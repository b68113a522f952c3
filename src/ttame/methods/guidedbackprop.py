"""Guided backpropagation: only positive gradients pass the rectifiers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ttame.errors import BackboneError
from ttame.methods.input_gradients import input_gradients
from ttame.methods.registry import register

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone

# Every way to call a rectifier, with a function that has the same arguments and a signature.
_RECTIFIERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys([torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu], F.relu),
    F.relu6: F.relu6,
    **dict.fromkeys([F.hardtanh, F.hardtanh_], F.hardtanh),
}
_IN_PLACE = (torch.relu_, Tensor.relu_, F.hardtanh_)
_OTHERS: dict[Callable[..., Any], str] = {
    F.gelu: "GELU",
    F.silu: "SiLU",
    F.mish: "Mish",
    F.hardswish: "Hardswish",
    F.elu: "ELU",
    F.selu: "SELU",
    F.celu: "CELU",
    F.softplus: "Softplus",
    F.leaky_relu: "leaky ReLU",
    torch.prelu: "PReLU",
}


@register(
    name="guided_backprop",
    title="Guided backprop",
    paper="Springenberg et al., ICLR 2015 workshop, arXiv 1412.6806",
    needs=("gradients",),
    cost="1 forward, 1 backward",
)
def guided_backprop(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Take the gradient whose negative values are set to 0 at every ReLU: ``sum_c |g_c|``.

    ReLU6 is a rectifier too: nothing passes where it is saturated. Captum hooks ``nn.ReLU`` modules
    only; here functions count as well, and the classifier is not hooked.

    Args:
        backbone: A classifier whose activations are ReLU or ReLU6; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, H, W), not negative.

    Raises:
        BackboneError: It has no such activation, or another one as well, for which guided
            backpropagation is not defined.
    """
    rectifiers = GuidedRectifiers()
    with rectifiers:
        gradients = input_gradients(backbone, images, classes)
    name = backbone.identity.name
    if rectifiers.others:
        raise BackboneError(
            f"guided backpropagation is defined for ReLU only, and {name} has the activation "
            f"{', '.join(sorted(rectifiers.others))}"
        )
    if not rectifiers.seen:
        raise BackboneError(f"guided backpropagation needs a ReLU, and {name} has none")
    return gradients.abs().sum(dim=2)


class GuidedRectifiers(TorchFunctionMode):
    """Every ReLU and ReLU6 inside the context passes back positive gradients only.

    The context is a property of the calling thread and ends with it, after exceptions too.

    Attributes:
        seen: Number of rectifiers that were called.
        others: Names of activations that are no rectifiers.

    Example:
        >>> x = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
        >>> with GuidedRectifiers():
        ...     y = F.relu(x * 1, inplace=True)
        >>> (y * torch.tensor([3.0, -3.0, 3.0])).sum().backward()
        >>> x.grad
        tensor([3., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.others: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Take the place of rectifiers; note other activations; call the rest."""
        kwargs = kwargs or {}
        if func in _OTHERS:
            self.others.add(_OTHERS[func])
        if func not in _RECTIFIERS:
            return func(*args, **kwargs)
        values: dict[str, Any] = {
            "min_val": 0.0,
            "max_val": math.inf,
            "inplace": func in _IN_PLACE,
        }
        values |= _arguments(_RECTIFIERS[func], args, kwargs)
        if values["min_val"] != 0:
            self.others.add("Hardtanh")
        self.seen += 1
        inputs: Tensor = values["input"]
        result: Tensor = _Guided.apply(inputs, values["max_val"])
        # The caller may go on with what it passed.
        return inputs.copy_(result) if values["inplace"] else result


def _arguments(
    like: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Name the arguments of a call; those of ReLU6 are those of the Hardtanh from 0 to 6."""
    bound = inspect.signature(like).bind(*args, **kwargs)
    if like is F.hardtanh:
        bound.apply_defaults()
    limits = {"max_val": 6.0} if like is F.relu6 else {}
    return {**bound.arguments, **limits}


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, high: float) -> Tensor:
        ctx.save_for_backward((inputs > 0) & (inputs < high))
        return inputs.clamp(0, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (active,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * active, None
