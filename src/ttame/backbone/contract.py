"""What every backbone is: a frozen classifier that gives logits and feature maps in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.outputs import first_tensor
from ttame.errors import BackboneError

if TYPE_CHECKING:
    from ttame.images.preprocessing import Preprocessing


class BackboneOutput(NamedTuple):
    """One forward pass: logits (B, K) and one feature map (B, C_l, H_l, W_l) per layer."""

    logits: Tensor
    features: tuple[Tensor, ...]


@dataclass(frozen=True)
class BackboneIdentity:
    """Which classifier this is.

    Attributes:
        source: What :func:`ttame.load_backbone` was given, or ``"module"`` for an object.
        name: The classifier's own name, for people.
        fingerprint: SHA-256 over all weights and buffers, as lower-case hexadecimal.
    """

    source: str
    name: str
    fingerprint: str


class LayerInfo(NamedTuple):
    """A layer whose output can serve as a feature map, with its shape (C, H, W)."""

    name: str
    shape: tuple[int, int, int]


class Backbone(nn.Module, ABC):
    """A frozen classifier: always in eval mode, no gradients to its weights, not one bit changed.

    A subclass of your own sets ``preprocessing``, ``num_classes``, ``layers`` and
    ``feature_shapes``, and writes :meth:`forward`; all else has a default. Layers that are named
    as submodules of :attr:`module` serve the methods that look inside (Grad-CAM) too.

    Attributes:
        identity: Source, name and weight fingerprint.
        preprocessing: The way from a photo to the input.
        num_classes: K, the number of classes, at least 2.
        class_names: K names, or None where they are not known.
        activation: What turns logits into probabilities: ``"softmax"``, or ``"sigmoid"`` where any
            number of classes may be there at once.
        logits_part: Which part of what ``module`` returns holds the logits; None finds it.
        layers: Names of the layers that give the feature maps, shallow to deep.
        feature_shapes: (C, H, W) of each layer's feature map at the preprocessing's input size.
        recipe: Arguments of :func:`ttame.load_backbone`, besides weights, that rebuild it.
        weights_file: The local weight file that it was loaded from, or None.
        class_token_product: Every patch token is multiplied by the class token first.
    """

    preprocessing: Preprocessing
    num_classes: int
    layers: tuple[str, ...]
    feature_shapes: tuple[tuple[int, int, int], ...]

    def __init__(self) -> None:
        super().__init__()
        self.class_names: tuple[str, ...] | None = None
        self.activation = "softmax"
        self.logits_part: str | int | None = None
        self.recipe: dict[str, Any] = {"source": "module"}
        self.weights_file: str | None = None
        self.class_token_product = False

    @cached_property
    def identity(self) -> BackboneIdentity:
        """Source, name and weight fingerprint."""
        return BackboneIdentity("module", type(self).__name__, fingerprint(self.module))

    @abstractmethod
    def forward(self, images: Tensor) -> BackboneOutput:
        """Classify ``images`` (B, C, H, W) and return their feature maps, in one pass."""

    def logits(self, images: Tensor) -> Tensor:
        """Classify ``images`` (B, C, H, W) without collecting feature maps; returns (B, K)."""
        output: BackboneOutput = self(images)
        return output.logits

    def candidate_layers(self) -> list[LayerInfo]:
        """List every layer that can serve as a feature map, in the order of execution."""
        return [LayerInfo(*item) for item in zip(self.layers, self.feature_shapes, strict=True)]

    def computed_layers(self) -> list[LayerInfo]:
        """List feature maps that are no submodule's output but computed beside the pass."""
        return []

    def weights_changed(self) -> None:
        """Compute anew what was derived from the classifier's weights.

        For who changes the weights of a copy; see :mod:`ttame.metrics.randomisation`.
        """

    def with_layers(self, layers: tuple[str, ...]) -> Backbone:
        """Return a backbone over the same classifier that reads other layers.

        Raises:
            BackboneError: It reads fixed layers.
        """
        if tuple(layers) == self.layers:
            return self
        raise BackboneError(
            f"{self.identity.name} reads the layers {', '.join(self.layers)} and no others, got "
            f"{', '.join(layers)}; write with_layers() for it"
        )

    def to_map(self, layer: str, output: Any, image: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Bring what a candidate layer returned, or the gradient to it, to (B, C, H, W).

        Args:
            layer: Name of one of :meth:`candidate_layers`.
            output: What a forward hook on that layer sees, or a gradient of the same shape.
            image: Height and width of the images of that call.

        Raises:
            BackboneError: The output holds no feature map.
        """
        tensor = first_tensor(output)
        if tensor is None or tensor.ndim != 4:
            came = type(output).__name__ if tensor is None else f"shape {tuple(tensor.shape)}"
            raise BackboneError(
                f"expected a feature map (B, C, H, W) from layer {layer!r}, got {came}"
            )
        return tensor

    def with_class_token_product(self, wanted: bool = True) -> Backbone:
        """Return a backbone over the same classifier with or without the class-token product.

        Raises:
            BackboneError: There is no class token.
        """
        if wanted == self.class_token_product:
            return self
        raise BackboneError(
            f"{self.identity.name} cannot switch class_token_product to {wanted}: "
            f"{type(self).__name__} does not say which token is the class token"
        )

    @property
    def class_weights(self) -> Tensor | None:
        """Rows of the final linear classifier, (K, D), or None where there is none."""
        return None

    @property
    def plain_layers(self) -> tuple[int, ...]:
        """Places of layers that are no submodule's output, see :meth:`computed_layers`.

        Their cells are read as they are: sign and length mean something.
        """
        return ()

    @property
    def module(self) -> nn.Module:
        """The user's classifier itself."""
        return self

    def train(self, mode: bool = True) -> Backbone:  # noqa: ARG002
        """Stay in eval mode: batch statistics and dropout of the classifier never move."""
        return super().train(False)
