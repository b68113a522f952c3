"""The linear way from what an attention mixes to the sum that its block adds it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.backbone.attention_calls import AttentionCalls, SelfAttention

_SUMS = ("add", "__add__", "__radd__", "add_", "__iadd__")
_SCALINGS = ("mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply")


class AttentionPaths(AttentionCalls):
    """Follows the result of every attention to the skip connection, on one pass.

    The way is: heads side by side, a linear layer, perhaps a factor per channel (layer scale), and
    the sum with the block's input. What does not change a value, such as dropout at rest, is passed
    over; anything else ends the way.

    Attributes:
        weights: One matrix (C, heads * d) per attention, in the order of execution; None where the
            way is another one.
        tokens: The number of tokens of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor | None] = []
        self.tokens: list[int] = []
        self._mixed: Tensor | None = None  # waits for its linear layer
        self._followed: Tensor | None = None  # on its way from there to the sum
        self._weight: Tensor | None = None

    def see(self, attention: SelfAttention) -> None:
        """Start to follow an attention."""
        self.weights.append(None)
        self.tokens.append(attention.value.shape[-2])
        self._mixed, self._followed = attention.mixed, None
        if attention.projected is not None:
            self._weight, self._followed = attention.projected

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], result: Any) -> None:
        """Go one step further where the call takes what is followed."""
        if not isinstance(result, Tensor):
            return
        if self._mixed is not None and func is F.linear:
            if _same(args[0], self._mixed):
                self._mixed, self._followed, self._weight = None, result, args[1]
            return
        if self._followed is None or not any(arg is self._followed for arg in args):
            return
        name = getattr(func, "__name__", "")
        others = [arg for arg in args if arg is not self._followed]
        if name in _SUMS:
            self.weights[-1] = self._weight
            self._followed = None
        elif name in _SCALINGS and self._scale(others):
            self._followed = result
        else:
            self._followed = result if _same(result, self._followed) else None

    def _scale(self, others: list[Any]) -> bool:
        """Multiply the way's rows by a factor per channel; False where the factor is none."""
        factor = others[0] if others else None
        if self._weight is None or not isinstance(factor, Tensor):
            return False
        if factor.numel() != len(self._weight) or factor.shape[-1] != factor.numel():
            return False
        self._weight = self._weight * factor.reshape(-1, 1)
        return True


def _same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same tokens, batch first or tokens first."""
    if left.numel() != right.numel() or left.shape[-1] != right.shape[-1]:
        return False
    if left.ndim == right.ndim == 3 and left.shape[0] != right.shape[0]:
        right = right.transpose(0, 1)
    return torch.equal(left.reshape(right.shape), right)
