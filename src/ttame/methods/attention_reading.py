"""Which tokens of a vision transformer's last block its classifier reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch

from ttame.backbone.probe import probe_images
from ttame.errors import BackboneError
from ttame.methods.attention_blocks import attention_pass, named

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.backbone.module import ModuleBackbone
    from ttame.backbone.tokens import TokenGrid


class Reading(NamedTuple):
    """Which tokens of the last block a classifier reads.

    Attributes:
        prefix: Of each prefix token, whether it is read.
        patches: Whether the patches are.
        blocks: Number of attention matrices.
    """

    prefix: tuple[bool, ...]
    patches: bool
    blocks: int


# A text where the classifier has no attention that could be read: why.
_READINGS: WeakKeyDictionary[Backbone, Reading | str] = WeakKeyDictionary()


def reading(backbone: Backbone) -> Reading:
    """Find out which tokens the classifier reads, once per backbone.

    A row of the last block's attention has a gradient exactly where its token is read: one row
    where the class token is, the patches' rows where they are pooled. It is looked at on noise, so
    that it does not depend on any photo.

    Raises:
        BackboneError: As of :func:`attention_pass`, or the logits do not depend on the attention.
    """
    if backbone not in _READINGS:
        try:
            _READINGS[backbone] = _look(named(backbone))
        except BackboneError as error:
            _READINGS[backbone] = str(error)
    known = _READINGS[backbone]
    if isinstance(known, str):
        raise BackboneError(known)
    return known


def _look(backbone: ModuleBackbone) -> Reading:
    plan = backbone.preprocessing
    with torch.inference_mode(False), torch.enable_grad():
        noise = probe_images(plan.crop, plan.channels, backbone, 1)
        passed = attention_pass(backbone, noise, gradients=True)
        # Unlike weights, because the logits' plain sum may be constant.
        ramp = torch.linspace(1, 2, passed.logits.shape[1]).to(passed.logits)
        (gradient,) = torch.autograd.grad((passed.logits * ramp).sum(), passed.attention[-1:])
    rows = gradient[0].abs().sum(dim=(0, 2)) > 0
    if not rows.any():
        raise BackboneError(
            f"the logits of {backbone.identity.name} do not depend on its last attention block"
        )
    prefix = passed.tokens.prefix
    return Reading(tuple(rows[:prefix].tolist()), bool(rows[prefix:].any()), len(passed.attention))


def readout(backbone: Backbone, attention: Tensor, tokens: TokenGrid) -> Tensor:
    """Return the weights with which the classifier reads tokens: the mean over those it reads.

    Args:
        backbone: The classifier.
        attention: Its last matrix, (B, heads, T, T).
        tokens: Which tokens are patches.

    Returns:
        (B, T), rows sum to 1: one 1 for the class token, or equal shares of the pooled tokens.
    """
    read = reading(backbone)
    flags = attention.new_full((attention.shape[-1],), float(read.patches))
    flags[: tokens.prefix] = flags.new_tensor(read.prefix)
    return (flags / flags.sum()).expand(len(attention), -1)
