"""First scores of an explainer: AD, IC and AG beside Grad-CAM and controls."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import ttame
from ttame.benchmarking.results import Evaluation
from ttame.benchmarking.scoring import Scorer
from ttame.errors import ImageError, InputError
from ttame.files import check_writable
from ttame.images.dataset import Broken, PhotoDataset, loader
from ttame.images.listing import Photo, data_digest, list_photos, sample
from ttame.methods.registry import Method, get_method
from ttame.methods.ttame import ttame_method
from ttame.metrics.shares import check_shares, image_seeds

if TYPE_CHECKING:
    import torch

    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer

DEFAULT_METHODS = ("gradcam", "random", "all_ones", "centre_gaussian")
DEFAULT_SHARES = (1.0, 0.5, 0.15)

_QUANTILE_RULES = {
    "quantile": "values under the mask's own (1 - share) quantile are 0 (linear interpolation, "
    "tolerance 1e-6)",
    "exact": "exactly round(share * pixels) pixels stay, ties in seeded random order",
}
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "grad-cam")


def evaluate(
    explainer: Explainer,
    data: str | Path | Iterable[str | Path | Photo],
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
) -> Evaluation:
    """Score an explainer and other methods on photos, on the classifier's own predictions.

    Each method's map of the predicted class is min-max normalised (an explainer's after its own
    mask form), resized bilinearly to the input, cut to its most important share and multiplied
    onto the [0, 1] photo (removed pixels are black), which the classifier then sees normalised.
    The area-matched scores rank the resized map's pixels first; see :mod:`ttame.metrics.shares`.
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
        Every image's values, their means and intervals. Photos that cannot be read are left out
        and listed in ``broken``.

    Raises:
        InputError: An argument is out of range, or a method's package is not installed.
        ImageError: No photo can be read.
        StorageError: ``out`` cannot be written.
    """
    chosen = _choose(explainer, methods)
    check_shares(shares, rule)
    if out is not None:
        check_writable(out)
    photos = list_photos(data)
    if images is not None:
        photos = sample(photos, images, seed)
    backbone = explainer.backbone
    scorer = Scorer(backbone, tuple(chosen), tuple(shares), rule, batch_size)
    dataset = PhotoDataset(photos, backbone.preprocessing)
    frames: list[pd.DataFrame] = []
    broken: list[Broken] = []
    done = 0
    with _on_device(explainer, device) as place:
        for batch in loader(dataset, batch_size=batch_size, workers=workers):
            broken.extend(batch.broken)
            if len(batch):
                indices = batch.indices.tolist()
                frame = scorer.score(batch.pixels.to(place), image_seeds(seed, indices))
                files = [str(photos[index].path) for index in indices]
                frame.insert(0, "file", files * len(chosen))
                frames.append(frame)
            done += len(batch) + len(batch.broken)
            if progress is not None:
                progress(done, len(photos))
    if not frames:
        raise ImageError(f"none of the {len(photos)} photos can be read; {broken[0].message}")
    per_image = pd.concat(frames)
    evaluation = Evaluation(
        # Photo by photo within each method, in the methods' order.
        per_image=pd.concat(
            [per_image[per_image["method"] == method.name] for method in chosen],
            ignore_index=True,
        ),
        methods={method.name: _describe(method, backbone) for method in chosen},
        broken=tuple((str(photos[item.index].path), item.message) for item in broken),
        seed=seed,
        conventions=_conventions(shares, rule),
        provenance={
            "classifier": {
                "name": backbone.identity.name,
                "source": backbone.identity.source,
                "fingerprint": backbone.identity.fingerprint,
            },
            "data": {"digest": data_digest(photos), "photos": len(photos), "broken": len(broken)},
            "versions": _versions(),
        },
    )
    if out is not None:
        evaluation.save(out)
    return evaluation


def _choose(explainer: Explainer, methods: Sequence[str | Method]) -> list[Method]:
    own = ttame_method(explainer)
    if isinstance(methods, str):
        methods = (methods,)
    others = [
        item if isinstance(item, Method) else get_method(item)
        for item in methods
        if item != own.name
    ]
    names = [own.name, *(method.name for method in others)]
    if len(set(names)) != len(names):
        raise InputError(f"expected different methods, got {', '.join(names)}")
    return [own, *others]


@contextmanager
def _on_device(explainer: Explainer, device: str | torch.device | None) -> Iterator[torch.device]:
    home = explainer.device
    try:
        if device is not None:
            explainer.to(device)
        yield explainer.device
    finally:
        explainer.to(home)


def _describe(method: Method, backbone: Backbone) -> dict[str, Any]:
    return {
        "title": method.title,
        "paper": method.paper,
        "control": method.control,
        **method.details(backbone),
    }


def _conventions(shares: Sequence[float], rule: str) -> dict[str, Any]:
    return {
        "class": "the classifier's own prediction on the unmasked image",
        "normalisation": "min-max per map (of an explainer: after its mask form), then bilinear "
        "resize to the input (align_corners=False)",
        "mask_space": "pixel: the mask multiplies the [0, 1] image, which is then normalised",
        "fill": "black",
        "shares": [float(share) for share in shares],
        "quantile_rule": _QUANTILE_RULES[rule],
        "matched": "the resized map is replaced by its pixel ranks, uniform in [0, 1], ties in "
        "seeded random order, before it is cut",
        "nan_maps": "a map with NaN or infinity counts as all zeros",
        "scores": "in percent; mask_area in [0, 1]",
    }


def _versions() -> dict[str, str | None]:
    return {"ttame": ttame.__version__, **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
