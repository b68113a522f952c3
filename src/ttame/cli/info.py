"""``ttame info``: what an explainer is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ttame.cli.console import stdout
from ttame.errors import StorageError


def info(
    explainer: Annotated[
        Path | None,
        typer.Argument(help="Explainer folder. Without it, the one that ttame brings."),
    ] = None,
) -> None:
    """Show what an explainer is: classifier, layers, training, scores, size."""
    from rich.table import Table
    from rich.text import Text

    from ttame import storage

    folder = storage.DEFAULT_FOLDER if explainer is None else explainer
    description = storage.read_description(folder)
    try:
        rows = list(describe(description, folder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{folder / storage.DESCRIPTION} is incomplete ({type(error).__name__}: {error}); "
            "train the explainer again"
        ) from error
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    stdout().print(table)


def describe(description: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values for people, from the content of ``explainer.json``."""
    backbone, attention = description["backbone"], description["attention"]
    names = backbone["class_names"]
    yield "folder", str(folder)
    yield "size on disk", _size(folder, backbone.get("weights_file"))
    yield "classifier", f"{backbone['source']} ({backbone['name']})"
    yield "fingerprint", str(backbone["fingerprint"])
    if backbone.get("weights_file"):
        yield "weight file", str(backbone["weights_file"])
    shown = f": {'; '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else ""
    yield "classes", f"{backbone['num_classes']}{shown}"
    yield "probabilities", str(backbone.get("activation", "softmax"))
    for layer, shape in zip(backbone["layers"], backbone["feature_shapes"], strict=True):
        yield "layer", f"{layer} ({' x '.join(map(str, shape))})"
    yield "preprocessing", _preprocessing(backbone["preprocessing"])
    yield "head", str(attention["head"])
    yield "mask form", str(attention["mask_form"])
    yield "smoothing", f"{attention.get('smoothing', 0.0):g} cells"
    yield "upsampling", str(attention.get("upsampling", "bilinear"))
    yield "detail", f"{attention.get('detail', 0.0):g}"
    yield "grid", str(attention.get("grid", "first"))
    yield "branch", str(attention.get("branch", "paper"))
    yield "cells", "of one length" if attention.get("unit_cells") else "as they are"
    yield "parameters", f"{attention['parameters']:,}"
    if description.get("imported"):
        yield "imported", _pairs(description["imported"])
    yield from _training(description.get("training") or {})
    for group, scores in (description.get("scores") or {}).items():
        yield f"{group} scores", _pairs(scores)
    yield "ttame", str(description["ttame"])


def _training(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not training:
        yield "training", "not recorded"
        return
    config = training.get("config") or {}
    yield "preset", str(training.get("preset"))
    yield "photos", f"{training.get('photos')} and {training.get('validation_photos')} to validate"
    yield "data digest", str(training.get("data_digest"))
    best = training.get("epoch")
    kept = "the untrained start, better than any" if best == 0 else f"best {best}"
    yield "epochs", f"{kept} of {config.get('epochs')}"
    if training.get("seconds") is not None:
        yield "time", f"{training['seconds']:,.0f} s, {training.get('steps')} steps"
    if config:
        yield "settings", _pairs(config)
    if training.get("versions"):
        yield "versions", _pairs(training["versions"])


def _preprocessing(values: Mapping[str, Any]) -> str:
    height, width = values["crop"]
    how = "squash" if values["resize"] is None else f"short side {values['resize']}, crop"
    mean, std = (", ".join(f"{v:g}" for v in values[key]) for key in ("mean", "std"))
    return f"{how} {height} x {width}, {values['interpolation']}, mean {mean}, std {std}"


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _size(folder: Path, classifier: str | None) -> str:
    from ttame import storage

    files = [folder / storage.DESCRIPTION, folder / storage.WEIGHTS]
    if classifier and not Path(classifier).is_absolute():
        files.append(folder / classifier)
    size = float(sum(file.stat().st_size for file in files if file.is_file()))
    missing = [file.name for file in files if not file.is_file()]
    note = f" ({', '.join(missing)} is missing)" if missing else ""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}{note}"
        size /= 1000
    return f"{size:.3g} GB{note}"
