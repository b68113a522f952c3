"""The linear way from what an attention mixes to what its block gives on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttame.backbone.attention_calls import AttentionCalls, SelfAttention
from ttame.backbone.outputs import first_tensor

SUMS = ("add", "__add__", "__radd__", "add_", "__iadd__")
_SCALINGS = ("mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply")


class AttentionPaths(AttentionCalls):
    """Follows the result of every block's attention to the block's output, on one pass.

    The way is: heads side by side, a linear layer, perhaps a factor per channel (layer scale), the
    sum with the block's input, and from there to its output nothing but further sums. What does not
    change a value, such as dropout at rest, is passed over; anything else ends the way.

    Attributes:
        weights: One matrix (C, heads * d) per attention, in the order of execution; None where the
            way is another one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor | None] = []
        self._input: Tensor | None = None  # of the block
        self._mixed: Tensor | None = None  # waits for its linear layer
        self._followed: Tensor | None = None  # on its way from there to the sum
        self._stream: Tensor | None = None  # from there to the block's output
        self._weight: Tensor | None = None

    @contextmanager
    def through(self, blocks: Iterable[nn.Module]) -> Iterator[None]:
        """Follow the pass in this context through the blocks."""

        def enter(_block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._input = first_tensor((given, named))
            self._mixed = self._followed = self._stream = None

        def leave(_block: nn.Module, _given: Any, result: Any) -> None:
            output = first_tensor(result)
            whole = self._stream is not None and output is not None
            if self.weights and not (whole and _same(output, self._stream)):
                self.weights[-1] = None

        handles: list[Any] = []
        try:
            for block in blocks:
                handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(block.register_forward_hook(leave))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def see(self, attention: SelfAttention) -> None:
        """Start to follow an attention."""
        self.weights.append(None)
        self._mixed, self._followed, self._stream = attention.mixed, None, None
        if attention.projected is not None:
            self._weight, self._followed = attention.projected

    def called(self, func: Callable[..., Any], args: Sequence[Any], result: Any) -> None:
        """Go one step further where the call takes what is followed."""
        if not isinstance(result, Tensor):
            return
        if self._mixed is not None and func is F.linear:
            if _same(args[0], self._mixed):
                self._mixed, self._followed, self._weight = None, result, args[1]
            return
        name = getattr(func, "__name__", "")
        if _among(self._followed, args):
            self._step(name, [arg for arg in args if arg is not self._followed], result)
        elif _among(self._stream, args) and (name in SUMS or _same(result, self._stream)):
            self._stream = result

    def _step(self, name: str, others: list[Any], result: Tensor) -> None:
        before, self._followed = self._followed, None
        if name in SUMS:
            if any(_same(other, self._input) for other in others):
                self._stream = result
                self.weights[-1] = self._weight
        elif (name in _SCALINGS and self._scale(others)) or _same(result, before):
            self._followed = result

    def _scale(self, others: list[Any]) -> bool:
        """Multiply the way's rows by a factor per channel; False where the factor is none."""
        factor = others[0] if others else None
        if self._weight is None or not isinstance(factor, Tensor):
            return False
        if factor.numel() != len(self._weight) or factor.shape[-1] != factor.numel():
            return False
        self._weight = self._weight * factor.reshape(-1, 1)
        return True


def _among(tensor: Tensor | None, args: Sequence[Any]) -> bool:
    return tensor is not None and any(arg is tensor for arg in args)


def _same(left: Any, right: Tensor | None) -> bool:
    """Whether two tensors hold the same tokens, batch first or tokens first."""
    if left is right:
        return left is not None
    if not isinstance(left, Tensor) or right is None or left.numel() != right.numel():
        return False
    if left.shape[-1] != right.shape[-1]:
        return False
    if left.ndim == right.ndim == 3 and left.shape[0] != right.shape[0]:
        right = right.transpose(0, 1)
    return torch.equal(left.reshape(right.shape), right)
