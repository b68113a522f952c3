"""Explainer folders: ``explainer.json`` and ``attention.safetensors``, never a pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttame.errors import InputError, StorageError, first_line
from ttame.files import write_atomically

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer

DESCRIPTION = "explainer.json"
WEIGHTS = "attention.safetensors"
PREVIOUS = "attention.previous.safetensors"
FORMAT = 1
DEFAULT_FOLDER = Path(__file__).parent / "default"

_log = logging.getLogger(__name__)

# What loading reads of a description.
_PARTS = {
    "backbone": {
        "source",
        "name",
        "fingerprint",
        "recipe",
        "weights_file",
        "layers",
        "class_names",
        "preprocessing",
    },
    "attention": {"head", "mask_form"},
}


def save(explainer: Explainer, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Write an explainer folder; a reader finds the old explainer or the new one, whole.

    Args:
        explainer: What to write; the classifier's own weights are not part of it. Where they lie
            in the folder already, it names them relatively to itself and may be moved with them.
        folder: Made where it is missing; other files in it stay.
        dtype: Type of the stored floating-point weights, for example ``torch.float16``.

    Returns:
        The folder.

    Raises:
        StorageError: The folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    state = {
        name: _stored(tensor, dtype) for name, tensor in explainer.attention.state_dict().items()
    }
    content = to_bytes(state)
    description = describe(explainer)
    description["backbone"]["weights_file"] = _from_folder(explainer.backbone.weights_file, folder)
    # The description names the weights it belongs to: a torn pair is noticed, not loaded.
    description["attention"]["sha256"] = hashlib.sha256(content).hexdigest()
    text = json.dumps(description, indent=2, ensure_ascii=False).encode()
    _keep_previous(folder)
    write_atomically(folder / WEIGHTS, lambda file: file.write(content))
    write_atomically(folder / DESCRIPTION, lambda file: file.write(text))
    with contextlib.suppress(OSError):
        (folder / PREVIOUS).unlink()
    return folder


def describe(explainer: Explainer) -> dict[str, Any]:
    """Return everything about an explainer but its weights, as plain values for JSON."""
    from ttame import __version__
    from ttame.explainer import mask_settings

    backbone = explainer.backbone
    return {
        "format": FORMAT,
        "ttame": __version__,
        "backbone": {
            **asdict(backbone.identity),
            "recipe": backbone.recipe,
            "weights_file": backbone.weights_file,
            "layers": list(backbone.layers),
            "feature_shapes": [list(shape) for shape in backbone.feature_shapes],
            "num_classes": backbone.num_classes,
            "activation": backbone.activation,
            "class_names": list(backbone.class_names) if backbone.class_names else None,
            "preprocessing": backbone.preprocessing.to_dict(),
        },
        "attention": {
            "head": explainer.attention.head.name,
            **mask_settings(explainer),
            "parameters": sum(p.numel() for p in explainer.attention.parameters()),
        },
        **explainer.provenance,
    }


def read_description(folder: str | Path | None = None) -> dict[str, Any]:
    """Read ``explainer.json`` of a folder (None: the embedded default) without loading weights.

    Raises:
        StorageError: There is none, it is not valid, or a newer ttame wrote it.
    """
    folder = DEFAULT_FOLDER if folder is None else Path(folder)
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(
            f"no explainer in {folder}: expected a folder with {DESCRIPTION} and {WEIGHTS}, as "
            "`ttame train --out` writes it"
        ) from error
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    if not isinstance(description, dict) or "format" not in description:
        raise StorageError(f"{path} does not describe an explainer; train it again")
    if description["format"] != FORMAT:
        raise StorageError(
            f"{path} has format {description['format']!r}, this ttame reads {FORMAT}; "
            "update ttame or train the explainer again"
        )
    for part, keys in _PARTS.items():
        values = description.get(part)
        missing = keys - values.keys() if isinstance(values, dict) else keys
        if missing:
            raise StorageError(
                f"{path} lacks {', '.join(sorted(missing))} under {part!r}; train the explainer "
                "again"
            )
    return description


def load(
    name_or_folder: str | Path | None = None,
    backbone: Backbone | nn.Module | str | None = None,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    force: bool = False,
) -> Explainer:
    """Load an explainer and its classifier.

    Args:
        name_or_folder: An explainer folder; None is the embedded default, which needs no download.
        backbone: The classifier or its source, where the folder cannot say where it comes from (an
            own module).
        weights: The classifier's weight file, where it has moved since the training.
        device: Where to put the explainer, for example ``"cuda"``.
        force: Load even if the classifier is not the one that the explainer was trained on.

    Raises:
        StorageError: The folder is no explainer, or its classifier is another one.
        BackboneError: The classifier cannot be loaded.

    Example:
        >>> import ttame
        >>> ttame.load().backbone.num_classes
        1000
    """
    import torch

    from ttame import masking
    from ttame.attention import BRANCHES, GRIDS, AttentionMechanism
    from ttame.explainer import Explainer
    from ttame.heads import HEADS, make_head

    folder = DEFAULT_FOLDER if name_or_folder is None else Path(name_or_folder)
    description = read_description(folder)
    head, form = description["attention"]["head"], description["attention"]["mask_form"]
    # Before they were recorded, there were no others.
    grid = description["attention"].get("grid", "first")
    branch = description["attention"].get("branch", "paper")
    unit_cells = bool(description["attention"].get("unit_cells", False))
    smoothing = float(description["attention"].get("smoothing", 0.0))
    upsampling = description["attention"].get("upsampling", "bilinear")
    detail = _detail(description["attention"].get("detail", 0.0), folder)
    for kind, name, known in (
        ("head", head, HEADS),
        ("mask form", form, masking.MASK_FORMS),
        ("grid", grid, GRIDS),
        ("branch", branch, BRANCHES),
        ("upsampling", upsampling, masking.UPSAMPLINGS),
    ):
        if name not in known:
            raise StorageError(f"{folder} uses the unknown {kind} {name!r}; update ttame")
    # Parts start at random before their weights are read: that is no business of the caller's.
    with torch.random.fork_rng(devices=[]):
        loaded = _load_backbone(description["backbone"], folder, backbone, weights)
        _check_fingerprint(description["backbone"], loaded, force)
        _check_activation(description["backbone"], loaded)
        channels = [shape[0] for shape in loaded.feature_shapes]
        made = make_head(head, loaded)
        attention = AttentionMechanism(
            channels, made, grid, branch, unit_cells, loaded.plain_layers
        )
    state = _read_weights(folder, description["attention"].get("sha256"))
    try:
        attention.load_state_dict(state)
    except RuntimeError as error:
        raise StorageError(
            f"the weights in {folder} do not fit its description: {first_line(error)}"
        ) from error
    own = {"format", "ttame", "backbone", "attention"}
    provenance = {key: value for key, value in description.items() if key not in own}
    explainer = Explainer(loaded, attention, form, provenance, smoothing, upsampling, detail).eval()
    return explainer if device is None else explainer.to(device)


def _detail(given: Any, folder: Path) -> float:
    from ttame.detail import check_detail

    try:
        detail = float(given)
        check_detail(detail)
    except (TypeError, ValueError, InputError) as error:
        raise StorageError(f"{folder} asks for a detail of {given!r}, expected 0 to 1") from error
    return detail


def _load_backbone(
    described: Mapping[str, Any],
    folder: Path,
    backbone: Backbone | nn.Module | str | None,
    weights: str | Path | None,
) -> Backbone:
    from ttame.backbone.contract import Backbone
    from ttame.backbone.registry import load_backbone
    from ttame.images.preprocessing import Preprocessing

    layers = tuple(described["layers"])
    recipe = dict(described["recipe"])
    product = bool(recipe.pop("class_token_product", False))
    if isinstance(backbone, Backbone):
        other = None if backbone.layers == layers else layers
        return load_backbone(backbone, layers=other, class_token_product=product)
    shared: dict[str, Any] = {
        "layers": layers,
        "preprocessing": Preprocessing.from_dict(described["preprocessing"]),
        "class_names": described["class_names"],
        # Before they were recorded, there were no others.
        "logits": recipe.pop("logits", None),
        "multi_label": recipe.pop("multi_label", False),
        "class_token_product": product,
    }
    if backbone is not None:
        return load_backbone(backbone, weights, **shared)
    if described["source"] == "module":
        raise StorageError(
            f"this explainer belongs to an own classifier ({described['name']}); "
            "pass it: ttame.load(folder, backbone=your_model)"
        )
    if weights is None and described["weights_file"] is not None:
        weights = folder / described["weights_file"]  # an absolute path stays as it is
    if weights is not None and not Path(weights).is_file():
        raise StorageError(
            f"the classifier's weight file {weights} is not there; say where it is with weights="
        )
    model_args = recipe.pop("model_args")
    return load_backbone(recipe.pop("source"), weights=weights, **recipe, **model_args, **shared)


def _check_fingerprint(described: Mapping[str, Any], backbone: Backbone, force: bool) -> None:
    if backbone.identity.fingerprint == described["fingerprint"]:
        return
    message = (
        f"the explainer was trained on {described['name']} with fingerprint "
        f"{described['fingerprint'][:12]}, this classifier ({backbone.identity.name}) has "
        f"{backbone.identity.fingerprint[:12]}"
    )
    if not force:
        raise StorageError(f"{message}; load the right weights, or pass force=True to insist")
    _log.warning("%s; loaded all the same", message)


def _from_folder(file: str | None, folder: Path) -> str | None:
    """Name a file that lies in the folder as seen from there; other names stay as they are."""
    if file is None or not Path(file).resolve().is_relative_to(folder.resolve()):
        return file
    return Path(file).resolve().relative_to(folder.resolve()).as_posix()


def _check_activation(described: Mapping[str, Any], backbone: Backbone) -> None:
    # Before it was recorded, there was no other.
    expected = described.get("activation", "softmax")
    if backbone.activation != expected:
        raise StorageError(
            f"the explainer was trained on probabilities by {expected}, this backbone gives them "
            f"by {backbone.activation}; load it with multi_label={expected == 'sigmoid'}"
        )


def _keep_previous(folder: Path) -> None:
    """Keep weights that belong to the description beside them until a new one stands there."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        content = (folder / WEIGHTS).read_bytes()
        belong = hashlib.sha256(content).hexdigest() == description["attention"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no explainer to keep
    if belong:
        write_atomically(folder / PREVIOUS, lambda file: file.write(content))


def _read_weights(folder: Path, digest: str | None) -> dict[str, Tensor]:
    from safetensors.torch import load as from_bytes

    try:
        content = _weights_of(folder, digest)
        state: dict[str, Tensor] = from_bytes(content)
    except StorageError:
        raise
    except Exception as error:  # safetensors has no error class of its own to name here
        raise StorageError(f"cannot read {folder / WEIGHTS}: {first_line(error)}") from error
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _weights_of(folder: Path, digest: str | None) -> bytes:
    """Return the weights that the description names; those before them after a torn save."""
    content = (folder / WEIGHTS).read_bytes()
    if digest is None or hashlib.sha256(content).hexdigest() == digest:
        return content
    with contextlib.suppress(OSError):
        previous = (folder / PREVIOUS).read_bytes()
        if hashlib.sha256(previous).hexdigest() == digest:
            return previous
    raise StorageError(f"{folder / WEIGHTS} does not belong to the {DESCRIPTION} beside it")


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
