"""What decides about a run's values: written before the first photo, compared on resumption."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ttame
from ttame.backbone.fingerprint import fingerprint
from ttame.benchmarking.benchmark_result import write_json
from ttame.benchmarking.lock import check_unlocked
from ttame.errors import InputError, StorageError
from ttame.explainer import mask_settings
from ttame.files import check_writable
from ttame.images.listing import data_digest

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone
    from ttame.benchmarking.parts import Part
    from ttame.benchmarking.plan import PhotoSet, Plan
    from ttame.methods.registry import Method
    from ttame.metrics.case import Truth
    from ttame.metrics.measure import Measure

SETTINGS = "settings.json"
_PACKAGES = (
    *("torch", "torchvision", "timm", "transformers", "numpy", "pillow"),
    *("grad-cam", "captum", "numba"),
)


def describe_settings(plan: Plan, device: str) -> dict[str, Any]:
    """Return everything that a run's values depend on, as plain values for JSON.

    Of the device only its kind counts: random numbers differ between CPU and GPU, and times must
    not be mixed.
    """
    settings = {
        "classifier": describe_classifier(plan.backbone),
        "judge": None if plan.judge is None else describe_classifier(plan.judge),
        "explainers": {
            name: {
                "attention": fingerprint(item.attention),
                "layers": list(item.backbone.layers),
                **mask_settings(item),
                "class_token_product": item.backbone.class_token_product,
            }
            for name, item in plan.explainers.items()
        },
        "methods": {method.name: dict(method.options) for method in plan.methods},
        "data": {
            item.name: {
                "photos": len(item.photos),
                "digest": data_digest(item.sources or item.photos),
                "truth": _truth_digest(item),
            }
            for item in plan.sets
        },
        "measures": {
            item.name: {measure.name: dict(measure.options) for measure in item.measures}
            for item in plan.sets
        },
        "half": plan.half,
        "normalisation": plan.normalisation,
        "own_normalisation": {
            method.name: method.normalisation
            for method in plan.methods
            if method.normalisation != plan.normalisation
        },
        "upsampling": plan.upsampling,
        "detail": plan.detail,
        "batch_size": plan.batch_size,
        "slow_images": plan.slow_images,
        "limits": {name: "all" if n is None else int(n) for name, n in plan.limits.items()},
        "again_images": plan.again_images,
        "slow": [method.name for method in plan.methods if method.slow]
        + [measure.name for item in plan.sets for measure in item.measures if measure.slow],
        "device": device.partition(":")[0],
        "seed": plan.seed,
        "versions": versions(),
        "own_code": _own_code(plan),
    }
    # As they will be read back: tuples are lists there.
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def describe_classifier(backbone: Backbone) -> dict[str, Any]:
    """Return a classifier's name, source, weights' fingerprint, layers, and what it is given."""
    identity = backbone.identity
    return {
        "name": identity.name,
        "source": identity.source,
        "fingerprint": identity.fingerprint,
        "activation": backbone.activation,
        "layers": list(backbone.layers),
        "preprocessing": backbone.preprocessing.to_dict(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of ttame, its code and what it computes with; None for a missing one."""
    found = {package: _version(package) for package in _PACKAGES}
    own = {"ttame": ttame.__version__, "ttame code": code_digest()}
    return {**own, "python": platform.python_version(), **found}


@cache
def code_digest() -> str:
    """Fingerprint ttame's own code: SHA-256 over its Python files, names and content.

    Between two releases the version alone does not tell what has computed a run.

    Example:
        >>> len(code_digest())
        64
    """
    home = Path(ttame.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(f"{path.relative_to(home).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _own_code(plan: Plan) -> dict[str, str | None]:
    """Fingerprint the files of methods and measures that are not ttame's; None where none is."""
    entries: list[Method | Measure] = list(plan.methods)
    entries += [measure for item in plan.sets for measure in item.measures]
    functions = [getattr(entry.function, "func", entry.function) for entry in entries]
    by_module = {getattr(function, "__module__", None) or "": function for function in functions}
    return {
        name: _source_digest(function)
        for name, function in sorted(by_module.items())
        # A script may change around them; what is typed into a session has no file.
        if name not in ("", "__main__") and name.partition(".")[0] != ttame.__name__
    }


def _source_digest(function: Any) -> str | None:
    code = getattr(function, "__code__", None)
    try:
        return None if code is None else _sha256(Path(code.co_filename).read_bytes())
    except OSError:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def open_folder(
    folder: Path,
    settings: Mapping[str, Any],
    resume: bool,
    command: str,
    kind: str = "benchmark",
) -> dict[str, Any]:
    """Prepare a run's folder and write its settings, or check those of the run to continue.

    Args:
        folder: Made where it is missing.
        settings: From :func:`describe_settings`.
        resume: Continue what is in the folder, if anything is.
        command: How the run was started; that of the first start is kept.
        kind: What the run is called in messages.

    Returns:
        The content of ``settings.json``.

    Raises:
        InputError: The folder holds something and ``resume`` is off, or holds another run.
        StorageError: The folder cannot be written, or its settings are damaged.
    """
    check_free(folder, resume, kind)
    check_writable(folder)
    path = folder / SETTINGS
    if path.exists():
        before = _read(path)
        differing = [
            name for name in settings if before.get("settings", {}).get(name) != settings[name]
        ]
        if differing:
            name = differing[0]
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(differing)}), for example "
                f"{name} {_change(before.get('settings', {}).get(name), settings[name])}; repeat "
                "the command as it was, or choose another folder"
            )
        return before
    content = {"command": command, "settings": dict(settings)}
    write_json(path, content)
    return content


def check_out(
    folder: Path, resume: bool, kind: str = "benchmark", part: Part | None = None
) -> None:
    """Refuse a folder that another run writes into, or that holds what may not be continued.

    A part of a run always continues what the others have begun.

    Raises:
        InputError: The folder cannot be used.
    """
    check_unlocked(folder, part)
    check_free(folder, resume or part is not None, kind)


def check_free(folder: Path, resume: bool, kind: str = "benchmark") -> None:
    """Refuse a folder that holds something, unless it is a run that shall be continued.

    Raises:
        InputError: It does.
    """
    if not folder.is_dir():
        return
    # Hidden files may be the rest of a write that was cut off.
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not found:
        return
    if SETTINGS not in found:
        raise InputError(
            f"{folder} is not empty and holds no {kind} ({found[0]}); choose another folder"
        )
    if not resume:
        article = "an" if kind[0] in "aeiou" else "a"
        raise InputError(
            f"{folder} holds {article} {kind} already; continue it with resume=True (--resume), or "
            "choose another folder"
        )


def _truth_digest(photos: PhotoSet) -> str | None:
    """Fingerprint what is marked on the photos; None where nothing is."""
    if not photos.truth:
        return None
    marked = [
        [photo.path.name, label, truth and [truth.boxes.tolist(), _region_digest(truth)]]
        for photo, label, truth in zip(photos.photos, photos.classes, photos.truth, strict=True)
    ]
    return _sha256(json.dumps(marked).encode())


def _region_digest(truth: Truth) -> str | None:
    if truth.region is None:
        return None
    return _sha256(truth.region.numpy(force=True).tobytes())


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}; choose another folder") from error
    return content


def _change(before: Any, now: Any) -> str:
    """Show what differs, of mappings only the first entry that does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            if before.get(key) != now.get(key):
                return f"{key} {_change(before.get(key), now.get(key))}"
    return f"{before!r} then, {now!r} now"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
