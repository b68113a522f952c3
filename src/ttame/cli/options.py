"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttame.errors import InputError, first_line

if TYPE_CHECKING:
    from ttame.explainer import Explainer

ExplainerOption = Annotated[
    Path | None,
    typer.Option(
        "--explainer", "-e", help="Explainer folder. Without it, the one that ttame brings."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The classifier, where the explainer cannot say which."),
]
RequiredModel = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="The classifier: timm/NAME, torchvision/NAME, hf/ID or hf/FOLDER."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", "-w", help="The classifier's weight file, instead of a download."),
]
MultiLabelOption = Annotated[
    bool | None,
    typer.Option(
        "--multi-label/--no-multi-label",
        help="Any number of the model's classes may be there at once (sigmoid). Without it, as "
        "the model's configuration says.",
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data", "-d", help="Photos: a folder, a text list or a CSV file.")
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, help="Photos per forward pass.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that read photos. Without it, as fits."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ... auto takes a GPU.")
]
ImagesOption = Annotated[
    int | None, typer.Option("--images", "-n", min=1, help="Draw this many photos at random.")
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Load even if the classifier's weights are not the trained ones."),
]

# Below this many photos, starting processes costs more than they save.
_FEW = 64


def split_list(text: str | None) -> list[str] | None:
    """Split ``"a, b"`` at its commas; None stays None.

    Raises:
        InputError: Nothing is in it.

    Example:
        >>> split_list("layer2, layer3,")
        ['layer2', 'layer3']
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"expected names separated by commas, got {text!r}")
    return parts


def read_shares(text: str) -> tuple[float, ...]:
    """Read shares given in percent.

    Raises:
        InputError: One is not a number in (0, 100].

    Example:
        >>> read_shares("100,50,15")
        (1.0, 0.5, 0.15)
    """
    try:
        shares = tuple(float(part.rstrip("% ")) / 100 for part in split_list(text) or [])
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f"expected shares in percent such as 100,50,15, got {text!r}")
    return shares


def read_settings(pairs: list[str]) -> dict[str, str]:
    """Read ``key=value`` texts.

    Raises:
        InputError: One has no ``=``, or a key comes twice.

    Example:
        >>> read_settings(["lr=0.01", "area-weight=2"])
        {'lr': '0.01', 'area_weight': '2'}
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise InputError(f"expected --set key=value, got {pair!r}")
        if key in settings:
            raise InputError(f"--set {key} is given twice")
        settings[key] = value.strip()
    return settings


def pick_device(name: str) -> str:
    """Turn a device name into one that is on this machine.

    Raises:
        InputError: It is unknown or not there.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"cannot use device {name!r}: {first_line(error)}") from None
    return name


def pick_workers(workers: int | None, photos: int) -> int:
    """Return how many processes shall read ``photos`` photos where the user did not say."""
    if workers is not None:
        return workers
    if photos < _FEW:
        return 0
    from ttame.training.data import automatic_workers

    return automatic_workers()


def load_explainer(
    folder: Path | None, model: str | None, weights: Path | None, device: str, force: bool
) -> Explainer:
    """Load an explainer as the shared options say.

    Raises:
        TtameError: Whatever :func:`ttame.load` and :func:`ttame.load_backbone` refuse.
    """
    from ttame import storage

    return storage.load(folder, model, weights, pick_device(device), force)
