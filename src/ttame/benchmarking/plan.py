"""What a run computes: sets of photos, methods, measures, and the units they fall into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ttame.benchmarking.records import Unit
from ttame.methods.ttame import ttame_method
from ttame.normalisation import AS_GIVEN, MINMAX

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer
    from ttame.images.listing import Photo
    from ttame.images.preprocessing import Preprocessing
    from ttame.methods.registry import Method
    from ttame.metrics.case import Truth
    from ttame.metrics.measure import Measure

OWN = "ttame"
"""Name of the explainer that a run is about."""

MARKED = "marked"
"""Name of the set of photos with marked objects."""

PAIRS = "pairs"
"""Name of the set of pictures of two photos each."""

_AGAIN = 5


@dataclass(frozen=True)
class PhotoSet:
    """Photos that are explained and measured in the same way.

    Attributes:
        name: ``"photos"``, :data:`MARKED` or :data:`PAIRS`.
        photos: In the order of the run.
        seeds: One seed per photo.
        preprocessing: The way from these photos to the classifier's input.
        measures: What is measured on them.
        classes: The class to explain of each photo; None, and no classes at all,
            stand for the classifier's own prediction.
        truth: Where the class is on each photo; empty if unknown.
        sources: The photos that these ones are made of, where they are no files.
        broken: Files that could not be read when these were made, and why.
    """

    name: str
    photos: tuple[Photo, ...]
    seeds: tuple[int, ...]
    preprocessing: Preprocessing
    measures: tuple[Measure, ...]
    classes: tuple[int | None, ...] = ()
    truth: tuple[Truth | None, ...] = ()
    sources: tuple[Photo, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that decides about the values of a run.

    Batches are fixed by the photos' order, so that a resumed run computes the same batches.

    Attributes:
        backbone: The classifier.
        sets: Sets of photos, computed one after the other.
        others: Methods to compare with.
        explainers: Explainers that take part as methods, by name.
        batch_size: Photos per batch, and most changed images per forward pass.
        slow_images: Slow methods and measures are given the first so many photos of each set; see
            :meth:`measured` for measures that explain again.
        limits: By the name of a method, explainer or measure, how many photos it is given instead;
            None for all. The smaller number counts, the method's or the measure's.
        again_images: How many photos measures that explain again are given of slow methods; None
            for a fifth of ``slow_images``.
        seed: Of everything drawn.
        judge: Another classifier, for measures that need one.
        half: Which half of the photos the sets were drawn from.
        normalisation: How all methods' maps become masks, but of those that have their own way.
        upsampling: How all methods' maps come to the size of the image; an explainer that shows
            whole cells gives masks of that size.
        detail: How much of the photo's edges is mixed into the masks of all methods, but of those
            that give masks; see ``ttame.detail``.
    """

    backbone: Backbone
    sets: tuple[PhotoSet, ...]
    others: tuple[Method, ...] = ()
    explainers: Mapping[str, Explainer] = field(default_factory=dict)
    batch_size: int = 16
    slow_images: int = 50
    limits: Mapping[str, int | None] = field(default_factory=dict)
    again_images: int | None = None
    seed: int = 0
    judge: Backbone | None = None
    half: str = "all"
    normalisation: str = "minmax"
    upsampling: str = "bilinear"
    detail: float = 0.0

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """All methods in the order of the results, explainers first."""
        own = (ttame_method(explainer, name) for name, explainer in self.explainers.items())
        return tuple(self._shown(item) for item in (*own, *self.others))

    def _shown(self, method: Method) -> Method:
        own = method.normalisation != MINMAX
        normalisation = method.normalisation if own else self.normalisation
        return replace(
            method,
            normalisation=normalisation,
            upsampling=self.upsampling,
            detail=0.0 if method.normalisation == AS_GIVEN else self.detail,
        )

    @cached_property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many photos of a set a method explains: those that any measure is taken on."""
        return {
            (item.name, method.name): max(
                (self.measured(item, method, each) for each in item.measures), default=0
            )
            for item in self.sets
            for method in self.methods
        }

    def measured(self, photo_set: PhotoSet, method: Method, measure: Measure) -> int:
        """Return on how many photos of a set a measure is taken of a method.

        A measure that explains again costs a slow method several times its maps, so that it has a
        limit of its own there.
        """
        limits = [self._limit(item) for item in (method, measure)]
        if method.slow and "maps" in measure.needs:
            few = math.ceil(self.slow_images / _AGAIN)
            limits.append(few if self.again_images is None else self.again_images)
        return min([len(photo_set.photos), *(limit for limit in limits if limit is not None)])

    def _limit(self, item: Method | Measure) -> int | None:
        return self.limits.get(item.name, self.slow_images if item.slow else None)

    def units(self) -> Iterator[Unit]:
        """Yield all units, batch by batch with all methods."""
        for photo_set in self.sets:
            for batch, start in enumerate(range(0, len(photo_set.photos), self.batch_size)):
                for method in self.methods:
                    if start < self.counts[photo_set.name, method.name]:
                        yield Unit(photo_set.name, batch, method.name)

    def images(self, unit: Unit) -> int:
        """Return the number of photos in a unit."""
        most = self.counts[unit.photo_set, unit.method] - unit.batch * self.batch_size
        return min(self.batch_size, most)

    def batches(self, photo_set: PhotoSet, batches: Sequence[int]) -> list[int]:
        """Return the places of the photos of some batches, in order."""
        size, total = self.batch_size, len(photo_set.photos)
        return [
            place
            for batch in batches
            for place in range(batch * size, min(total, (batch + 1) * size))
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process makes again: explainers' methods hold closures."""
        return {name: value for name, value in self.__dict__.items() if name != "methods"}
