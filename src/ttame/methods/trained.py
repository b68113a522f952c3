"""Methods that are trained: they take part in a comparison as an explainer folder."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class TrainedMethod:
    """What people must know about a trained method.

    Attributes:
        title: How it is called in tables and plots.
        paper: Where it was published.
        option: How the command line is given its explainer.
    """

    title: str
    paper: str
    option: str


COST = "1 forward, the attention mechanism with it"
"""What an explanation of a trained method costs."""

TRAINED: Mapping[str, TrainedMethod] = MappingProxyType(
    {
        "lcam_img": TrainedMethod(
            "L-CAM-Img",
            "Gkartzonika, Gkalelis and Mezaris, ECCV Workshops 2022, arXiv 2209.11189",
            "--also lcam_img=FOLDER",
        ),
        "ttame": TrainedMethod(
            "T-TAME",
            "Ntrougkas et al., IEEE Access 2024, doi 10.1109/ACCESS.2024.3405788",
            "--explainer FOLDER",
        ),
    }
)
"""By their names in results."""
