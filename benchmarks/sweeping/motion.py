"""Whether a map moves with what is in the picture, told from an untrained classifier.

Pictures: noise, and four times the same noise with a square of other noise in another quadrant
each. What the square changes in the map, ``|map(with) - map(without)|``, has a centre of mass. Its
displacement, as a share of the square's own (least squares over both axes), is 1 where the map
follows the square exactly and 0 where it does not care. Borders, position embeddings and random
weights make patterns of their own in every map; they are the same for all five pictures and drop
out. (Without the square it cannot be plain grey: normalisations turn the nothing that they find
there into anything, so that the slightest effect of the square changes the whole map.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Maps of 4 x 4 independent random numbers reach it in 1 of 1,000 cases.
LEAST = 0.2

CENTRES = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
"""Row and column of the squares' centres, as shares of the picture."""


def moved_squares(channels: int, height: int, width: int) -> Tensor:
    """Make the five pictures (5, C, H, W) in [0, 1]; the one without a square is the last."""
    generator = torch.Generator().manual_seed(0)
    half = (height // 2, width // 2)
    ground = torch.rand(1, channels, 16, 16, generator=generator)
    cells = torch.rand(1, channels, 8, 8, generator=generator)
    square = F.interpolate(cells, size=half, mode="nearest")[0]
    ground = F.interpolate(ground, size=(height, width), mode="nearest")
    pictures = ground.repeat(len(CENTRES) + 1, 1, 1, 1)
    for picture, (row, column) in zip(pictures, CENTRES, strict=False):
        top = 0 if row < 0.5 else height - half[0]
        left = 0 if column < 0.5 else width - half[1]
        picture[:, top : top + half[0], left : left + half[1]] = square
    return pictures


def displacement(maps: Tensor) -> float:
    """How far maps (5, n, h, w) of the five pictures move with the square: 1 is all the way.

    The changes of the n maps of a picture are added.

    Example:
        >>> maps = torch.zeros(5, 1, 2, 2)
        >>> for index in range(4):
        ...     maps[index].view(-1)[index] = 1
        >>> displacement(maps), displacement(maps.flip(3)), displacement(torch.zeros(5, 3, 2, 2))
        (1.0, 0.0, 0.0)
    """
    maps = maps.double()
    changes = (maps[:-1] - maps[-1]).abs().sum(dim=1)
    total = changes.sum(dim=(1, 2))
    if not (total > 0).all():
        return 0.0
    rows, columns = ((torch.arange(n, dtype=maps.dtype) + 0.5) / n for n in maps.shape[2:])
    centres = torch.stack(
        [(changes.sum(2) * rows).sum(1), (changes.sum(1) * columns).sum(1)], dim=1
    )
    centres = centres / total[:, None]
    own = torch.tensor(CENTRES, dtype=maps.dtype)
    own = own - own.mean(dim=0)
    return float((own * (centres - centres.mean(dim=0))).sum() / own.square().sum())


def scrambled(moved: Sequence[float]) -> int | None:
    """Find a layer that moves less than half as far as a deeper one, which sees more widely.

    Args:
        moved: Displacement of every layer, shallow to deep.

    Returns:
        The first such layer, or None. Displacements below ``LEAST`` say nothing of the others.

    Example:
        >>> scrambled([0.9, 0.5, 0.6]), scrambled([0.9, 0.2, 0.6]), scrambled([0.0, 0.1])
        (None, 1, None)
    """
    for index, value in enumerate(moved[:-1]):
        deeper = max(moved[index + 1 :])
        if deeper >= LEAST and value < deeper / 2:
            return index
    return None
