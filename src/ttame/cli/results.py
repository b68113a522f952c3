"""What ``ttame explain`` leaves in its folder: pictures, arrays and one JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttame.classes import short_name
from ttame.cli.photos import shorten
from ttame.files import free_name, slug, write_atomically

if TYPE_CHECKING:
    from ttame.explanation import Explanation

_PREDICTIONS = 5


@dataclass
class ResultsFolder:
    """Writes explanations as they come, and keeps only what the JSON file needs.

    Attributes:
        folder: Where the files go.
        arrays: Also write every map as a float32 array (h, w), before normalisation.
        photos: One entry per explained photo, as in the JSON file.
        broken: File and reason of every photo that could not be read.
    """

    folder: Path
    arrays: bool = False
    photos: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, str]] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, explanation: Explanation, i: int, file: str, target: Path) -> None:
        """Write the pictures of image ``i`` and remember its numbers.

        Args:
            explanation: Of a batch.
            i: The image's place in it.
            file: The photo's own path.
            target: Path of its pictures below the folder, without class and ending.

        Raises:
            StorageError: A file cannot be written.
        """
        maps = [
            self._add_map(explanation, i, j, target) for j in range(explanation.classes.shape[1])
        ]
        self.photos.append({"file": file, "predictions": predictions(explanation, i), "maps": maps})

    def write_json(self, provenance: Mapping[str, Any]) -> Path:
        """Write ``explanations.json``.

        Raises:
            StorageError: It cannot be written.
        """
        from ttame import __version__

        content = {
            "ttame": __version__,
            "explainer": dict(provenance),
            "photos": self.photos,
            "broken": self.broken,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        # A file name that is no valid text is escaped as JSON escapes it.
        data = text.encode("utf-8", "backslashreplace")
        return write_atomically(self.folder / "explanations.json", lambda file: file.write(data))

    def _add_map(self, explanation: Explanation, i: int, j: int, target: Path) -> dict[str, Any]:
        import numpy as np

        from ttame.pictures import write_png

        label = shorten(slug(explanation.label(i, j)))
        # Two classes may look alike in a file name.
        name = free_name(target.with_name(f"{target.name}-{label}"), self._taken)
        picture = explanation.picture(i, j)
        write_atomically(self.folder / f"{name}.png", lambda file: write_png(picture, file))
        index = int(explanation.classes[i, j])
        names = explanation.class_names
        entry: dict[str, Any] = {
            "class": index,
            "name": names[index] if names else None,
            "probability": _number(explanation.probability(i, j)),
            "picture": f"{name.as_posix()}.png",
            "mean_mask_area": _number(float(explanation.masks[i, j].float().mean())),
        }
        if self.arrays:
            array = explanation.maps[i, j].float().cpu().numpy()
            write_atomically(
                self.folder / f"{name}.npy", lambda file: np.save(file, array, allow_pickle=False)
            )
            entry["npy"] = f"{name.as_posix()}.npy"
        return entry


def predictions(explanation: Explanation, i: int) -> list[dict[str, Any]]:
    """Return the five most probable classes of image ``i``, best first."""
    row = explanation.probabilities[i]
    values, indices = row.topk(min(_PREDICTIONS, len(row)))
    names = explanation.class_names
    return [
        {
            "index": index,
            "name": short_name(names[index]) if names else None,
            "probability": _number(value),
        }
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def rows(photos: Sequence[Mapping[str, Any]], folder: Path) -> list[tuple[str, str, str, str]]:
    """Return the photo's name, class, probability and picture of every map, for a table."""
    return [
        (
            Path(photo["file"]).name if place == 0 else "",
            short_name(entry["name"]) if entry["name"] else str(entry["class"]),
            "-" if entry["probability"] is None else f"{entry['probability']:.1%}",
            str(folder / entry["picture"]),
        )
        for photo in photos
        for place, entry in enumerate(photo["maps"])
    ]


def _number(value: float) -> float | None:
    """Return a number that JSON knows: NaN and infinity become null."""
    return value if math.isfinite(value) else None
