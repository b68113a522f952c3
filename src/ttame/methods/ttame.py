"""Explainers as methods among others."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from ttame.errors import InputError
from ttame.explainer import Explainer, mask_settings
from ttame.heads import DirectedHead, class_directions
from ttame.methods.registry import Method
from ttame.methods.trained import TRAINED
from ttame.normalisation import AS_GIVEN

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


def ttame_method(explainer: Explainer, name: str = "ttame") -> Method:
    """Wrap an explainer as a method; the maps are the explanation's masks, in [0, 1].

    Args:
        explainer: Made for the very backbone that the method is then called with.
        name: Name in the results; one of :data:`ttame.methods.trained.TRAINED` brings its title and
            paper, any other is its own title.

    Returns:
        The method; called with another backbone it raises an InputError, because it would explain
        another classifier than the one that is scored. Only ``rebind`` leads to a changed copy of
        the classifier, see :func:`rebound`.
    """
    known = TRAINED.get(name)
    copies: WeakKeyDictionary[Backbone, Method] = WeakKeyDictionary()

    def rebind(backbone: Backbone) -> Method:
        if backbone not in copies:
            copies[backbone] = ttame_method(rebound(explainer, backbone), name)
        return copies[backbone]

    def function(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
        own = explainer.backbone.identity.fingerprint
        if backbone is not explainer.backbone and backbone.identity.fingerprint != own:
            raise InputError(
                f"the explainer explains {explainer.backbone.identity.name!r}, got the backbone "
                f"{backbone.identity.name!r} with other weights; call it with explainer.backbone"
            )
        masks: Tensor = explainer(images, classes).masks
        return masks

    return Method(
        name=name,
        title=known.title if known else name,
        function=function,
        paper=known.paper if known else TRAINED["ttame"].paper,
        needs=("explainer",),
        normalisation=AS_GIVEN,
        details=lambda _: {
            "layers": list(explainer.backbone.layers),
            **mask_settings(explainer),
        },
        rebind=rebind,
    )


@torch.inference_mode(False)
@torch.no_grad()
def rebound(explainer: Explainer, backbone: Backbone) -> Explainer:
    """Put the trained attention mechanism over a changed copy of its classifier.

    Every trained parameter stays as it is. What the head reads from its classifier, the rows of the
    final linear layer, it reads from the copy.

    Args:
        explainer: Made for the classifier; left exactly as it was.
        backbone: The changed copy, with the same layers and classes.

    Returns:
        An explainer of the copy.
    """
    from ttame.backbone.registry import load_backbone

    attention = deepcopy(explainer.attention)
    weights = backbone.class_weights
    head = attention.head
    if isinstance(head, DirectedHead) and weights is not None:
        head.directions = class_directions(weights, head.centred)
    own = explainer.backbone
    copied = load_backbone(backbone, layers=own.layers, class_token_product=own.class_token_product)
    return Explainer(
        copied,
        attention,
        explainer.mask_form,
        explainer.provenance,
        explainer.smoothing,
        explainer.upsampling,
        explainer.detail,
    ).eval()
