"""Whether a map moves when the picture is shifted, told from an untrained classifier.

Pictures of noise are rolled up, down, left and right. How far a map has moved is found by phase
correlation (Kuglin and Hines, 1975): of the product of one map's spectrum with the conjugate of the
other's only the phase is kept, so that the inverse transform is a peak at the displacement, near 1
where nothing else has changed. Borders, position embeddings and random weights make patterns of
their own in every map; what all shifts of a picture have in common is taken off before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Down, up, right and left."""

PICTURES = 2
# Rows and columns of the noise in a picture.
GRAIN = 16


def shifts_for(grids: Sequence[Size], picture: Size) -> list[Size]:
    """Rows and columns of pixels to shift by: a quarter of the coarsest grid, in whole cells.

    How wide a cell is, a grid does not tell exactly: cells of 64 pixels, which 224 pixels hold 3.5
    times, make a grid of 4. So a second shift takes the nearest power of two.

    Example:
        >>> shifts_for([(28, 28), (7, 7)], (224, 224)), shifts_for([(4, 2)], (224, 64))
        ([(64, 64)], [(56, 32), (64, 32)])
    """
    coarsest = [min(sides) for sides in zip(*grids, strict=True)]
    widths = [pixels / cells for pixels, cells in zip(picture, coarsest, strict=True)]
    shifts: list[Size] = []
    for cell in (widths, [2 ** round(math.log2(width)) for width in widths]):
        rows, columns = (
            round(max(1, round(cells / 4)) * width)
            for cells, width in zip(coarsest, cell, strict=True)
        )
        if (rows, columns) not in shifts:
            shifts.append((rows, columns))
    return shifts


def shifted_pictures(channels: int, picture: Size, shift: Size) -> Tensor:
    """Make ``PICTURES`` pictures of noise in [0, 1], and all of them rolled in each direction.

    Returns:
        (5 * ``PICTURES``, C, H, W); first those that are not shifted.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(PICTURES, channels, GRAIN, GRAIN, generator=generator)
    noise = F.interpolate(noise, size=picture, mode="nearest")
    rolled = [noise.roll((r * shift[0], c * shift[1]), dims=(2, 3)) for r, c in DIRECTIONS]
    return torch.cat([noise, *rolled])


def peaks(maps: Tensor, picture: Size, shift: Size) -> list[float]:
    """Look where the maps of the shifted pictures have moved to.

    Args:
        maps: (5 * ``PICTURES``, n, h, w) of :func:`shifted_pictures`.
        picture: Height and width of the pictures.
        shift: Rows and columns that they were shifted by.

    Returns:
        For each direction the height of the peak, up to 1; 0 where it is a cell or more away from
        where it belongs.

    Example:
        >>> pictures = shifted_pictures(3, (32, 32), (8, 8))
        >>> [round(peak, 1) for peak in peaks(pictures, (32, 32), (8, 8))]
        [0.9, 0.9, 0.9, 0.9]
        >>> peaks(pictures.flip(2, 3), (32, 32), (8, 8))
        [0.0, 0.0, 0.0, 0.0]
    """
    maps = maps.double().unflatten(0, (len(DIRECTIONS) + 1, PICTURES))
    spectra = torch.fft.fft2(maps - maps.mean(dim=0))
    found = []
    for direction, spectrum in zip(DIRECTIONS, spectra[1:], strict=True):
        product = (spectra[0].conj() * spectrum).sum(dim=(0, 1))
        phase = product / product.abs().clamp_min(torch.finfo(product.real.dtype).tiny)
        response = torch.fft.ifft2(phase).real
        grid = (response.shape[0], response.shape[1])
        peak = divmod(int(response.argmax()), grid[1])
        away = [
            _around(cell - way * pixels * cells / whole, cells)
            for cell, way, pixels, cells, whole in zip(
                peak, direction, shift, grid, picture, strict=True
            )
        ]
        found.append(float(response.max()) if max(away) < 1 else 0.0)
    return found


def _around(distance: float, length: int) -> float:
    """The shorter way round."""
    distance = abs(distance) % length
    return min(distance, length - distance)
