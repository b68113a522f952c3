"""Transformer attribution by Chefer et al., CVPR 2021: relevance times gradient, rolled out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.backbone.attention_calls import SOFTMAX
from ttame.backbone.attention_paths import SUMS
from ttame.methods.attention_blocks import AttentionPass, attention_pass, recorded_pass
from ttame.methods.attention_reading import readout
from ttame.methods.attnlrp import RelevanceRules
from ttame.methods.registry import register

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone

_IN_PLACE = ("add_", "__iadd__")


@register(
    name="transformer_lrp",
    title="Transformer LRP (Chefer et al., CVPR 2021)",
    paper="Chefer, Gur and Wolf, CVPR 2021, arXiv 2012.09838",
    needs=("gradients", "attention"),
    cost="2 forward, 2 backward",
)
def transformer_lrp(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Roll out the gradient of the attention times its layer-wise relevance.

    ``C = M_L ... M_1`` with ``M_l = I + mean_heads(max(dy/dA_l * R_l, 0))``, where R_l is the
    relevance of the attention A_l for the class, see :class:`PositiveRules`; the last block stands
    on the left, as in rollout. As in the paper, the rows of M_l are not divided by their sum. The
    map is the row of C - I of the token that the classifier reads (the mean of rows where it pools
    several), at the patches: I gives every patch the same there, beside which small relevance would
    be lost to rounding.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w), at least 0, one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    passed = attention_pass(backbone, images, gradients=True)
    ruled = relevance_pass(backbone, images)
    start = readout(backbone, passed.attention[-1].detach(), passed.tokens)
    rows = []
    for column in classes.T:
        target = column.clone()
        pairs = zip(passed.gradients(target), attention_relevance(ruled, target), strict=True)
        effects = [(gradient * part).clamp(min=0).mean(dim=1) for gradient, part in pairs]
        rows.append(gained(start, effects))
    return passed.to_map(torch.stack(rows, dim=1))


def gained(start: Tensor, effects: Sequence[Tensor]) -> Tensor:
    """Multiply a row (B, T) with ``(I + E_L) ... (I + E_1) - I``.

    Example:
        >>> gained(torch.tensor([[1.0, 0.0]]), [torch.tensor([[[0.5, 0.2], [0.0, 0.0]]])])
        tensor([[0.5000, 0.2000]])
    """
    row = start.unsqueeze(1)
    gain = torch.zeros_like(row)
    for effect in reversed(effects):
        gain = gain + row @ effect + gain @ effect
    return gain.squeeze(1)


def relevance_pass(backbone: Backbone, images: Tensor) -> AttentionPass:
    """Classify images under :class:`PositiveRules`.

    Returns:
        The same logits and attention as of :func:`attention_pass`; attention times its gradient is
        its relevance.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    # All that depends on the image takes part in sums and products, in the first block too.
    return recorded_pass(backbone, images, PositiveRules(), from_images=True)


def attention_relevance(ruled: AttentionPass, classes: Tensor) -> list[Tensor]:
    """Return the relevance of every attention matrix, of 1 in all at one logit per image.

    Args:
        ruled: A pass under :class:`PositiveRules`.
        classes: (B,) class indices.

    Returns:
        One tensor (B, heads, T, T) per block, any sign, shallow to deep.
    """
    logits = ruled.logits.detach().gather(1, classes[:, None])[..., None, None]
    # A logit of 0 passes nothing on.
    logits = logits.where(logits != 0, 1)
    return [product / logits for product in ruled.products(classes)]


