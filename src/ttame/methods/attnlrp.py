"""AttnLRP: relevance propagated through attention, as input times a modified gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.backbone.tokens import token_blocks
from ttame.errors import BackboneError, InputError
from ttame.methods.attention_blocks import AttentionPass, Recording, named, recorded_pass
from ttame.methods.attention_reading import reading
from ttame.methods.registry import register
from ttame.methods.replacing import replacing

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone

_PRODUCTS = ("matmul", "__matmul__", "bmm", "mul", "__mul__", "__rmul__", "multiply")
_QUOTIENTS = ("div", "__truediv__", "true_divide")
_ACTIVATIONS = ("gelu", "silu", "relu", "tanh", "mish", "hardswish", "elu", "leaky_relu")
_GATES = ("sigmoid", "rsqrt")


@register(
    name="attnlrp",
    title="AttnLRP",
    paper="Achtibat et al., ICML 2024, arXiv 2402.05602",
    needs=("gradients", "attention"),
    cost="1 forward, 1 backward",
    options={"gamma": 0.0, "depth": 0.0},
)
def attnlrp(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    gamma: float = 0.0,
    depth: float = 0.0,
) -> Tensor:
    """Propagate the relevance of a class logit back to the patch embeddings.

    The rules of the paper, see :class:`RelevanceRules`, stated as gradients: the relevance of a
    patch is the sum of token times gradient over its channels, at the tokens that enter the first
    block or a later one. Positive and negative relevance are kept.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        gamma: 0 is the epsilon rule in linear layers. The gamma rule (for example 0.05), at several
            times the cost, damps noise; the paper uses it in vision transformers, with a weight
            chosen for each.
        depth: Share of the blocks that relevance is not taken through, in [0, 1). At 0 it is that
            of the patch embeddings, as in the paper; at 0.5 the backward pass costs half.

    Returns:
        (B, n, h, w), any sign, one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, has no self-attention between all its
            patches or, for a depth above 0, no blocks side by side.
        InputError: The depth is not in [0, 1).
    """
    if not 0 <= depth < 1:
        raise InputError(f"expected a depth of at least 0 and less than 1, got {depth}")
    rules = RelevanceRules(gamma)
    passed, tokens = _passed(backbone, images, rules, depth)
    with torch.inference_mode(False), torch.enable_grad():
        relevances = []
        for column in classes.T:
            target = passed.logits.gather(1, column.clone()[:, None]).sum()
            (gradient,) = torch.autograd.grad(target, tokens, retain_graph=True)
            relevances.append((tokens * gradient).sum(dim=-1).detach())
    return passed.to_map(torch.stack(relevances, dim=1))


def _passed(
    backbone: Backbone, images: Tensor, rules: RelevanceRules, depth: float
) -> tuple[AttentionPass, Tensor]:
    """Classify images; return the pass and the tokens whose relevance is asked for."""
    if depth == 0:
        passed = recorded_pass(backbone, images, rules, from_images=True)
        return passed, rules.embeddings(rules.seen[0].shape[-1])
    entering: list[Tensor] = []

    def start(tokens: Tensor) -> Tensor:
        entering.append(tokens.detach().requires_grad_())
        return entering[0]

    module = named(backbone)
    count = reading(backbone).blocks
    first = token_blocks(module, count)[int(depth * count)]
    with replacing(module.module, first, inputs=start):
        return recorded_pass(backbone, images, rules), entering[0]


class RelevanceRules(Recording):
    """Changes gradients so that input times gradient is the relevance of AttnLRP.

    Values stay what they are. Of each operation:

    - softmax: ``R_in = x (R_out - s sum(R_out))``, its plain gradient times its input;
    - products of two things that depend on the image: half the relevance to each;
    - layer and RMS norms: the divisor is a constant, so relevance passes through;
    - element-wise activations: ``f(x) / x`` is a constant, so relevance passes through;
    - gates (sigmoid): a constant, so relevance goes to what is gated;
    - linear layers: the epsilon rule (plain gradient), or the gamma rule where gamma > 0.

    Biases keep the share of relevance that is theirs.
    """

    def __init__(self, gamma: float = 0.0) -> None:
        super().__init__(gradients=True)
        self.gamma = gamma
        self.entering: list[Tensor] = []

    def see(self, weights: Tensor) -> Tensor:
        """Keep a matrix, of which no gradient is asked."""
        self.seen.append(weights)
        return weights

    def embeddings(self, tokens: int) -> Tensor:
        """Return what entered the first block, (B, ``tokens``, C).

        Raises:
            BackboneError: No tokens of this number were seen before the first attention.
        """
        for tensor in self.entering:
            if tensor.ndim == 3 and tensor.shape[1] == tokens:
                return tensor
        raise BackboneError(
            f"expected {tokens} tokens in a norm or linear layer before the first attention; "
            "AttnLRP does not know this classifier's embedding"
        )

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Give half the relevance to each factor."""
        return _halved(left @ right)

    def linear(self, tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply a linear layer whose relevance follows the gamma rule."""
        self._note(tokens)
        if self.gamma == 0 or not tokens.requires_grad:
            return F.linear(tokens, weight, bias)
        return gamma_linear(tokens, weight, bias, self.gamma)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the rules to norms, activations, gates, products and quotients."""
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None or not first.requires_grad:
            return func(*args, **kwargs)
        if func is F.layer_norm or func is F.rms_norm:
            self._note(first)
            return (_layer_norm if func is F.layer_norm else _rms_norm)(*args, **kwargs)
        if name in _ACTIVATIONS and not kwargs.get("inplace"):
            values = func(first.detach(), *args[1:], **kwargs)
            return first * (values / first.detach()).nan_to_num(0, 0, 0)
        if name in _GATES:
            return func(first.detach(), *args[1:], **kwargs)
        second = args[1] if len(args) > 1 else None
        if isinstance(second, Tensor) and second.requires_grad:
            if name in _PRODUCTS:
                return _halved(func(*args, **kwargs))
            if name in _QUOTIENTS:
                return func(first, second.detach(), **kwargs)
        return func(*args, **kwargs)

    def _note(self, tensor: Tensor) -> None:
        if not self.seen and tensor.requires_grad:
            self.entering.append(tensor)


def gamma_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None, gamma: float) -> Tensor:
    """Apply a linear layer; input times gradient favours contributions of the output's sign.

    A contribution ``z_ij = x_i w_ij`` (and the bias) of the sign of output j counts 1 + gamma
    times: ``R_i = sum_j (z_ij + gamma z_ij^s) / sum_i (...) R_j``, with z^s = z where it has the
    sign of the output and 0 elsewhere.

    Example:
        >>> x = torch.tensor([[1.0, 1.0]], requires_grad=True)
        >>> output = gamma_linear(x, torch.tensor([[3.0, -2.0]]), None, 1.0)
        >>> output.item(), (x * torch.autograd.grad(output, x)[0]).tolist()
        (1.0, [[1.5, -0.5]])
    """
    values = F.linear(tokens, weight, bias).detach()
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    plus, minus = tokens.clamp(min=0), tokens.clamp(max=0)
    none = None if bias is None else torch.zeros_like(bias)
    same = F.linear(plus, up, none if bias is None else bias.clamp(min=0)) + F.linear(minus, down)
    against = F.linear(plus, down, none if bias is None else bias.clamp(max=0))
    against = against + F.linear(minus, up)
    raised = F.linear(tokens, weight, bias) + gamma * torch.where(values > 0, same, against)
    # |raised| is never less than |values|, so the share is in [0, 1].
    share = torch.where(values == 0, torch.zeros_like(values), values / raised.detach())
    return raised * share


def _halved(values: Tensor) -> Tensor:
    return 0.5 * values + 0.5 * values.detach()


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    values = _rms_norm(input - input.mean(dim=axes, keepdim=True), normalized_shape, weight, eps)
    return values if bias is None else values + bias


def _rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    small = torch.finfo(input.dtype).eps if eps is None else eps
    values = input / (input.square().mean(dim=axes, keepdim=True) + small).sqrt().detach()
    return values if weight is None else values * weight
