"""Seeing the self-attention of a classifier while it runs, without changing one bit of it."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm)
MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_STRANGE = ("bias_k", "bias_v", "add_zero_attn", "key_padding_mask", "static_k", "static_v")


class SelfAttention(NamedTuple):
    """One self-attention between T tokens in one pass.

    Attributes:
        tokens: T.
        rows: Gives the attention of a slice of the tokens, (B, heads, n, T); rows sum to 1.
        values: Gives the values (B, heads, T, d); some have to be computed for it.
        mixed: What the attention returned, (B, T, heads * d), where it can be seen.
        projected: Weight of the linear layer that was applied with it, and its result.
    """

    tokens: int
    rows: Callable[[slice], Tensor]
    values: Callable[[], Tensor]
    mixed: Tensor | None = None
    projected: tuple[Tensor, Tensor] | None = None


class AttentionCalls(TorchFunctionMode):
    """Calls :meth:`see` for every self-attention that this thread computes in the context.

    Known are ``F.scaled_dot_product_attention`` (timm, Hugging Face),
    ``F.multi_head_attention_forward`` (``torch.nn.MultiheadAttention``, torchvision) and attention
    that a classifier writes out itself: a softmax over the last of four axes and the product of its
    result with the values. What the classifier computes stays as it is.

    Example:
        >>> class Counting(AttentionCalls):
        ...     count = 0
        ...     def see(self, attention):
        ...         self.count += 1
        >>> layer = torch.nn.MultiheadAttention(4, 2, batch_first=True).eval()
        >>> tokens = torch.ones(1, 3, 4)
        >>> with Counting() as calls:
        ...     _ = layer(tokens, tokens, tokens, need_weights=False)
        >>> calls.count
        1
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: Tensor | None = None  # of a softmax whose product with the values may come

    def see(self, attention: SelfAttention) -> None:
        """Take note of a self-attention; it is called right after it was computed."""

    def called(self, func: Callable[..., Any], args: Sequence[Any], result: Any) -> None:
        """Take note of any other call; ``args`` are its positional and its named arguments."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Make the call as it is, and look at it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        attention = self._attention(func, args, kwargs, result)
        if attention is None:
            self.called(func, (*args, *kwargs.values()), result)
        else:
            self.take(attention)
        return result

    def take(self, attention: SelfAttention) -> None:
        """Pass an attention on to :meth:`see`, unless it has a single token."""
        if attention.tokens > 1:
            self.see(attention)

    def _attention(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> SelfAttention | None:
        if func is F.scaled_dot_product_attention:
            return fused(result, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return multi_head(result[0], **MULTI_HEAD.bind(*args, **kwargs).arguments)
        weights = self._weights
        if func in SOFTMAX:
            square = result.ndim == 4 and result.shape[-1] == result.shape[-2]
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            self._weights = result if square and axis in (-1, 3) else None
        elif weights is not None and args and args[0] is weights:
            if func in _PRODUCTS:
                self._weights, value = None, args[1]
                return SelfAttention(
                    weights.shape[-1],
                    lambda rows: weights[:, :, rows],
                    lambda: value,
                    join_heads(result),
                )
            # A cast, a dropout, a mask of heads.
            passed_on = isinstance(result, Tensor) and result.shape == weights.shape
            self._weights = result if passed_on else weights
        return None


@contextmanager
def watching(model: nn.Module, calls: AttentionCalls) -> Iterator[None]:
    """Let ``calls`` see the self-attention of a classifier's passes in this thread.

    ``torch.nn.MultiheadAttention`` leaves its fast way, and so the last bits of its result, under
    any function mode: such layers are watched by hooks, with the mode switched off inside them.
    """
    owner = threading.get_ident()
    guards: list[Any] = []

    def enter(_module: nn.Module, _given: tuple[Any, ...]) -> None:
        if threading.get_ident() == owner:
            guards.append(torch._C.DisableTorchFunction())
            guards[-1].__enter__()

    def leave(module: Any, given: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        if threading.get_ident() != owner:
            return
        if guards:  # none where another hook failed before
            guards.pop().__exit__(None, None, None)
        attention = None if result is None else of_module(module, *given, **named)
        if attention is not None:
            calls.take(attention)

    handles = []
    try:
        for layer in model.modules():
            if isinstance(layer, nn.MultiheadAttention):
                handles.append(layer.register_forward_pre_hook(enter))
                # After an exception too: the mode must be on again.
                handles.append(
                    layer.register_forward_hook(leave, with_kwargs=True, always_call=True)
                )
        with calls:
            yield
    finally:
        for handle in handles:
            handle.remove()


def of_module(
    module: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,  # noqa: ARG001
    attn_mask: Tensor | None = None,
    **_: Any,
) -> SelfAttention | None:
    """Describe a call of ``torch.nn.MultiheadAttention``; None where it is no plain one."""
    if query.ndim != 3:
        return None
    if module.batch_first:
        query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    own = {name: getattr(module, name) for name in ("bias_k", "bias_v", "add_zero_attn")}
    separate = {f"{name}_proj_weight": getattr(module, f"{name}_proj_weight") for name in "qkv"}
    return multi_head(
        None,
        query,
        key,
        value,
        module.num_heads,
        module.in_proj_weight,
        module.in_proj_bias,
        module.out_proj.weight,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        **own,
        **separate,
    )


def fused(
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001  # classifiers are in eval mode
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> SelfAttention | None:
    """Describe a call of ``F.scaled_dot_product_attention``; None where it is no self-attention."""
    if query.ndim != 4 or query.shape[-2] != key.shape[-2] or is_causal:
        return None
    if enable_gqa:
        key, value = repeat_groups(query, key, value)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale

    def rows(tokens: slice) -> Tensor:
        scores = (query[:, :, tokens] * scale) @ key.transpose(-2, -1)
        if attn_mask is not None:
            whole = attn_mask.expand(*attn_mask.shape[:-2], query.shape[-2], key.shape[-2])
            scores = apply_attention_mask(scores, whole[..., tokens, :])
        return scores.softmax(dim=-1)

    return SelfAttention(query.shape[-2], rows, lambda: value, join_heads(result))


def multi_head(
    result: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    out_proj_weight: Tensor,
    **rest: Any,
) -> SelfAttention | None:
    """Describe a call of ``F.multi_head_attention_forward``, whose tokens are (T, B, C).

    Returns:
        None where it is no plain self-attention.
    """
    masked = rest.get("attn_mask") is not None
    if strange_arguments(rest) or masked or query.ndim != 3 or len(query) != len(key):
        return None
    layers = input_projections(in_proj_weight, in_proj_bias, rest)

    def heads(tokens: Tensor, place: int) -> Tensor:
        # Contiguous, or one product per image takes the place of a single large one.
        return split_heads(F.linear(tokens.contiguous(), *layers[place]), num_heads)

    def rows(tokens: slice) -> Tensor:
        asked = heads(query[tokens], 0)
        scores = asked @ heads(key, 1).transpose(-2, -1) / math.sqrt(asked.shape[-1])
        return scores.softmax(dim=-1)

    projected = None if result is None else (out_proj_weight, result)
    return SelfAttention(len(query), rows, lambda: heads(value, 2), projected=projected)


def strange_arguments(given: Mapping[str, Any]) -> list[str]:
    """Name the arguments with which a multi-head attention is no plain self-attention."""
    return [name for name in _STRANGE if given.get(name) is not None and given[name] is not False]


def input_projections(
    weight: Tensor | None, bias: Tensor | None, separate: Mapping[str, Any]
) -> list[tuple[Tensor, Tensor | None]]:
    """Return the linear layers of queries, keys and values of a multi-head attention.

    Args:
        weight: All three in one; None where they are in ``separate``, as ``q_proj_weight``, ...
        bias: All three in one, or None.
        separate: Further arguments of the attention.
    """
    weights = [separate[f"{n}_proj_weight"] for n in "qkv"] if weight is None else weight.chunk(3)
    return list(zip(weights, [None] * 3 if bias is None else bias.chunk(3), strict=True))


def repeat_groups(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Give every head of grouped queries keys and values of its own."""
    groups = query.shape[-3] // key.shape[-3]
    return key.repeat_interleave(groups, dim=-3), value.repeat_interleave(groups, dim=-3)


def apply_attention_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Add a mask to attention scores, or hide what a boolean one does not let through."""
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def split_heads(parts: Tensor, num_heads: int) -> Tensor:
    """Take the heads of tokens (T, B, heads * d) apart: (B, heads, T, d)."""
    return parts.reshape(*parts.shape[:2], num_heads, -1).permute(1, 2, 0, 3)


def join_heads(mixed: Tensor) -> Tensor:
    """Lay the heads of (B, heads, T, d) side by side: (B, T, heads * d)."""
    return mixed.transpose(1, 2).flatten(2)
