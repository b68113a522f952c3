"""T-TAME as a method among others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.errors import InputError
from ttame.methods.registry import Method

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer


def ttame_method(explainer: Explainer, name: str = "ttame", title: str = "T-TAME") -> Method:
    """Wrap an explainer as a method; the maps are the explanation's masks, in [0, 1].

    Args:
        explainer: Made for the very backbone that the method is then called with.
        name: Name in the results, where several explainers are compared.
        title: Title in tables.

    Returns:
        The method; called with another backbone it raises an InputError, because it would explain
        another classifier than the one that is scored.
    """

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
        title=title,
        function=function,
        paper="Ntrougkas et al., IEEE Access 2024, doi 10.1109/ACCESS.2024.3405788",
        needs=("explainer",),
        details=lambda _: {
            "layers": list(explainer.backbone.layers),
            "mask_form": explainer.mask_form,
        },
    )
