"""Heads: what turns fused features into one map per class."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ttame.errors import BackboneError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ttame.backbone.contract import Backbone


class Head(nn.Module, ABC):
    """Gives the fusion filters of classes: weights over all channels of all layers, and a bias."""

    name: str

    @abstractmethod
    def forward(self, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return filters and biases.

        Args:
            classes: Class indices of any shape S, or None for all K classes.

        Returns:
            Weights (*S, C) over the C concatenated channels and biases (*S); S is (K,) for None.
        """


class IndependentHead(Head):
    """The paper's head: every class has a filter of its own, a 1x1 convolution to K channels.

    Args:
        channels: Channels C_l of each layer's feature map.
        num_classes: K.

    Example:
        >>> head = IndependentHead([4, 8], num_classes=10)
        >>> [tuple(part.shape) for part in head(torch.tensor([[1], [7]]))]
        [(2, 1, 12), (2, 1)]
    """

    name = "independent"

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        total = sum(channels)
        bound = 1 / math.sqrt(total)  # PyTorch's own start of a 1x1 convolution
        self.weight = nn.Parameter(torch.empty(num_classes, total).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_classes).uniform_(-bound, bound))

    def forward(self, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pick the classes' own filters (*S, C) and biases (*S)."""
        if classes is None:
            return self.weight, self.bias
        return self.weight[classes], self.bias[classes]


def class_directions(rows: Tensor, centred: bool = True) -> Tensor:
    """Return ``(w_k - mean w) / |w_k - mean w|`` for weight rows (K, D), in float32.

    Labels of a multi-label classifier do not compete: their rows are not ``centred``.
    """
    rows = rows.float()
    return nn.functional.normalize(rows - rows.mean(dim=0) if centred else rows, dim=1)


class DirectedHead(Head):
    """A head that reads the classifier's own weight rows; classes without photos work as well.

    Args:
        class_weights: The classifier's final linear weights, (K, D); not stored with the head.
        centred: Whether the mean row is subtracted, see :func:`class_directions`.
    """

    directions: Tensor

    def __init__(self, class_weights: Tensor, centred: bool = True) -> None:
        super().__init__()
        self.centred = centred
        self.register_buffer("directions", class_directions(class_weights, centred), False)

    def directions_of(self, classes: Tensor | None) -> Tensor:
        """Pick the classes' directions (*S, D)."""
        return self.directions if classes is None else self.directions[classes]


class TiedHead(DirectedHead):
    """Filters predicted from the classifier's weight rows: classes share what is learnt.

    The filter of class k at layer l is ``U_l (w_k - mean w) / |w_k - mean w|`` with one linear map
    ``U_l`` per layer.

    Args:
        channels: Channels C_l of each layer's feature map.
        class_weights: See :class:`DirectedHead`.
        centred: See :class:`DirectedHead`.

    Example:
        >>> head = TiedHead([4, 8], torch.randn(10, 8))
        >>> [tuple(part.shape) for part in head(None)]
        [(10, 12), (10,)]
    """

    name = "tied"

    def __init__(
        self, channels: Sequence[int], class_weights: Tensor, centred: bool = True
    ) -> None:
        super().__init__(class_weights, centred)
        self.maps = nn.ModuleList(
            nn.Linear(self.directions.shape[1], width, bias=False) for width in channels
        )
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict the classes' filters (*S, C); one bias for all classes (*S)."""
        directions = self.directions_of(classes)
        weight = torch.cat([project(directions) for project in self.maps], dim=-1)
        return weight, self.bias.expand(weight.shape[:-1])

    @torch.no_grad()
    def start_as_cam(self, scale: float = 1e-3) -> bool:
        """Start with the class activation map of the deepest layer whose channels fit.

        ``U`` becomes the identity at that layer and small random numbers of size ``scale`` at the
        others.

        Returns:
            Whether a layer fitted; if none did, all maps keep their random start.
        """
        weights = [project.get_parameter("weight") for project in self.maps]
        place = cam_place([len(weight) for weight in weights], self.directions)
        if place is None:
            return False
        for index, weight in enumerate(weights):
            if index == place:
                nn.init.eye_(weight)
            else:
                nn.init.normal_(weight, std=scale)
        return True


class SharedHead(DirectedHead):
    """The class activation map plus one learnt filter that all classes share.

    The filter of class k is the classifier's own direction at the deepest layer whose channels fit
    (there the map is its class activation map), and ``v_l`` at every layer, the same for all
    classes. What is learnt is what makes a cell matter whatever the class: few numbers, so few
    photos do, and no class can be learnt worse than another. It starts as the class activation map.

    Args:
        channels: Channels C_l of each layer's feature map; one of them is D.
        class_weights: See :class:`DirectedHead`.
        centred: See :class:`DirectedHead`.

    Raises:
        BackboneError: No layer is as wide as the classifier's final linear layer.

    Example:
        >>> head = SharedHead([4, 8], torch.randn(10, 8))
        >>> [tuple(part.shape) for part in head(None)]
        [(10, 12), (10,)]
        >>> torch.equal(head(None)[0][:, 4:], head.directions)
        True
    """

    name = "shared"

    def __init__(
        self, channels: Sequence[int], class_weights: Tensor, centred: bool = True
    ) -> None:
        super().__init__(class_weights, centred)
        place = cam_place(channels, self.directions)
        if place is None:
            raise BackboneError(
                "the shared head adds to the class activation map of a layer as wide as the "
                f"classifier's final linear layer ({self.directions.shape[1]} channels), the "
                f"layers have {', '.join(map(str, channels))}; read the last feature map too, or "
                "use head='tied'"
            )
        before = sum(channels[:place])
        self._margins = (before, sum(channels) - before - channels[place])
        self.shared = nn.Parameter(torch.zeros(sum(channels)))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add the shared filter to the classes' directions (*S, C); one bias for all (*S)."""
        weight = nn.functional.pad(self.directions_of(classes), self._margins) + self.shared
        return weight, self.bias.expand(weight.shape[:-1])


def cam_place(channels: Sequence[int], directions: Tensor) -> int | None:
    """Return which layer's class activation map the class directions (K, D) give: the deepest of D.

    Example:
        >>> cam_place([8, 8, 4], torch.zeros(10, 8)), cam_place([4], torch.zeros(10, 8))
        (1, None)
    """
    fitting = [place for place, width in enumerate(channels) if width == directions.shape[1]]
    return fitting[-1] if fitting else None


HEADS = ("tied", "shared", "independent")


def make_head(name: str, backbone: Backbone) -> Head:
    """Make the head called ``name`` for a backbone's layers and classes.

    Raises:
        UnknownNameError: There is no head of that name.
        BackboneError: A tied or shared head is asked for and the classifier has no final linear
            layer, or for the shared one no layer is as wide as it.
    """
    channels = [shape[0] for shape in backbone.feature_shapes]
    if name == IndependentHead.name:
        return IndependentHead(channels, backbone.num_classes)
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    rows = backbone.class_weights
    if rows is None:
        raise BackboneError(
            f"the {name} head reads the rows of the classifier's final linear layer and "
            f"{backbone.identity.name!r} has none; use head='independent'"
        )
    # Softmax does not feel what all rows share; a sigmoid does.
    directed = TiedHead if name == TiedHead.name else SharedHead
    return directed(channels, rows, backbone.activation == "softmax")
