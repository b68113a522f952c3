"""Fused attention written out, so that its matrices can be seen and its rules changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ttame.backbone.attention_calls import (
    MULTI_HEAD,
    SOFTMAX,
    apply_attention_mask,
    input_projections,
    repeat_groups,
    split_heads,
    strange_arguments,
)
from ttame.errors import BackboneError


class ExplicitAttention(TorchFunctionMode):
    """Compute every attention inside the context as ``softmax(q k^T / sqrt(d)) v``.

    It takes the place of ``F.scaled_dot_product_attention`` (timm, Hugging Face) and of
    ``F.multi_head_attention_forward`` (``torch.nn.MultiheadAttention``, torchvision), and sees the
    softmax where a classifier writes its attention out itself. The classifier is not touched: the
    context is a property of the calling thread and ends with it, after exceptions too. Results
    differ from the fused ones by rounding.

    Sub-classes say what happens with the attention matrices (:meth:`see`), with products
    (:meth:`product`), linear layers (:meth:`linear`) and all other functions (:meth:`other`).

    Example:
        >>> layer = torch.nn.MultiheadAttention(4, 2, batch_first=True).eval()
        >>> tokens = torch.ones(1, 3, 4)
        >>> with ExplicitAttention():
        ...     inside, _ = layer(tokens, tokens, tokens, need_weights=False)
        >>> torch.allclose(inside, layer(tokens, tokens, tokens)[0], atol=1e-6)
        True
    """

    def see(self, weights: Tensor) -> Tensor:
        """Take attention (B, heads, queries, keys) and return the one to go on with."""
        return weights

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply two matrices that both depend on the image."""
        return left @ right

    def linear(self, tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply a linear layer."""
        return F.linear(tokens, weight, bias)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call any other function."""
        return func(*args, **kwargs)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace attention; call all else as :meth:`other` says."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(**MULTI_HEAD.bind(*args, **kwargs).arguments)
        if func is F.linear:
            return self.linear(*args, **kwargs)
        if func in SOFTMAX:
            weights: Tensor = self.other(func, args, kwargs)
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            return self._seen(weights) if axis in (-1, weights.ndim - 1) else weights
        return self.other(func, args, kwargs)

    def _seen(self, weights: Tensor) -> Tensor:
        # A single query (attention pooling) is no self-attention between tokens.
        return self.see(weights) if weights.ndim == 4 and weights.shape[-2] > 1 else weights

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG002  # classifiers are in eval mode
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key, value = repeat_groups(query, key, value)
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = self.product(query * scale, key.transpose(-2, -1))
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            scores = apply_attention_mask(scores, attn_mask)
        weights = self.other(torch.softmax, (scores,), {"dim": -1})
        return self.product(self._seen(weights), value)

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        **rest: Any,
    ) -> tuple[Tensor, Tensor | None]:
        strange = strange_arguments(rest)
        if strange or need_weights or attn_mask is not None or query.ndim != 3:
            raise BackboneError(
                "the classifier uses torch.nn.MultiheadAttention in a way whose attention cannot "
                f"be recorded ({', '.join(strange) or 'masks, returned weights or no batch'})"
            )
        layers = input_projections(in_proj_weight, in_proj_bias, rest)
        parts = [
            split_heads(self.linear(tokens, *layer), num_heads)
            for tokens, layer in zip((query, key, value), layers, strict=True)
        ]
        mixed = self._attend(parts[0], parts[1], parts[2])  # (B, heads, T, d)
        output = self.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        return output, None
