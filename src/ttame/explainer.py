"""The explainer: a frozen backbone and the attention mechanism trained on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ttame import masking
from ttame.activation import probabilities
from ttame.attention import AttentionMechanism
from ttame.classes import ClassRequest, parse_classes, resolve_class
from ttame.detail import check_detail, with_detail
from ttame.errors import BackboneError, InputError, unknown_name
from ttame.explanation import Explanation, concatenate
from ttame.heads import DirectedHead, TiedHead, make_head

_log = logging.getLogger(__name__)

# Weights of a head above which its size is told: the paper's for ResNet-50 has 3.6 million.
_LARGE_HEAD = 10_000_000

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone
    from ttame.images.dataset import Broken
    from ttame.images.listing import Photo


class Explainer(nn.Module):
    """Classifies images and explains any class, in one forward pass of the classifier.

    No state is kept between calls. Calls compute no gradients.

    Args:
        backbone: The frozen classifier.
        attention: The attention mechanism made for the backbone's layers.
        mask_form: How maps become masks: ``"minmax"``, ``"ranks"`` or ``"sigmoid"``.
        provenance: How the explainer came to be; stored with it.
        smoothing: Standard deviation, in cells, of the Gaussian that smooths maps on their way to
            masks; 0 for none.
        upsampling: How masks come to the size of the image: ``"bilinear"`` leaves them on the grid
            of the maps, to be resized by whoever shows them; with ``"nearest"`` they have the
            image's size already, every cell a rectangle of one value (before ``detail``).
        detail: How much of the photo's edges is mixed into the masks, from 0 to 1, see
            :func:`ttame.detail.with_detail`; above 0 they have the image's size already, 200 MB
            for a thousand classes at 224 pixels.

    Example:
        >>> import torch, ttame
        >>> backbone = ttame.load_backbone("timm/test_resnet", pretrained=False)
        >>> explainer = ttame.new_explainer(backbone)
        >>> explanation = explainer(torch.zeros(2, 3, 160, 160), classes=[7, 8])
        >>> explanation.masks.shape[:2], explanation.classes.tolist()
        (torch.Size([2, 1]), [[7], [8]])
    """

    def __init__(
        self,
        backbone: Backbone,
        attention: AttentionMechanism,
        mask_form: str = "minmax",
        provenance: dict[str, Any] | None = None,
        smoothing: float = 0.0,
        upsampling: str = "bilinear",
        detail: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention = attention
        self.mask_form = mask_form
        self.smoothing = smoothing
        self.upsampling = upsampling
        self.detail = detail
        self.provenance = dict(provenance or {})

    @property
    def device(self) -> torch.device:
        """Where the attention mechanism's parameters are."""
        return next(self.attention.parameters()).device

    def train(self, mode: bool = True) -> Explainer:  # noqa: ARG002
        """Stay in eval mode: explaining never moves a statistic; :func:`ttame.train` trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, classes: Any = None) -> Explanation:
        """Classify and explain what the classifier itself takes.

        Args:
            images: Normalised input, (B, C, H, W).
            classes: None explains each image's predicted class, ``"all"`` every class, ``"top3"``
                the three best. An index or name stands for all images; B indices or names (a list
                or a tensor (B,)) for one each; (B, n), or (1, n) for all images, for several.

        Raises:
            InputError: A shape, length or index does not fit.
            UnknownNameError: No class has that name.
        """
        output = self.backbone(images)
        chosen = self.pick_classes(classes, output.logits)
        every = isinstance(classes, str) and classes == "all"
        maps = self.attention(output.features, None if every else chosen).float()
        pixels = self.backbone.preprocessing.denormalise(images).clamp(0, 1)
        return Explanation(
            logits=output.logits,
            probabilities=probabilities(output.logits.float(), self.backbone.activation),
            classes=chosen,
            maps=maps,
            masks=self._masks(maps, pixels),
            pixels=pixels,
            class_names=self.backbone.class_names,
            provenance=self.summary(),
        )

    def explain(self, photos: Any, classes: Any = None, batch_size: int = 16) -> Explanation:
        """Classify and explain photos of any kind.

        Args:
            photos: A path (a folder too), PIL image, array (H, W, C), tensor (C, H, W), or a list
                of these; arrays and tensors are uint8 or floats in [0, 1]. A classifier that reads
                neither 1 nor 3 channels takes arrays and tensors only.
            classes: As for a call; a flat list for a single photo asks for several classes.
            batch_size: Photos per forward pass; the result does not depend on it.

        Raises:
            ImageError: A photo cannot be read.
            InputError: ``classes`` does not fit, or there are no photos.
        """
        from ttame.images.reading import as_photo

        items = _as_list(photos)
        preprocessing = self.backbone.preprocessing
        parts = []
        for start in range(0, len(items), _positive(batch_size)):
            batch = items[start : start + batch_size]
            pixels = torch.stack(
                [
                    preprocessing.pixels(as_photo(item, channels=preprocessing.channels))
                    for item in batch
                ]
            )
            asked = _part(classes, start, len(batch), len(items))
            parts.append(self._explain_pixels(pixels, asked, [_name(item) for item in batch]))
        return concatenate(parts)

    def stream(
        self,
        photos: Sequence[Photo],
        classes: Any = None,
        batch_size: int = 16,
        workers: int = 0,
    ) -> Iterator[Explanation | Broken]:
        """Explain many photos batch by batch, without keeping them.

        Args:
            photos: From :func:`ttame.images.listing.list_photos`.
            classes: One request for all photos: None, an index, a name, ``"top3"``, ``"all"``.
            batch_size: Photos per forward pass.
            workers: Processes that read photos; 0 reads them here.

        Yields:
            An explanation per batch, and a ``Broken`` for every photo that cannot be read.
        """
        from ttame.images.dataset import PhotoDataset, loader

        dataset = PhotoDataset(photos, self.backbone.preprocessing)
        for batch in loader(dataset, batch_size=_positive(batch_size), workers=workers):
            yield from batch.broken
            if len(batch.pixels):
                names = [str(photos[index].path) for index in batch.indices.tolist()]
                yield self._explain_pixels(batch.pixels, classes, names)

    def pick_classes(self, classes: Any, logits: Tensor) -> Tensor:
        """Turn what the user asked for into class indices (B, n) for logits (B, K)."""
        count, names = self.backbone.num_classes, self.backbone.class_names
        if isinstance(classes, str):
            if classes == "all":
                return torch.arange(count, device=logits.device).expand(len(logits), -1)
            classes = parse_classes(classes, names, count)
        if classes is None or isinstance(classes, ClassRequest):
            request = classes or ClassRequest(top=1)
            if request.top is not None:
                return logits.topk(request.top, dim=1).indices
            return torch.tensor([request.indices], device=logits.device).repeat(len(logits), 1)
        resolved = _resolve(classes, names, count)
        try:
            indices = torch.as_tensor(resolved, dtype=torch.long, device=logits.device)
        except ValueError:
            raise InputError(
                f"expected the same number of classes for every image, got {classes}"
            ) from None
        return _shape_classes(indices, len(logits))

    def summary(self) -> dict[str, Any]:
        """Return who made an explanation: backbone, layers, head and mask form."""
        identity = self.backbone.identity
        return {
            "classifier": identity.name,
            "source": identity.source,
            "fingerprint": identity.fingerprint,
            "layers": list(self.backbone.layers),
            "head": self.attention.head.name,
            "mask_form": self.mask_form,
            "smoothing": self.smoothing,
            "upsampling": self.upsampling,
            "detail": self.detail,
        }

    def save(self, folder: str | Path) -> Path:
        """Write the explainer folder; see :func:`ttame.storage.save`."""
        from ttame import storage

        return storage.save(self, folder)

    def _masks(self, maps: Tensor, pixels: Tensor) -> Tensor:
        masks = masking.shown_masks(maps, self.mask_form, self.smoothing)
        if self.upsampling == "bilinear" and self.detail == 0:
            return masks
        size = (pixels.shape[-2], pixels.shape[-1])
        return with_detail(masking.upsample(masks, size, self.upsampling), pixels, self.detail)

    def _explain_pixels(self, pixels: Tensor, classes: Any, names: list[str]) -> Explanation:
        images = self.backbone.preprocessing.normalise(pixels).to(self.device)
        explanation: Explanation = self(images, classes)
        return replace(explanation, pixels=pixels, sources=tuple(names))


def mask_settings(explainer: Explainer) -> dict[str, Any]:
    """Return what decides how an explainer's features become masks, beside its weights."""
    attention = explainer.attention
    return {
        "mask_form": explainer.mask_form,
        "smoothing": explainer.smoothing,
        "upsampling": explainer.upsampling,
        "detail": explainer.detail,
        "grid": attention.grid,
        "branch": attention.branch,
        "unit_cells": attention.unit_cells,
    }


