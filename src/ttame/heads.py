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


class TiedHead(Head):
    """Filters predicted from the classifier's weight rows: classes share what is learnt.

    The filter of class k at layer l is ``U_l (w_k - mean w) / |w_k - mean w|`` with one linear map
    ``U_l`` per layer; classes that the training photos do not hold work as well. Labels of a
    multi-label classifier do not compete: their rows are not centred.

    Args:
        channels: Channels C_l of each layer's feature map.
        class_weights: The classifier's final linear weights, (K, D); not stored with the head.
        centred: Whether the mean row is subtracted.

    Example:
        >>> head = TiedHead([4, 8], torch.randn(10, 8))
        >>> [tuple(part.shape) for part in head(None)]
        [(10, 12), (10,)]
    """

    name = "tied"
    directions: Tensor

    def __init__(
        self, channels: Sequence[int], class_weights: Tensor, centred: bool = True
    ) -> None:
        super().__init__()
        rows = class_weights.float()
        directions = nn.functional.normalize(rows - rows.mean(dim=0) if centred else rows, dim=1)
        self.register_buffer("directions", directions, persistent=False)
        self.maps = nn.ModuleList(
            nn.Linear(directions.shape[1], width, bias=False) for width in channels
        )
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict the classes' filters (*S, C); one bias for all classes (*S)."""
        directions = self.directions if classes is None else self.directions[classes]
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
        fitting = [index for index, weight in enumerate(weights) if len(weight) == weight.shape[1]]
        if not fitting:
            return False
        for index, weight in enumerate(weights):
            if index == fitting[-1]:
                nn.init.eye_(weight)
            else:
                nn.init.normal_(weight, std=scale)
        return True


HEADS = ("tied", "independent")


def make_head(name: str, backbone: Backbone) -> Head:
    """Make the head called ``name`` for a backbone's layers and classes.

    Raises:
        UnknownNameError: There is no head of that name.
        BackboneError: A tied head is asked for and the classifier has no final linear layer.
    """
    channels = [shape[0] for shape in backbone.feature_shapes]
    if name == IndependentHead.name:
        return IndependentHead(channels, backbone.num_classes)
    if name != TiedHead.name:
        raise unknown_name("head", name, HEADS)
    rows = backbone.class_weights
    if rows is None:
        raise BackboneError(
            f"the tied head reads the rows of the classifier's final linear layer and "
            f"{backbone.identity.name!r} has none; use head='independent'"
        )
    # Softmax does not feel what all rows share; a sigmoid does.
    return TiedHead(channels, rows, backbone.activation == "softmax")
