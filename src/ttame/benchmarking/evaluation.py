"""First scores of an explainer: AD, IC and AG beside Grad-CAM and controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttame.benchmarking import collecting
from ttame.benchmarking.conventions import COMMON, QUANTILE_RULES
from ttame.benchmarking.engine import Record, compute
from ttame.benchmarking.float32 import whole_float32
from ttame.benchmarking.parallel import placed
from ttame.benchmarking.plan import OWN, PhotoSet, Plan
from ttame.benchmarking.settings import SETTINGS, describe_classifier, versions
from ttame.errors import InputError
from ttame.files import check_writable
from ttame.images.listing import data_digest, list_photos, sample
from ttame.methods.registry import Method, get_method
from ttame.methods.seeding import check_seed
from ttame.metrics.keeping import DEFAULT_SHARES
from ttame.metrics.measure import get_measure
from ttame.metrics.shares import check_shares, image_seeds

if TYPE_CHECKING:
    import torch

    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.records import Unit
    from ttame.explainer import Explainer

DEFAULT_METHODS = ("gradcam", "random", "all_ones", "centre_gaussian")


@whole_float32()
def evaluate(
    explainer: Explainer,
    data: Any,
    methods: Sequence[str | Method] = DEFAULT_METHODS,
    shares: Sequence[float] = DEFAULT_SHARES,
    images: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    rule: str = "quantile",
) -> BenchmarkResult:
    """Score an explainer and other methods on photos, on the classifier's own predictions.

    Each method's map of the predicted class is min-max normalised (unless the method has a
    normalisation of its own; an explainer's after its mask form, with its detail), resized
    bilinearly to the input, cut to its most important share and multiplied onto the [0, 1] photo
    (removed pixels are black), which the classifier then sees normalised. The area-matched scores
    rank the resized map's pixels first; see :mod:`ttame.metrics.shares`.
    Results do not depend on the batch size.

    Args:
        explainer: Named ``"ttame"`` in the results.
        data: Photos as :func:`ttame.images.listing.list_photos` takes them; labels are not used.
        methods: Names of methods to compare with, or :class:`Method` objects.
        shares: Shares of the pixels that stay, in (0, 1].
        images: How many photos to draw at random; None takes all.
        batch_size: Images per forward pass.
        workers: Processes that read photos.
        seed: For the drawn photos, the order of ties and the bootstrap.
        out: Folder for the results; None writes nothing.
        device: Where to compute; the explainer returns to its own device afterwards.
        progress: Called with the numbers of photos done and in total.
        rule: How shares are cut, ``"quantile"`` or ``"exact"``.

    Returns:
        Every image's values, their means, intervals and comparisons. Photos that cannot be read are
        left out and listed in ``broken``.

    Raises:
        InputError: An argument is out of range, a method's package is not installed, or ``out``
            holds a benchmark.
        BackboneError: A method cannot explain this classifier. That, and whatever else a method
            raises, ends the evaluation; nothing is written.
        ImageError: No photo can be read.
        StorageError: ``out`` cannot be written.
    """
    others = _choose(methods)
    check_shares(shares, rule)
    check_seed(seed)
    if out is not None:
        check_writable(out)
        if (Path(out) / SETTINGS).exists():
            raise InputError(f"{out} holds a benchmark or an ablation; choose another folder")
    photos = list_photos(data)
    if images is not None:
        photos = sample(photos, images, seed)
    backbone = explainer.backbone
    plan = Plan(
        backbone=backbone,
        sets=(
            PhotoSet(
                name="photos",
                photos=tuple(photos),
                seeds=tuple(image_seeds(seed, range(len(photos)))),
                preprocessing=backbone.preprocessing,
                measures=(get_measure("confidence", shares=tuple(shares), rule=rule),),
            ),
        ),
        others=others,
        explainers={OWN: explainer},
        batch_size=batch_size,
        slow_images=len(photos),
        seed=seed,
    )
    records: dict[Unit, Record] = {}
    with placed(plan, explainer.device if device is None else device) as place:
        for unit, record in compute(plan, list(plan.units()), place, workers, strict=True):
            records[unit] = record or {}
            if progress is not None and unit.method == plan.methods[-1].name:
                progress(min((unit.batch + 1) * batch_size, len(photos)), len(photos))
    broken = collecting.broken_photos(plan, records)
    provenance = {
        "classifier": describe_classifier(backbone),
        "data": {"digest": data_digest(photos), "photos": len(photos), "broken": len(broken)},
        "versions": versions(),
    }
    result = collecting.make_result(plan, records, _conventions(shares, rule), provenance)
    if out is not None:
        result.save(out)
    return result


def _choose(methods: Sequence[str | Method]) -> tuple[Method, ...]:
    names = (methods,) if isinstance(methods, str) else methods
    others = tuple(
        item if isinstance(item, Method) else get_method(item) for item in names if item != OWN
    )
    every = [OWN, *(method.name for method in others)]
    if len(set(every)) != len(every):
        raise InputError(f"expected different methods, got {', '.join(every)}")
    return others


def _conventions(shares: Sequence[float], rule: str) -> dict[str, Any]:
    return {
        "class": "the classifier's own prediction on the unmasked image",
        "normalisation": "min-max per map, or the method's own in its details (an explainer: its "
        "masks, after its mask form, upsampling and detail), then bilinear resize to the input "
        "(align_corners=False)",
        "mask_space": "pixel: the mask multiplies the [0, 1] image, which is then normalised",
        "fill": "black",
        "shares": [float(share) for share in shares],
        "quantile_rule": QUANTILE_RULES[rule],
        "scores": "in percent; mask_area in [0, 1]",
        **COMMON,
    }