def new_explainer(
    backbone: Backbone,
    head: str = "tied",
    layers: Sequence[str] | None = None,
    mask_form: str = "minmax",
    start: str = "cam",
    grid: str = "first",
    branch: str = "paper",
    smoothing: float = 0.0,
    unit_cells: bool = False,
    upsampling: str = "bilinear",
    detail: float = 0.0,
) -> Explainer:
    """Make an untrained explainer for a backbone.

    Args:
        backbone: From :func:`ttame.load_backbone`.
        head: ``"tied"``, ``"shared"`` or ``"independent"``, see :mod:`ttame.heads`.
        layers: Other layers than the backbone's, shallow to deep.
        mask_form: How maps become masks, in training and afterwards.
        start: ``"cam"`` starts a tied head as the class activation map of the deepest layer that
            fits; ``"random"`` starts everything at random, but the shared head, which always is
            that map plus something.
        grid: ``"first"`` or ``"last"``: the layer on whose grid the maps lie.
        branch: Form of the layers' branches, one of :data:`ttame.attention.BRANCHES`.
        smoothing: See :class:`Explainer`.
        unit_cells: See :class:`ttame.attention.AttentionMechanism`.
        upsampling: See :class:`Explainer`.
        detail: See :class:`Explainer`.

    Raises:
        InputError: ``detail`` is not in [0, 1].
        UnknownNameError: There is no such head, layer, mask form, start, grid, branch or
            upsampling.
        BackboneError: The head needs a final linear layer and there is none, the shared head finds
            no layer as wide as it, or the classifier has a single class.
    """
    if mask_form not in masking.MASK_FORMS:
        raise unknown_name("mask form", mask_form, masking.MASK_FORMS)
    masking.check_upsampling(upsampling)
    check_detail(detail)
    if start not in ("cam", "random"):
        raise unknown_name("start", start, ("cam", "random"))
    if backbone.num_classes < 2:
        raise BackboneError(
            f"expected at least two classes, {backbone.identity.name} has {backbone.num_classes}: "
            "show one logit as two, see ttame.backbone.outputs.two_classes"
        )
    if layers is not None:
        backbone = backbone.with_layers(tuple(layers))
    made = make_head(head, backbone)
    size = sum(parameter.numel() for parameter in made.parameters())
    if size > _LARGE_HEAD:
        _log.warning(
            "the %s head of %s has %s weights for its %s classes; the tied head needs the fewest, "
            "and --layers with fewer channels help",
            head,
            backbone.identity.name,
            f"{size:,}",
            f"{backbone.num_classes:,}",
        )
    channels = [shape[0] for shape in backbone.feature_shapes]
    attention = AttentionMechanism(channels, made, grid, branch, unit_cells, backbone.plain_layers)
    if start == "cam" and isinstance(made, DirectedHead):
        if isinstance(made, TiedHead) and not made.start_as_cam():
            _log.warning(
                "no layer of %s is as wide as its final linear layer: the maps start at random, "
                "not as class activation maps, and need more photos",
                backbone.identity.name,
            )
        attention.silence_branches()
    return Explainer(
        backbone, attention, mask_form, smoothing=smoothing, upsampling=upsampling, detail=detail
    ).eval()


