"""A backbone over any nn.Module: hooks on named layers, for one call at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ttame.backbone.contract import Backbone, BackboneIdentity, BackboneOutput, LayerInfo
from ttame.backbone.contributions import CONTRIBUTIONS, Contributions, find_contributions
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.hooks import listening
from ttame.backbone.layers import Candidate, default_layers
from ttame.backbone.layout import class_token_product, to_map
from ttame.backbone.linear import linear_weight
from ttame.backbone.outputs import first_tensor, logits_of, two_classes
from ttame.backbone.probe import Probe, probe, probe_images
from ttame.backbone.tokens import check_class_token, token_layers
from ttame.errors import BackboneError, InputError, first_line, unknown_name

if TYPE_CHECKING:
    from ttame.images.preprocessing import Preprocessing

_log = logging.getLogger(__name__)


class ModuleBackbone(Backbone):
    """Any classifier that is an nn.Module, read by forward hooks.

    The classifier is frozen: eval mode, no gradients to its weights. Gradients to the images flow.

    Args:
        model: The classifier; takes images (B, C, H, W).
        preprocessing: The way from a photo to its input; ``crop`` is the size that is probed.
        layers: Names of the layers to read, shallow to deep; None chooses them.
        class_names: K names, or None.
        source: What the user gave to get this classifier.
        name: Its own name; None takes the name of its class.
        weights_file: Path of the weights, where they came from a file.
        recipe: Arguments of :func:`ttame.load_backbone` that rebuild it, without the weights and
            the following.
        logits: Which part of the classifier's output holds its logits; None finds it.
        multi_label: Any number of classes may be there at once: probabilities by sigmoid.

    Raises:
        BackboneError: The classifier gives no logits or no feature maps, or a named layer is none.
        InputError: A layer is unknown, or the number of class names is not K.

    Example:
        >>> from ttame.images.preprocessing import Preprocessing
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        ...                       nn.Flatten(), nn.Linear(4, 2))
        >>> backbone = ModuleBackbone(model, Preprocessing(crop=(8, 8)), layers=["1"])
        >>> output = backbone(torch.zeros(5, 3, 8, 8))
        >>> output.logits.shape, output.features[0].shape
        (torch.Size([5, 2]), torch.Size([5, 4, 6, 6]))
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        layers: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        source: str = "module",
        name: str | None = None,
        weights_file: str | None = None,
        recipe: dict[str, Any] | None = None,
        logits: str | int | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        images = probe_images(preprocessing.crop, preprocessing.channels, model)
        self.probe: Probe = probe(model, images, logits)
        self.classifier = model.requires_grad_(False).eval()
        self.contributions: Contributions | None = None
        self._no_contributions: str | None = None
        self.preprocessing = preprocessing
        self.logits_part = logits
        self.num_classes = max(self.probe.num_logits, 2)
        if self.one_logit and multi_label:
            raise InputError(
                "expected several logits of a multi-label classifier, got one, which is shown as "
                "two classes, negative and positive; leave multi_label out"
            )
        if self.one_logit and class_names is None:
            class_names = ("negative", "positive")
        self.activation = "sigmoid" if multi_label else "softmax"
        if class_names is not None and len(class_names) != self.num_classes:
            raise InputError(
                f"expected {self.num_classes} class names, "
                f"{'the negative first' if self.one_logit else 'one for each logit'}, "
                f"got {len(class_names)}"
            )
        self.class_names = None if class_names is None else tuple(class_names)
        self.identity = BackboneIdentity(source, name or type(model).__name__, fingerprint(model))
        rebuilt = recipe or {"source": source}
        self.recipe = {**rebuilt, "logits": logits, "multi_label": multi_label}
        self.weights_file = weights_file
        self._read(layers)
        self.train(False)

    def _read(self, layers: Sequence[str] | None) -> None:
        """Choose the layers whose feature maps are returned."""
        if not self.probe.candidates:
            height, width = self.preprocessing.crop
            raise BackboneError(
                f"{type(self.classifier).__name__} has no layer with a feature map larger than "
                f"1 x 1 for images of {height} x {width} pixels"
            )
        if layers is None:
            computed = tuple(layer.name for layer in self.computed_layers())
            layers = (*default_layers(self.probe.candidates), *computed)
        if not layers:
            raise InputError("expected at least one layer, got none; None chooses the layers")
        known = {candidate.name: candidate for candidate in self.probe.candidates}
        shapes = {candidate.name: candidate.shape for candidate in self.probe.candidates}
        for layer in layers:
            if layer == CONTRIBUTIONS and layer not in known:
                why = self._find_contributions()
                if why is not None:
                    raise BackboneError(f"there is no layer {layer!r} here: {why}")
                continue
            if layer in self.probe.rejected:
                why = self.probe.rejected[layer]
                raise BackboneError(
                    f"layer {layer!r} gives no feature map: {why}; `candidate_layers()` and "
                    "`ttame layers` list those that do"
                )
            if layer not in known:
                raise unknown_name("layer", layer, (*known, CONTRIBUTIONS))
        chosen = tuple(known[layer] for layer in layers if layer in known)
        if self.class_token_product:
            check_class_token(self.classifier, chosen)
        if len(set(layers)) != len(layers):
            raise InputError(f"expected different layers, got {', '.join(layers)}")
        self._chosen: tuple[Candidate, ...] = chosen
        self.layers = tuple(layers)
        if self.contributions is not None:
            shapes.setdefault(CONTRIBUTIONS, self.contributions.shape)
        self.feature_shapes = tuple(shapes[layer] for layer in layers)

    def _find_contributions(self) -> str | None:
        """Prepare the layer of contributions, once; returns why there is none, or None."""
        if self.contributions is None and self._no_contributions is None:
            images = probe_images(self.preprocessing.crop, self.preprocessing.channels, self)
            try:
                self.contributions = find_contributions(
                    self.classifier, images, token_layers(self), self.probe.classifier
                )
            except Exception as error:  # whatever it is, all other layers can be read
                self._no_contributions = first_line(error)
                if not isinstance(error, BackboneError):
                    _log.debug("looking for the contributions failed", exc_info=True)
        return self._no_contributions

    def forward(self, images: Tensor) -> BackboneOutput:
        """Classify images and return their feature maps, in one pass.

        Args:
            images: The classifier's own input (B, C, H, W).

        Returns:
            Logits (B, K) and one feature map (B, C_l, H_l, W_l) per layer.

        Raises:
            InputError: The images have a wrong shape, or the classifier refuses their size.
        """
        wanted = {candidate.name: candidate.needs_copy for candidate in self._chosen}
        contributions = self.contributions if self.plain_layers else None
        features = {}
        with ExitStack() as stack:
            outputs = stack.enter_context(listening(self.classifier, wanted))
            if contributions is not None:
                contributed = stack.enter_context(contributions.watching(self.classifier))
            logits = self.logits(images)
        size = (images.shape[2], images.shape[3])
        if contributions is not None:
            features[CONTRIBUTIONS] = contributed(size)
        bring = class_token_product if self.class_token_product else to_map
        for candidate in self._chosen:
            if candidate.name not in outputs:
                raise BackboneError(f"layer {candidate.name!r} was not called for images of {size}")
            features[candidate.name] = bring(outputs[candidate.name], candidate.layout, size)
        return BackboneOutput(logits, tuple(features[layer] for layer in self.layers))

    def logits(self, images: Tensor) -> Tensor:
        """Classify images (B, C, H, W) without collecting feature maps; returns (B, K)."""
        self._check(images)
        if self.classifier.training:
            self.classifier.eval()  # the user may have switched the shared classifier
        try:
            output = self.classifier(images)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            refusal = self._refusal(error, images)
            if refusal is None:
                raise
            raise refusal from error
        return logits_of(output, images.shape[0], self.logits_part)

    def candidate_layers(self) -> list[LayerInfo]:
        """List every layer that can serve as a feature map, in the order of execution."""
        return [LayerInfo(candidate.name, candidate.shape) for candidate in self.probe.candidates]

    def computed_layers(self) -> list[LayerInfo]:
        """List the layer of contributions, where the classifier is a transformer that has one."""
        if any(candidate.name == CONTRIBUTIONS for candidate in self.probe.candidates):
            return []  # a submodule of that name goes first
        self._find_contributions()
        found = self.contributions
        return [] if found is None else [LayerInfo(CONTRIBUTIONS, found.shape)]

    def weights_changed(self) -> None:
        """Compute the contributions anew, where they are read."""
        self.contributions = self._no_contributions = None
        if self.plain_layers:
            self._read(self.layers)

    def to_map(self, layer: str, output: Any, image: tuple[int, int]) -> Tensor:
        """Bring what a candidate layer returned, or the gradient to it, to (B, C, H, W).

        Args:
            layer: Name of one of :meth:`candidate_layers`.
            output: What a forward hook on that layer sees, or a gradient of the same shape.
            image: Height and width of the images of that call.

        Raises:
            UnknownNameError: The layer is not one of the candidates.
            BackboneError: The output holds no feature map.
        """
        known = {candidate.name: candidate for candidate in self.probe.candidates}
        if layer not in known:
            raise unknown_name("layer", layer, known)
        tensor = first_tensor(output)
        if tensor is None:
            raise BackboneError(
                f"expected a tensor from layer {layer!r}, got {type(output).__name__}"
            )
        return to_map(tensor, known[layer].layout, image)

    def with_layers(self, layers: Sequence[str]) -> ModuleBackbone:
        """Return a backbone over the same classifier that reads other layers."""
        other = self._twin()
        other._read(layers)
        return other

    def with_class_token_product(self, wanted: bool = True) -> ModuleBackbone:
        """Return a backbone over the same classifier with or without the class-token product.

        With it, every patch token of the layers is multiplied by the class token, channel by
        channel, before the tokens are laid out as a grid.

        Raises:
            BackboneError: The classifier has no class token, or a layer does not give it.
        """
        if wanted == self.class_token_product:
            return self
        other = self._twin()
        other.class_token_product = wanted
        other.recipe = {k: v for k, v in self.recipe.items() if k != "class_token_product"}
        if wanted:
            other.recipe["class_token_product"] = True
        other._read(self.layers)
        return other

    def _twin(self) -> ModuleBackbone:
        other = type(self).__new__(type(self))
        nn.Module.__init__(other)
        for name, value in vars(self).items():
            if name not in nn.Module().__dict__:
                setattr(other, name, value)
        for name, child in self.named_children():
            setattr(other, name, child)
        return other.train(False)  # type: ignore[return-value]

    @property
    def class_weights(self) -> Tensor | None:
        """Rows of the final linear classifier, (K, D) float32, or None where there is none."""
        found = [linear_weight(self.classifier.get_submodule(n)) for n in self.probe.classifier]
        weights = [weight.detach().float() for weight in found if weight is not None]
        if not weights:
            return None
        rows = torch.stack(weights).mean(dim=0)
        return two_classes(rows, dim=0) if self.one_logit else rows

    @property
    def plain_layers(self) -> tuple[int, ...]:
        """Place of the layer of contributions, where it is read."""
        own = {candidate.name for candidate in self._chosen}
        return tuple(place for place, name in enumerate(self.layers) if name not in own)

    @property
    def one_logit(self) -> bool:
        """Whether the classifier gives one logit, which is shown as two classes."""
        return self.probe.num_logits == 1

    @property
    def module(self) -> nn.Module:
        """The user's classifier itself."""
        return self.classifier

    def _check(self, images: Tensor) -> None:
        channels = self.preprocessing.channels
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != channels:
            came = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images)
            raise InputError(
                f"expected images of shape (B, {channels}, H, W), normalised as the classifier "
                f"takes them, got {came}; a single image needs a batch axis: images[None]"
            )
        if not images.is_floating_point():
            raise InputError(
                f"expected images of a floating type, got {images.dtype}; `preprocessing` turns "
                "8-bit photos into the classifier's input"
            )

    def _refusal(self, error: Exception, images: Tensor) -> InputError | None:
        """Say what is wrong with images that the classifier refuses; None where it is not they."""
        weight = next(self.classifier.parameters(), images)
        if weight.device != images.device:
            return InputError(
                f"expected images on {weight.device}, where the classifier is, "
                f"got {images.device}; move one with .to(...)"
            )
        size = (images.shape[2], images.shape[3])
        if size == self.probe.image_size:
            return None
        expected = " x ".join(str(side) for side in self.probe.image_size)
        return InputError(
            f"the classifier refuses images of {size[0]} x {size[1]} pixels (it is known to take "
            f"{expected}): {first_line(error)}"
        )
