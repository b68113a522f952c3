"""A backbone as a user would write it by hand, from the contract alone."""

from __future__ import annotations

from torch import Tensor, nn

from tiny_backbone import tiny_classifier
from ttame import Backbone, BackboneOutput, Preprocessing


class OwnBackbone(Backbone):
    """The tiny classifier of five classes, read at its last two stages."""

    def __init__(self, layers: tuple[str, ...] = ("model.1", "model.2")) -> None:
        super().__init__()
        self.model: nn.Module = tiny_classifier()
        self.preprocessing = Preprocessing(
            crop=(32, 32), resize=None, mean=(0.5,) * 3, std=(0.25,) * 3
        )
        self.num_classes = 5
        self.layers, self.feature_shapes = layers, ((12, 8, 8), (16, 4, 4))

    def forward(self, images: Tensor) -> BackboneOutput:
        """Classify images and return the maps of both stages."""
        first = self.model[1](self.model[0](images))
        second = self.model[2](first.clone())
        return BackboneOutput(self.model[3:](second), (first, second))

    @property
    def class_weights(self) -> Tensor:
        """The rows of the last layer."""
        return self.model[5].weight