def _resolve(classes: Any, names: tuple[str, ...] | None, count: int) -> Any:
    """Resolve names and check indices, keeping the nesting; tensors become lists."""
    if isinstance(classes, Tensor | np.ndarray):
        classes = classes.tolist()
    if isinstance(classes, list | tuple):
        return [_resolve(item, names, count) for item in classes]
    return resolve_class(classes, names, count)


def _shape_classes(indices: Tensor, batch: int) -> Tensor:
    if indices.ndim == 0:
        return indices.expand(batch, 1)
    if indices.ndim == 1 and batch == 1 and len(indices):
        return indices[None]
    if indices.ndim == 1 and len(indices) == batch:
        return indices[:, None]
    if indices.ndim == 2 and len(indices) in (1, batch) and indices.shape[1]:
        return indices.expand(batch, -1)
    raise InputError(
        f"expected one class for all {batch} images, {batch} classes (one each), or classes of "
        f"shape ({batch}, n) or (1, n); got shape {tuple(indices.shape)}"
    )


def _part(classes: Any, start: int, length: int, total: int) -> Any:
    """Return the part of ``classes`` that belongs to a batch, where it is given per photo."""
    if isinstance(classes, Tensor | np.ndarray):
        classes = classes.tolist()
    if isinstance(classes, str) or not hasattr(classes, "__len__") or total == 1:
        return classes
    if len(classes) == total:
        return classes[start : start + length]
    if len(classes) == 1 and hasattr(classes[0], "__len__") and not isinstance(classes[0], str):
        return classes
    raise InputError(
        f"expected one class for all {total} photos or {total} (one each), got {len(classes)}"
    )


def _as_list(photos: Any) -> list[Any]:
    if isinstance(photos, str | Path) and Path(photos).is_dir():
        from ttame.images.listing import list_photos

        photos = [photo.path for photo in list_photos(photos)]
    if isinstance(photos, Tensor | np.ndarray) and photos.ndim == 4:
        photos = list(photos)
    items = list(photos) if isinstance(photos, list | tuple) else [photos]
    if not items:
        raise InputError("expected at least one photo, got an empty list")
    return items


def _name(item: Any) -> str:
    return str(item) if isinstance(item, str | Path) else type(item).__name__


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"expected a batch size of at least 1, got {batch_size}")
    return batch_size