class PositiveRules(RelevanceRules):
    """Changes gradients so that input times gradient is the relevance of Chefer et al.

    Values stay what they are. Of each operation:

    - linear layers: only positive contributions count (equation 5), see :func:`positive_linear`;
    - sums of two things that depend on the image (skip connections): see :func:`balanced_sum`;
    - products of two such things: half the relevance to each, which is what the normalisation of
      the sums comes to there, as each of the two would have all of it;
    - softmax, layer and RMS norms and element-wise activations pass the relevance of each element
      to the same element; the paper's equations name no rule for them;
    - all else by the general rule (equation 2), ``R_j = sum_i x_j dy_i/dx_j R_i / y_i``, which is
      the plain gradient.

    Biases get no relevance, so all of it reaches the tokens, but for what meets an exact 0.
    """

    def linear(self, tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply a linear layer whose relevance follows positive contributions."""
        self._note(tokens)
        if not tokens.requires_grad:
            return F.linear(tokens, weight, bias)
        return positive_linear(tokens, weight, bias)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rules to softmax, norms and sums; leave the rest to AttnLRP's."""
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None or not first.requires_grad:
            return func(*args, **kwargs)
        if func in SOFTMAX or func is F.layer_norm or func is F.rms_norm:
            if func not in SOFTMAX:
                self._note(first)
            values = func(first.detach(), *args[1:], **kwargs)
            return _along(values, first, values / first.detach())
        second = args[1] if len(args) > 1 else None
        name = getattr(func, "__name__", "")
        if name in SUMS and not kwargs and isinstance(second, Tensor) and second.requires_grad:
            if first.shape != second.shape:
                return func(first, second)
            if name in _IN_PLACE:
                return first.copy_(balanced_sum(first.clone(), second))
            return balanced_sum(first, second)
        return super().other(func, args, kwargs)


def positive_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer; input times gradient is the relevance of positive contributions.

    ``R_j = sum_i z_ji / sum_j z_ji R_i`` over the ``z_ji = x_j w_ij`` above 0 (equation 5 of the
    paper). The bias gets nothing.

    Example:
        >>> x = torch.tensor([[1.0, 1.0, -1.0]], requires_grad=True)
        >>> output = positive_linear(x, torch.tensor([[3.0, -2.0, -1.0]]))
        >>> output.item(), (x * torch.autograd.grad(output, x)[0]).tolist()
        (2.0, [[1.5, 0.0, 0.5]])
    """
    values = F.linear(tokens.detach(), weight, bias)
    positive = F.linear(tokens.clamp(min=0), weight.clamp(min=0))
    positive = positive + F.linear(tokens.clamp(max=0), weight.clamp(max=0))
    return _along(values, positive, values / positive.detach())


def balanced_sum(left: Tensor, right: Tensor) -> Tensor:
    """Add two tensors (B, ...); input times gradient is relevance with a sum of one sign.

    Each gets its share of every element, ``R_u = u / (u + v) R``. Then, image by image, the sum of
    R_u becomes the share ``|sum R_u| / (|sum R_u| + |sum R_v|)`` of the sum of R, that of R_v the
    rest.

    Example:
        >>> left, right = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, -2.0]])
        >>> left.requires_grad_() is right.requires_grad_()
        False
        >>> balanced_sum(left, right).sum().backward()
        >>> (left * left.grad).sum().item(), (right * right.grad).sum().item()
        (1.5, 0.5)
    """
    result: Tensor = _BalancedSum.apply(left, right)
    return result


class _BalancedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left + right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        axes = tuple(range(1, gradient.ndim))
        left, right = ((part * gradient).sum(axes, keepdim=True) for part in ctx.saved_tensors)
        # R_u * |sum R_u| / (...) * sum R / sum R_u: the size is common, the sign each one's own.
        size = ((left + right) / (left.abs() + right.abs())).nan_to_num(0, 0, 0)
        scaled = gradient * size
        return torch.where(left < 0, -scaled, scaled), torch.where(right < 0, -scaled, scaled)


class _Along(torch.autograd.Function):
    """Gives ``values`` the gradient of ``slope * tensor``; where the slope is undefined, none."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, tensor: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(slope.nan_to_num(0, 0, 0))
        # A copy, because an in-place operation may follow.
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return None, gradients[0] * slope, None


def _along(values: Tensor, tensor: Tensor, slope: Tensor) -> Tensor:
    result: Tensor = _Along.apply(values, tensor, slope.detach())
    return result
