"""Fill one image's holes by multigrid that stores and visits the unknown pixels only.

The equations are those of :mod:`ttame.metrics.multigrid`, solved by F-cycles with Gauss-Seidel
smoothing. Coarse pixels lie on every other fine one and stand for a hat: 1 there, 1/2 half-way to
the next coarse pixel, 0 on known pixels. The coarse equations are the fine ones between such hats
(Galerkin), so that a coarse correction can only lower the energy of the error, whatever the holes
look like. A coarse pixel is unknown where most of the fine ones around it are; elsewhere known ones
are close enough for the fine grid alone. A cycle leaves about a tenth of the error.

All arrays have a border of one pixel and are flat, for the neighbours to lie at fixed distances.
All compiled functions are in this one file, since the cache notices changes of a function's own
file only.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ttame.metrics.compiled.compiling import compiled

Array: TypeAlias = NDArray[Any]

# So many colours are solved for together: their sums do not wait for each other, and a number that
# the compiler knows takes half the time of one that it does not.
COLOURS = 3
# Unsigned, since a signed index might count from the end, which would be checked at each access.
_index = np.uintp
_signed = np.int64
_ONE = _index(1)
# Between hats all of whose pixels and neighbours are unknown: diagonal, direct, diagonal link.
_INSIDE = (11.0, 1.5, 1.25)
# The value of an unknown pixel that nothing is known around.
_START = 0.5
# No cycle counts as better than this.
_LEAST_RATE = 0.1
# A smaller part of the tolerance is no change.
_NOISE = 0.01
_CYCLES = 50


class _Grid(NamedTuple):
    """One grid.

    Attributes:
        finest: Whether this is the image, whose links weigh 2 and 1 and whose right side is 0.
        height: Without the border.
        width: Without the border.
        at: (U,) places of the unknown pixels, row by row.
        under: (V,) places of the unknown pixels of the finer grid that lie under a hat.
        unknown: (N,) 0 or 1.
        links: (5, N) diagonal, and weights of the links to the right, to the lower left, below and
            to the lower right.
        x: (COLOURS, N) solution or correction; 0 outside. On the image, the known pixels too.
        right: (COLOURS, N) right side.
        rest: (COLOURS, N) residual, computed where the next grid needs it, elsewhere 0.
    """

    finest: bool
    height: int
    width: int
    at: Array
    under: Array
    unknown: Array
    links: Array
    x: Array
    right: Array
    rest: Array


def image_links(height: int, width: int) -> Array:
    """Return the ``links`` of images: 2 to direct neighbours, 1 to diagonal ones."""
    links = np.empty((5, (height + 2) * (width + 2)))
    links[1::2], links[2::2] = 2, 1
    inside = np.pad(np.ones((height, width)), 2)
    ahead = inside[1:-1, 2:] + inside[1:-1, :-2]
    across = inside[:, 2:] + inside[:, :-2]
    direct = ahead + inside[2:, 1:-1] + inside[:-2, 1:-1]
    links[0] = (2 * direct + across[2:] + across[:-2]).ravel()
    return links


@compiled
def fill_one(
    image: Array,
    unknown: Array,
    noise: Array,
    filled: Array,
    links: Array,
    x: Array,
    rest: Array,
    mask: Array,
    tolerance: float,
) -> int:
    """Fill the holes of an image of up to ``COLOURS`` colours; return the number of cycles.

    Args:
        image: (C, H, W) float32.
        unknown: (H, W) boolean.
        noise: (C, U) float32 to add to the U unknown pixels, row by row; (C, 0) adds nothing.
        filled: (C, H, W) float32, where the result goes.
        links: From :func:`image_links`.
        x: (COLOURS, N), of any values inside, 0 on the border.
        rest: (COLOURS, N) zeros, left as such.
        mask: (N,) zeros on the border.
        tolerance: See :func:`ttame.metrics.compiled.fill.fill`.
    """
    height, width = unknown.shape
    at = _prepare(image, unknown, x, mask)
    _guess(at, width, len(image), mask, links[0], x)
    grids = [_Grid(True, height, width, at, at, mask, links, x, x, rest)]
    while len(grids[-1].at) > 1:
        following = _coarser(grids[-1])
        if len(following.at) == 0:
            break
        grids.append(following)
    before = np.inf
    cycles = 0
    while len(at) and cycles < _CYCLES:
        cycles += 1
        change = _cycle(grids)
        # Where the guess is exact, changes are noise that does not shrink. A cycle that left 99 %
        # of the error, of which a tenth is usual, would be needed to stop too early here.
        if change < _NOISE * tolerance:
            break
        rate = max(change / before, _LEAST_RATE)
        if before < np.inf and rate < 1 and change * rate / (1 - rate) < tolerance / 2:
            break
        before = change
    for colour in range(len(image)):
        for i in range(height):
            row = (i + 1) * (width + 2) + 1
            filled[colour, i] = x[colour, row : row + width]
    if noise.shape[1]:
        _add(noise, at, width, filled)
    # For the next image.
    for number in range(len(at)):
        for colour in range(COLOURS):
            rest[colour, _index(at[number])] = 0
    return cycles


@compiled
def _add(noise: Array, at: Array, width: int, filled: Array) -> None:
    stride, row = width + 2, 0
    for number in range(len(at)):
        place = _signed(at[number])
        while place >= (row + 2) * stride:
            row += 1
        i, j = _index(row), _index(place - (row + 1) * stride - 1)
        for colour in range(len(noise)):
            c = _index(colour)
            filled[c, i, j] += noise[c, _index(number)]


@compiled
def _prepare(image: Array, unknown: Array, x: Array, mask: Array) -> Array:
    """Lay out one image and its mask; return the places of the unknown pixels."""
    height, width = unknown.shape
    places = np.empty(height * width + 1, np.uint32)
    count = 0
    for i in range(height):
        row = (i + 1) * (width + 2) + 1
        for colour in range(COLOURS):
            if colour < len(image):
                x[colour, row : row + width] = image[colour, i]
            else:
                x[colour, row : row + width] = 0
        for j in range(width):
            mask[_index(row + j)] = unknown[i, j]
            places[_index(count)] = row + j
            count += unknown[i, j]
    for number in range(count):
        for colour in range(len(image)):
            x[_index(colour), _index(places[number])] = 0
    found: Array = places[:count].copy()
    return found


@compiled
def _guess(at: Array, width: int, colours: int, unknown: Array, diagonals: Array, x: Array) -> None:
    """Start from the mean of the neighbours that are known or guessed before, row by row.

    Scattered pixels are nearly right then, which saves a cycle. ``x`` is 0 where nothing is known.
    """
    stride = _index(width + 2)
    for number in range(len(at)):
        p = _index(at[number])
        above, below = p - stride, p + stride
        ahead = 2 * (unknown[p + _ONE] + unknown[below])
        weight = diagonals[p] - (ahead + unknown[below - _ONE] + unknown[below + _ONE])
        inverse, alone = (1 / weight, 0.0) if weight > 0 else (0.0, _START)
        for colour in range(colours):
            c = _index(colour)
            diagonal = (
                x[c, above - _ONE] + x[c, above + _ONE] + (x[c, below - _ONE] + x[c, below + _ONE])
            )
            direct = x[c, above] + x[c, below] + (x[c, p + _ONE] + x[c, p - _ONE])
            x[c, p] = (diagonal + 2 * direct) * inverse + alone


@compiled
def _cycle(grids: list[_Grid]) -> float:
    """Do an F-cycle; return the most by which a pixel of the image can have changed."""
    finest = grids[0]
    change = _smooth(finest)
    if len(grids) > 1:
        _descend(grids, 0)
        for top in range(len(grids) - 2, 0, -1):
            _ascend(grids, top)
            _smooth(grids[top])
            _descend(grids, top)
        _ascend(grids, 1)
        change += _interpolate(grids[1], finest)
    return float(change + _smooth(finest))


@compiled
def _descend(grids: list[_Grid], top: int) -> None:
    """Go down from a grid that is smooth, smoothing each below."""
    for level in range(top, len(grids) - 1):
        fine, coarse = grids[level], grids[level + 1]
        if fine.finest:
            _find_image_rest(fine, coarse.under)
        else:
            _find_rest(fine, coarse.under)
        _restrict(fine, coarse)
        coarse.x[:] = 0
        _smooth(coarse)


@compiled
def _ascend(grids: list[_Grid], top: int) -> None:
    """Go up from the coarsest grid, smoothing each to the one at the top."""
    for level in range(len(grids) - 1, top, -1):
        _smooth(grids[level])
        _interpolate(grids[level], grids[level - 1])
    _smooth(grids[top])


@compiled
def _smooth(grid: _Grid) -> float:
    """Solve one equation after the other, row by row; return the largest change on the image."""
    if grid.finest:
        return _smooth_image(grid)
    at, x, links, right = grid.at, grid.x, grid.links, grid.right
    stride = _index(grid.width + 2)
    for number in range(len(at)):
        p = _index(at[number])
        above, below = p - stride, p + stride
        inverse = 1 / links[0, p]
        after, before = links[1, p], links[1, p - _ONE]
        lower_left, upper_right = links[2, p], links[2, above + _ONE]
        lower, upper = links[3, p], links[3, above]
        lower_right, upper_left = links[4, p], links[4, above - _ONE]
        for colour in range(COLOURS):
            c = _index(colour)
            # What was computed just now comes last, so that the rest need not wait for it.
            total = right[c, p] + upper_left * x[c, above - _ONE] + upper * x[c, above]
            total += upper_right * x[c, above + _ONE] + lower_left * x[c, below - _ONE]
            total += lower * x[c, below] + lower_right * x[c, below + _ONE] + after * x[c, p + _ONE]
            x[c, p] = (total + before * x[c, p - _ONE]) * inverse
    return 0.0


@compiled
def _smooth_image(grid: _Grid) -> float:
    at, x, diagonals = grid.at, grid.x, grid.links[0]
    stride = _index(grid.width + 2)
    most = 0.0
    for number in range(len(at)):
        p = _index(at[number])
        above, below = p - stride, p + stride
        inverse = 1 / diagonals[p]
        for colour in range(COLOURS):
            c = _index(colour)
            diagonal = (
                x[c, above - _ONE] + x[c, above + _ONE] + (x[c, below - _ONE] + x[c, below + _ONE])
            )
            direct = x[c, above] + x[c, below] + x[c, p + _ONE]
            value = (diagonal + 2 * direct + 2 * x[c, p - _ONE]) * inverse
            most = max(most, abs(value - x[c, p]))
            x[c, p] = value
    return most


@compiled
def _find_rest(grid: _Grid, at: Array) -> None:
    """Compute the residual at some places."""
    x, links, right, rest = grid.x, grid.links, grid.right, grid.rest
    stride = _index(grid.width + 2)
    for number in range(len(at)):
        p = _index(at[number])
        above, below = p - stride, p + stride
        own, after, before = links[0, p], links[1, p], links[1, p - _ONE]
        lower_left, upper_right = links[2, p], links[2, above + _ONE]
        lower, upper = links[3, p], links[3, above]
        lower_right, upper_left = links[4, p], links[4, above - _ONE]
        for colour in range(COLOURS):
            c = _index(colour)
            total = right[c, p] + upper_left * x[c, above - _ONE] + upper * x[c, above]
            total += upper_right * x[c, above + _ONE] + lower_left * x[c, below - _ONE]
            total += lower * x[c, below] + lower_right * x[c, below + _ONE] + after * x[c, p + _ONE]
            rest[c, p] = total + before * x[c, p - _ONE] - own * x[c, p]


@compiled
def _find_image_rest(grid: _Grid, at: Array) -> None:
    x, diagonals, rest = grid.x, grid.links[0], grid.rest
    stride = _index(grid.width + 2)
    for number in range(len(at)):
        p = _index(at[number])
        above, below = p - stride, p + stride
        own = diagonals[p]
        for colour in range(COLOURS):
            c = _index(colour)
            diagonal = (
                x[c, above - _ONE] + x[c, above + _ONE] + (x[c, below - _ONE] + x[c, below + _ONE])
            )
            direct = x[c, above] + x[c, below] + (x[c, p + _ONE] + x[c, p - _ONE])
            rest[c, p] = diagonal + 2 * direct - own * x[c, p]


@compiled
def _restrict(fine: _Grid, coarse: _Grid) -> None:
    """Sum the residual under each hat: the coarse right side."""
    at, rest, received = coarse.at, fine.rest, coarse.right
    fine_stride, stride = fine.width + 2, coarse.width + 2
    for number in range(len(at)):
        place = _signed(at[number])
        i = place // stride - 1
        j = place - (i + 1) * stride - 1
        p = _index((2 * i + 1) * fine_stride + 2 * j + 1)
        above, below = p - _index(fine_stride), p + _index(fine_stride)
        down = 0.5 if 2 * i + 2 < fine.height else 1.0
        right = 0.5 if 2 * j + 2 < fine.width else 1.0
        for colour in range(COLOURS):
            c = _index(colour)
            upper = 0.5 * rest[c, above - _ONE] + rest[c, above] + right * rest[c, above + _ONE]
            middle = 0.5 * rest[c, p - _ONE] + rest[c, p] + right * rest[c, p + _ONE]
            lower = 0.5 * rest[c, below - _ONE] + rest[c, below] + right * rest[c, below + _ONE]
            received[c, _index(place)] = 0.5 * upper + middle + down * lower


@compiled
def _interpolate(coarse: _Grid, fine: _Grid) -> float:
    """Add the hats to the fine solution; return the largest change."""
    at, x, correction = coarse.under, fine.x, coarse.x
    stride, coarse_stride = fine.width + 2, coarse.width + 2
    most = 0.0
    for number in range(len(at)):
        place = _signed(at[number])
        i = place // stride - 1
        j = place - (i + 1) * stride - 1
        p, q = _index(place), _index(((i >> 1) + 1) * coarse_stride + (j >> 1) + 1)
        # The next coarse pixels, or the same where there are none.
        right = _ONE if j & 1 and j + 1 < fine.width else _index(0)
        down = _index(coarse_stride) if i & 1 and i + 1 < fine.height else _index(0)
        for colour in range(COLOURS):
            c = _index(colour)
            upper = correction[c, q] + correction[c, q + right]
            value = 0.25 * (upper + correction[c, q + down] + correction[c, q + down + right])
            most = max(most, abs(value))
            x[c, p] += value
    return most


@compiled
def _coarser(fine: _Grid) -> _Grid:
    """Return the next grid of half the size; one without unknown pixels ends the descent."""
    height, width = (fine.height + 1) // 2, (fine.width + 1) // 2
    unknown = np.zeros((height + 2) * (width + 2), np.uint8)
    at = _find_unknown(fine.unknown, fine.height, fine.width, unknown)
    size = len(unknown) if len(at) else 0
    links = np.zeros((5, size))
    # In the loops, only arrays: taking them out of a tuple costs more than reading them.
    _link(fine.finest, fine.height, fine.width, fine.unknown, fine.links, at, unknown, links)
    under = _find_under(fine.at, fine.width, unknown)
    x, right = np.zeros((COLOURS, size)), np.zeros((COLOURS, size))
    rest = np.zeros((COLOURS, size))
    return _Grid(False, height, width, at, under, unknown, links, x, right, rest)


@compiled
def _find_under(at: Array, fine_width: int, unknown: Array) -> Array:
    """Select the unknown fine pixels that the hats of the unknown coarse ones reach."""
    stride, coarse_stride = fine_width + 2, (fine_width + 1) // 2 + 2
    found: Array = np.empty(len(at) + 1, np.uint32)
    count = 0
    for number in range(len(at)):
        place = _signed(at[number])
        i = place // stride - 1
        j = place - (i + 1) * stride - 1
        q = _index(((i >> 1) + 1) * coarse_stride + (j >> 1) + 1)
        right = _ONE if j & 1 else _index(0)
        down = _index(coarse_stride) if i & 1 else _index(0)
        near = unknown[q] | unknown[q + right] | unknown[q + down] | unknown[q + down + right]
        found[_index(count)] = place
        count += near
    return found[:count]


@compiled
def _find_unknown(fine: Array, fine_height: int, fine_width: int, unknown: Array) -> Array:
    """Mark the unknown coarse pixels and return their places."""
    height, width = (fine_height + 1) // 2, (fine_width + 1) // 2
    stride, fine_stride = width + 2, fine_width + 2
    places = np.empty(height * width, np.uint32)
    count = 0
    for i in range(height):
        rows = 3 - (i == 0) - (2 * i + 1 == fine_height)
        for j in range(width):
            columns = 3 - (j == 0) - (2 * j + 1 == fine_width)
            p = _index((2 * i + 1) * fine_stride + 2 * j + 1)
            above, below = p - _index(fine_stride), p + _index(fine_stride)
            around = fine[above - _ONE] + fine[above] + fine[above + _ONE]
            around += fine[p - _ONE] + fine[p] + fine[p + _ONE]
            around += fine[below - _ONE] + fine[below] + fine[below + _ONE]
            if 2 * around > rows * columns:
                place = (i + 1) * stride + j + 1
                unknown[place] = 1
                places[count] = place
                count += 1
    found: Array = places[:count].copy()
    return found


@compiled
def _link(
    finest: bool,
    fine_height: int,
    fine_width: int,
    fine: Array,
    fine_links: Array,
    at: Array,
    unknown: Array,
    links: Array,
) -> None:
    """Compute the links of a coarse grid from those of the fine one."""
    stride, fine_stride = (fine_width + 1) // 2 + 2, fine_width + 2
    rows, columns = _hats(fine_height), _hats(fine_width)
    # What the fine equations make of a hat, around its middle.
    sent = np.zeros((5, 5))
    for number in range(len(at)):
        place = _signed(at[number])
        i = place // stride - 1
        j = place - (i + 1) * stride - 1
        middle = (2 * i + 1) * fine_stride + 2 * j + 1
        at_border = min(i, j) < 1 or 2 * i + 3 >= fine_height or 2 * j + 3 >= fine_width
        if finest and not at_border and _all_unknown(fine, middle, fine_stride):
            links[0, place] = _INSIDE[0]
            links[1, place] = links[3, place] = _INSIDE[1]
            links[2, place] = links[4, place] = _INSIDE[2]
            continue
        _send(fine, fine_links, fine_stride, middle, rows[i], columns[j], sent)
        for direction in range(5):
            down = 0 if direction < 2 else 1
            right = direction - 3 * down
            if unknown[place + down * stride + right]:
                there = middle + 2 * down * fine_stride + 2 * right
                row, column = rows[i + down], columns[j + right]
                total = _received(fine, fine_stride, there, row, column, sent, down, right)
                links[direction, place] = -total if direction else total


@compiled
def _hats(side: int) -> Array:
    """Return the hats along one side: before, at and after each coarse pixel."""
    hats = np.empty(((side + 1) // 2, 3))
    hats[:, 0], hats[:, 1], hats[:, 2] = 0.5, 1, 0.5
    if side % 2 == 0:
        # No coarse pixel follows.
        hats[-1, 2] = 1
    return hats


@compiled
def _all_unknown(fine: Array, middle: int, stride: int) -> bool:
    for row in range(middle - 2 * stride, middle + 2 * stride + 1, stride):
        for p in range(row - 2, row + 3):
            if not fine[_index(p)]:
                return False
    return True


@compiled
def _send(
    fine: Array, links: Array, width: int, middle: int, row: Array, column: Array, sent: Array
) -> None:
    """Apply the fine equations to a hat."""
    stride = _index(width)
    sent[:] = 0
    for down in range(3):
        for right in range(3):
            p = _index(middle + (down - 1) * width + right - 1)
            if not fine[p]:
                continue
            value = row[down] * column[right]
            a, b = _index(down + 1), _index(right + 1)
            sent[a, b] += value * links[0, p]
            sent[a, b + _ONE] -= value * links[1, p]
            sent[a, b - _ONE] -= value * links[1, p - _ONE]
            sent[a + _ONE, b - _ONE] -= value * links[2, p]
            sent[a - _ONE, b + _ONE] -= value * links[2, p - stride + _ONE]
            sent[a + _ONE, b] -= value * links[3, p]
            sent[a - _ONE, b] -= value * links[3, p - stride]
            sent[a + _ONE, b + _ONE] -= value * links[4, p]
            sent[a - _ONE, b - _ONE] -= value * links[4, p - stride - _ONE]


@compiled
def _received(
    fine: Array,
    stride: int,
    middle: int,
    row: Array,
    column: Array,
    sent: Array,
    down: int,
    right: int,
) -> float:
    """Sum what was sent to another hat, so many coarse pixels further down and to the right."""
    total = 0.0
    for a in range(3 - down):
        for b in range(max(0, -1 - 2 * right), min(3, 4 - 2 * right)):
            if fine[_index(middle + (a - 1) * stride + b - 1)]:
                hat = row[a] * column[b]
                total += hat * sent[_index(a + 1 + 2 * down), _index(b + 1 + 2 * right)]
    return total
