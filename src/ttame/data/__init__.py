"""Photos that come with the package, for first steps and tests."""

from __future__ import annotations

from pathlib import Path


def sample_photos() -> list[Path]:
    """Return the bundled photos, 299 x 299 pixels each, sorted by name.

    They are licensed CC BY 2.0; ``ATTRIBUTION.csv`` beside them names author and source of each.

    Example:
        >>> [photo.name for photo in sample_photos()][:2]
        ['acoustic-guitar.jpg', 'daisy.jpg']
    """
    return sorted((Path(__file__).parent / "photos").glob("*.jpg"))
