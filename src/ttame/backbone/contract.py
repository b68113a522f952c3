"""What every backbone is: a frozen classifier that gives logits and feature maps in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

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

    Attributes:
        identity: Source, name and weight fingerprint.
        preprocessing: The way from a photo to the input.
        num_classes: K, the number of logits.
        class_names: K names, or None where they are not known.
        layers: Names of the layers that give the feature maps, shallow to deep.
        feature_shapes: (C, H, W) of each layer's feature map at the preprocessing's input size.
        recipe: Arguments of :func:`ttame.load_backbone`, besides weights, that rebuild it.
        weights_file: The local weight file that it was loaded from, or None.
    """

    identity: BackboneIdentity
    preprocessing: Preprocessing
    num_classes: int
    class_names: tuple[str, ...] | None
    layers: tuple[str, ...]
    feature_shapes: tuple[tuple[int, int, int], ...]
    recipe: dict[str, Any]
    weights_file: str | None

    @abstractmethod
    def forward(self, images: Tensor) -> BackboneOutput:
        """Classify ``images`` (B, C, H, W) and return their feature maps, in one pass."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Classify ``images`` (B, C, H, W) without collecting feature maps; returns (B, K)."""

    @abstractmethod
    def candidate_layers(self) -> list[LayerInfo]:
        """List every layer that can serve as a feature map, in the order of execution."""

    @abstractmethod
    def with_layers(self, layers: tuple[str, ...]) -> Backbone:
        """Return a backbone over the same classifier that reads other layers."""

    @property
    @abstractmethod
    def class_weights(self) -> Tensor | None:
        """Rows of the final linear classifier, (K, D), or None where there is none."""

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The user's classifier itself."""

    def train(self, mode: bool = True) -> Backbone:  # noqa: ARG002
        """Stay in eval mode: batch statistics and dropout of the classifier never move."""
        return super().train(False)
