"""Computing units: each method on each batch, trouble recorded instead of raised."""

from __future__ import annotations

import logging
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ttame.benchmarking.records import FAILED, NOT_POSSIBLE, Unit, plain
from ttame.benchmarking.scoring import Classified, Scorer, free_memory
from ttame.errors import BackboneError, ImageError, InputError, TtameError, problem
from ttame.images.dataset import PhotoDataset, loader
from ttame.methods.registry import methods as registered_methods
from ttame.metrics.case import Truth
from ttame.metrics.measure import measures as registered_measures
from ttame.metrics.memory import peak_memory

if TYPE_CHECKING:
    from ttame.benchmarking.plan import PhotoSet, Plan
    from ttame.images.dataset import Batch
    from ttame.methods.registry import Method
    from ttame.metrics.measure import Measure

_log = logging.getLogger(__name__)

Record = dict[str, Any]
"""What is kept of a unit; plain values for JSON."""


def compute(
    plan: Plan,
    units: Sequence[Unit],
    device: torch.device,
    workers: int = 0,
    impossible: Sequence[str] = (),
    strict: bool = False,
    memory: bool = False,
) -> Iterator[tuple[Unit, Record | None]]:
    """Compute units in the order of their batches.

    Each process first explains one photo, always the same, with every method: what is done once
    per classifier (the search for a layer) then neither depends on the batch nor counts as cost.

    Args:
        plan: What is computed; its classifier is on ``device``.
        units: Some of the plan's.
        device: Where to compute.
        workers: Processes that read photos.
        impossible: Methods whose units are passed over.
        strict: Raise a method's or measure's error instead of recording it.
        memory: Let each method explain that one photo twice, and record in its first unit the
            peak of the memory of the second time.

    Yields:
        Every unit with its record, or with None where its method was given up before.

    Raises:
        TtameError: Only if ``strict``.
    """
    scorer = Scorer(plan.backbone, plan.batch_size, plan.judge, strict)
    run = _Run(plan, scorer, device, impossible, memory)
    for photo_set in plan.sets:
        wanted: dict[int, list[Unit]] = {}
        for unit in units:
            if unit.photo_set == photo_set.name:
                wanted.setdefault(unit.batch, []).append(unit)
        if not wanted:
            continue
        batches = sorted(wanted)
        places = plan.batches(photo_set, batches)
        for number, batch in zip(batches, _read(plan, photo_set, places, workers), strict=True):
            yield from run.batch(photo_set, wanted[number], batch, places)


def try_options(plan: Plan, device: torch.device) -> None:
    """Try methods and measures whose options were changed on one photo, before any work.

    Else a wrong value would be told at the end of a long run, in the place of its numbers.

    Args:
        plan: What is to be computed; its classifier is on ``device``.
        device: Where to compute.

    Raises:
        InputError: One of them fails. What a classifier cannot do, with whatever options, passes.
    """
    run = _Run(plan, Scorer(plan.backbone, plan.batch_size, plan.judge, strict=True), device)
    known_methods, known_measures = registered_methods(), registered_measures()
    for photo_set in plan.sets:
        trials: list[tuple[Method, list[tuple[Measure, int]]]] = [
            (method, []) for method in plan.methods if _changed(method, known_methods)
        ]
        trials += [
            (known_methods["random"], [(measure, 1)])
            for measure in photo_set.measures
            if _changed(measure, known_measures)
        ]
        photos = run.first_photo([photo_set]) if trials else None
        if photos is None:
            continue
        for method, measures in trials:
            tried = measures[0][0] if measures else method
            try:
                with _seeded(plan.seed, Unit(photo_set.name, 0, method.name)):
                    run.scorer.score(method, photos, measures)
            except BackboneError:
                continue
            except Exception as error:
                told = ", ".join(
                    f"{tried.name}.{key}={tried.options[key]}" for key in tried.options
                )
                raise InputError(f"{problem(error)} ({told})") from error


def _changed(found: Method | Measure, known: Mapping[str, Method] | Mapping[str, Measure]) -> bool:
    return found.name in known and dict(known[found.name].options) != dict(found.options)


def _read(plan: Plan, photo_set: PhotoSet, places: Sequence[int], workers: int) -> Iterator[Batch]:
    photos = [photo_set.photos[place] for place in places]
    dataset = PhotoDataset(photos, photo_set.preprocessing)
    yield from loader(dataset, batch_size=plan.batch_size, workers=workers)


