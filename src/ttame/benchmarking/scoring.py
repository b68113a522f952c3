"""Scoring one method on one batch of photos: maps, masks, measures, times."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ttame.activation import probabilities
from ttame.errors import InputError, TtameError, problem
from ttame.metrics.case import Case, Truth, normalised
from ttame.metrics.cost import count_passes
from ttame.normalisation import without_nan

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method
    from ttame.metrics.measure import Measure, Scores

_log = logging.getLogger(__name__)

_NAN = float("nan")


@dataclass(frozen=True)
class Classified:
    """A batch of photos with the class of each that is to be explained.

    Attributes:
        pixels: (B, C, H, W) in [0, 1], at the classifier's input size.
        images: The normalised input, (B, C, H, W).
        classes: (B,) class indices.
        p: (B,) float64 probabilities of the classes.
        seeds: One seed per image, for everything that is drawn or tied.
        truth: Per image where the class is; empty if unknown.
    """

    pixels: Tensor
    images: Tensor
    classes: Tensor
    p: Tensor
    seeds: tuple[int, ...]
    truth: tuple[Truth | None, ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    def first(self, count: int) -> Classified:
        """Return the first ``count`` photos."""
        if count >= len(self):
            return self
        return Classified(
            pixels=self.pixels[:count],
            images=self.images[:count],
            classes=self.classes[:count],
            p=self.p[:count],
            seeds=self.seeds[:count],
            truth=self.truth[:count],
        )


@dataclass
class Scored:
    """What one method scored on one batch.

    Attributes:
        values: One value per image by metric; NaN where a measure was not asked or failed.
        curves: One curve per image by measure and name.
        nan_maps: Per image whether the map held NaN or infinity and counted as zeros.
        seconds: Time and number of images of the method (``""``) and of each measure.
        passes: The classifier's forward and backward passes for the maps, counted in images.
        problems: By measure, why it gave nothing.
        failed: Those of them that stopped with an unexpected error, which may not come again.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    nan_maps: list[bool] = field(default_factory=list)
    seconds: dict[str, tuple[float, int]] = field(default_factory=dict)
    passes: list[int] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scorer:
    """Scores methods on batches.

    Attributes:
        backbone: The classifier.
        batch_size: Changed images per forward pass.
        judge: Another classifier that knows some of the classes, for measures that need one.
        strict: Raise a measure's error instead of noting it.
    """

    backbone: Backbone
    batch_size: int = 32
    judge: Backbone | None = None
    strict: bool = False

    def classify(
        self,
        pixels: Tensor,
        seeds: Sequence[int],
        classes: Sequence[int | None] = (),
        truth: Sequence[Truth | None] = (),
    ) -> Classified:
        """Classify photos once for all methods.

        Args:
            pixels: (B, C, H, W) in [0, 1].
            seeds: One seed per image.
            classes: The class to explain of each image; None, and no classes at all, take the
                classifier's own prediction.
            truth: Per image where the class is.
        """
        # No tensor of the inference mode could take part in a gradient method.
        with torch.no_grad():
            images = normalised(self.backbone, pixels)
            # In float64: differences of probabilities near 0 and 1 are what is measured.
            logits = self.backbone.logits(images).double()
            predicted = logits.argmax(dim=1)
            given = [
                own if wanted is None else wanted
                for own, wanted in zip(predicted.tolist(), classes, strict=bool(classes))
            ]
            chosen = torch.tensor(given, device=pixels.device) if given else predicted
            p = probabilities(logits, self.backbone.activation).gather(1, chosen[:, None])[:, 0]
        return Classified(pixels, images, chosen, p, tuple(seeds), tuple(truth))

    def score(
        self, method: Method, photos: Classified, measures: Sequence[tuple[Measure, int]]
    ) -> Scored:
        """Explain a batch with a method and measure the maps.

        Args:
            method: What to score.
            photos: At least one.
            measures: Each with the number of photos, from the first, that it is asked for.

        Returns:
            The values. A measure that fails leaves NaN and a problem, the others go on.

        Raises:
            Exception: Whatever the method itself raises.
        """
        scored = Scored()
        with (
            count_passes(self.backbone) as passes,
            _timed(scored, "", photos.pixels.device, len(photos)),
        ):
            maps = method(self.backbone, photos.images, photos.classes[:, None])[:, 0]
        scored.passes = [passes.forward, passes.backward]
        with torch.no_grad():
            maps, replaced = without_nan(maps)
            case = self._case(method, photos, maps)
            scored.nan_maps = replaced.tolist()
            for measure, count in measures:
                part = case if count >= len(photos) else _first(case, count)
                self._measure(measure, part, len(photos), scored)
        return scored

    def _measure(self, measure: Measure, case: Case, photos: int, scored: Scored) -> None:
        count = len(case.classes)
        names = list(measure.metrics(measure.options))
        values: Mapping[str, Tensor] = {}
        if count:
            try:
                with _timed(scored, measure.name, case.pixels.device, count):
                    scores = measure(case)
                _check(measure, scores, names, count)
                values = scores.values
                if scores.curves:
                    scored.curves[measure.name] = {
                        name: curves.double().tolist() for name, curves in scores.curves.items()
                    }
            except Exception as error:
                if self.strict:
                    raise
                # One measure's trouble must not cost the others' values.
                scored.problems[measure.name] = problem(error)
                if not isinstance(error, TtameError):
                    scored.failed.append(measure.name)
                    _log.exception("the measure %s failed", measure.name)
                free_memory()
        for name in names:
            given = values[name].double().tolist() if name in values else [_NAN] * count
            scored.values[name] = given + [_NAN] * (photos - count)

    def _case(self, method: Method, photos: Classified, maps: Tensor) -> Case:
        return Case(
            backbone=self.backbone,
            pixels=photos.pixels,
            classes=photos.classes,
            p=photos.p,
            maps=maps,
            masks=method.to_masks(maps, photos.pixels),
            seeds=photos.seeds,
            explain=method,
            to_masks=method.to_masks,
            batch_size=self.batch_size,
            truth=photos.truth,
            judge=self.judge,
        )


def free_memory() -> None:
    """Give back what a failed computation left in the GPU's cache."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first(case: Case, count: int) -> Case:
    tensors = ("pixels", "classes", "p", "maps", "masks")
    return replace(
        case,
        **{name: getattr(case, name)[:count] for name in tensors},
        seeds=case.seeds[:count],
        truth=case.truth[:count],
    )


def _check(measure: Measure, scores: Scores, names: Sequence[str], count: int) -> None:
    shapes = {name: tuple(values.shape) for name, values in scores.values.items()}
    if shapes != dict.fromkeys(names, (count,)):
        raise InputError(
            f"expected one value of {', '.join(names)} for each of {count} images from the "
            f"measure {measure.name!r}, got {shapes}"
        )


@contextmanager
def _timed(scored: Scored, name: str, device: torch.device, images: int) -> Iterator[None]:
    _finish(device)
    start = time.perf_counter()
    yield
    _finish(device)
    scored.seconds[name] = (time.perf_counter() - start, images)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