class _Run:
    def __init__(
        self,
        plan: Plan,
        scorer: Scorer,
        device: torch.device,
        impossible: Sequence[str] = (),
        memory: bool = False,
    ) -> None:
        self.plan, self.scorer, self.device, self.memory = plan, scorer, device, memory
        self.given_up = set(impossible)
        self.methods = {method.name: method for method in plan.methods}
        self.warm: set[str] = set()
        self.first: Classified | None = None

    def batch(
        self, photo_set: PhotoSet, units: Sequence[Unit], batch: Batch, places: Sequence[int]
    ) -> Iterator[tuple[Unit, Record | None]]:
        """Compute all units of one batch."""
        readable = [places[index] for index in batch.indices.tolist()]
        broken = [(places[item.index], item.message) for item in batch.broken]
        photos = self._classify(photo_set, batch, readable) if readable else None
        for unit in units:
            if unit.method in self.given_up:
                yield unit, None
                continue
            method = self.methods[unit.method]
            limit = self.plan.counts[photo_set.name, method.name]
            record: Record = {"broken": [item for item in broken if item[0] < limit]}
            kept = [place for place in readable if place < limit]
            if photos is not None and kept:
                record.update(self._score(unit, method, photo_set, photos.first(len(kept)), kept))
            yield unit, record

    def _classify(self, photo_set: PhotoSet, batch: Batch, places: Sequence[int]) -> Classified:
        pixels = batch.pixels.to(self.device)
        seeds = [photo_set.seeds[place] for place in places]
        classes = [photo_set.classes[place] for place in places if photo_set.classes]
        truth = [_moved(photo_set.truth[p], self.device) for p in places if photo_set.truth]
        return self.scorer.classify(pixels, seeds, classes, truth)

    def _score(
        self,
        unit: Unit,
        method: Method,
        photo_set: PhotoSet,
        photos: Classified,
        places: Sequence[int],
    ) -> Record:
        limits = [self.plan.measured(photo_set, method, each) for each in photo_set.measures]
        counts = [sum(place < limit for place in places) for limit in limits]
        measures = list(zip(photo_set.measures, counts, strict=True))
        try:
            with _seeded(self.plan.seed, unit):
                once = self._warm_up(method)
            # Seeded once more: whether this process warmed up must not move what is drawn.
            with _seeded(self.plan.seed, unit):
                scored = self.scorer.score(method, photos, measures)
            details = plain(method.details(self.plan.backbone))
        except Exception as error:
            if self.scorer.strict:
                raise
            self.given_up.add(method.name)
            free_memory()
            if isinstance(error, TtameError):
                return {"error": [NOT_POSSIBLE, problem(error)]}
            _log.exception("the method %s failed", method.name)
            return {"error": [FAILED, problem(error)]}
        return {
            "places": list(places),
            "classes": photos.classes.tolist(),
            "p": photos.p.tolist(),
            "details": details,
            **vars(scored),
            **once,
        }

    def _warm_up(self, method: Method) -> Record:
        """Explain the first photo, once a method; return what is recorded of that."""
        if method.name in self.warm:
            return {}
        method.check_packages()
        if self.first is None:
            self.first = self.first_photo(self.plan.sets)
        if self.first is None:
            raise ImageError("no photo can be read")
        photo = self.first
        method(self.plan.backbone, photo.images, photo.classes[:, None])
        self.warm.add(method.name)
        if not self.memory:
            return {}
        with peak_memory(self.device) as peak:
            method(self.plan.backbone, photo.images, photo.classes[:, None])
        return {"peak_memory": peak.bytes}

    def first_photo(self, sets: Sequence[PhotoSet]) -> Classified | None:
        """Return the first readable photo of some sets, whatever unit comes first here."""
        for photo_set in sets:
            for place in range(len(photo_set.photos)):
                batch = next(_read(self.plan, photo_set, [place], 0))
                if len(batch):
                    return self._classify(photo_set, batch, [place])
        return None


def _moved(truth: Truth | None, device: torch.device) -> Truth | None:
    if truth is None:
        return None
    region = None if truth.region is None else truth.region.to(device)
    return Truth(truth.boxes.to(device), region)


@contextmanager
def _seeded(seed: int, unit: Unit) -> Iterator[None]:
    """Seed the global generators by the unit, for methods that draw from them; restore them."""
    value = zlib.crc32(f"{seed}/{unit.photo_set}/{unit.batch}/{unit.method}".encode())
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(value)
            np.random.seed(value)
            random.seed(value)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
