"""How a layer lays out its output, found from shapes alone, and the way to (B, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from ttame.backbone.token_order import Size, in_rows
from ttame.errors import BackboneError

# More tokens than this in front of the patches are no class, distillation or register tokens.
_MOST_PREFIX_TOKENS = 64
# Unpadded convolutions bend the aspect ratio of small maps, but not beyond this factor.
_ASPECT_TOLERANCE = math.log(1.5)


class Layout(NamedTuple):
    """Order of the axes: ``"channels_first"``, ``"channels_last"`` or ``"tokens"``.

    Attributes:
        order: Which of the three.
        prefix: Number of tokens in front of the patch tokens (class, distillation, registers).
        strides: Of tokens that are not row by row: see :mod:`ttame.backbone.token_order`.
    """

    order: str
    prefix: int = 0
    strides: tuple[Size, ...] = ()


def aspect_error(grid: Size, image: Size) -> float:
    """Distance of two aspect ratios on the log scale; infinite where ``grid`` is no plane."""
    (rows, columns), (height, width) = grid, image
    if min(grid) < 2 or rows > 2 * height or columns > 2 * width:
        return math.inf
    error = abs(math.log(rows * width / (columns * height)))
    # One row or column more or less is rounding.
    slack = math.log1p(1 / min(grid))
    return error if error <= max(_ASPECT_TOLERANCE, slack) else math.inf


def plane_layout(shape: tuple[int, ...], image: Size) -> tuple[Layout | None, bool]:
    """Layout of a 4-D output for an image of size (h, w), and whether it is beyond doubt.

    Example:
        >>> layout, certain = plane_layout((1, 56, 56, 96), (224, 224))
        >>> layout.order, certain
        ('channels_last', True)
        >>> layout, certain = plane_layout((1, 56, 56, 56), (224, 224))
        >>> layout.order, certain
        ('channels_first', False)
    """
    first = aspect_error((shape[2], shape[3]), image)
    last = aspect_error((shape[1], shape[2]), image)
    if math.isinf(first) and math.isinf(last):
        return None, False
    certain = not math.isclose(first, last, abs_tol=1e-6)
    return Layout("channels_last" if certain and last < first else "channels_first"), certain


def token_grid(patches: int, image: Size) -> Size | None:
    """Grid (H, W) of ``patches`` tokens whose aspect ratio is nearest to the image's.

    Example:
        >>> token_grid(196, (224, 224)), token_grid(6, (32, 48)), token_grid(30, (50, 140))
        ((14, 14), (2, 3), (3, 10))
    """
    pairs = [(n, patches // n) for n in range(1, math.isqrt(patches) + 1) if patches % n == 0]
    pairs += [(columns, rows) for rows, columns in pairs]
    target = math.log(image[0] / image[1])
    return min(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1]) - target), default=None)


def token_layout(
    tokens: int, image: Size, planes: Iterable[Size], declared: Iterable[int] = ()
) -> Layout | None:
    """Layout of a (B, ``tokens``, C) output.

    Args:
        tokens: Number of tokens N, prefix included.
        image: Height and width of the classifier's input.
        planes: Grids of the 4-D maps before this output, in order of execution.
        declared: Numbers of prefix tokens that the classifier itself declares.

    Returns:
        The layout, or None where the tokens fit no grid.

    Example:
        >>> token_layout(201, (224, 224), [(14, 14)]) == Layout("tokens", prefix=5)
        True
    """
    planes = list(planes)
    # The fewest: reduced keys and values are smaller planes, to which the rest would be a prefix.
    fewest = min(
        (rest for rows, columns in planes if (rest := tokens - rows * columns) >= 0), default=-1
    )
    if 0 <= fewest <= _MOST_PREFIX_TOKENS:
        return Layout("tokens", fewest)
    for prefix in sorted({0, *declared}):
        grid = token_grid(tokens - prefix, image) if tokens > prefix else None
        # After a 4-D map, other tokens are its merged patches, never more than it had.
        merged = not planes or grid is None or grid[0] * grid[1] < planes[-1][0] * planes[-1][1]
        if grid is not None and merged and aspect_error(grid, image) < 0.05:
            return Layout("tokens", prefix)
    if planes:
        return None
    rows = int(math.sqrt(tokens * image[0] / image[1]) + 1e-6)
    columns = int(rows * image[1] / image[0] + 1e-6)
    rest = tokens - rows * columns
    # Undeclared prefix tokens are believed only where they are fewer than a row of patches.
    return Layout("tokens", rest) if 0 <= rest < rows and min(rows, columns) > 1 else None


def _channels_first(output: Tensor, layout: Layout, image: Size) -> Tensor:  # noqa: ARG001
    return output


def _channels_last(output: Tensor, layout: Layout, image: Size) -> Tensor:  # noqa: ARG001
    return output.permute(0, 3, 1, 2)


def _tokens(output: Tensor, layout: Layout, image: Size) -> Tensor:
    prefix = layout.prefix
    grid = token_grid(output.shape[1] - prefix, image) if output.shape[1] > prefix else None
    if grid is None:
        raise BackboneError(
            f"expected more than {prefix} tokens, got an output of shape {tuple(output.shape)}"
        )
    return in_rows(output[:, prefix:], grid, layout.strides)


_TO_MAP: dict[str, Callable[[Tensor, Layout, Size], Tensor]] = {
    "channels_first": _channels_first,
    "channels_last": _channels_last,
    "tokens": _tokens,
}


def to_map(output: Tensor, layout: Layout, image: Size) -> Tensor:
    """Bring a layer's output to (B, C, H, W).

    Args:
        output: (B, C, H, W), (B, H, W, C) or (B, N, C).
        layout: Which of these, and the number of prefix tokens.
        image: Height and width of the input that gave this output: the grid of tokens has the
            nearest aspect ratio, so that other input sizes work too.

    Raises:
        BackboneError: There are no patch tokens behind the prefix.
    """
    return _TO_MAP[layout.order](output, layout, image)


def class_token_product(output: Tensor, layout: Layout, image: Size) -> Tensor:
    """Multiply every patch token by the class token, channel by channel, and lay out the grid.

    The class token is the first of the prefix; a variant of T-TAME for vision transformers.

    Args:
        output: Tokens (B, N, C).
        layout: Of tokens, with a prefix.
        image: As for :func:`to_map`.

    Returns:
        (B, C, H, W).

    Example:
        >>> import torch
        >>> tokens = torch.tensor([[[2.0], [1.0], [3.0], [5.0], [7.0]]])
        >>> class_token_product(tokens, Layout("tokens", 1), (32, 32))
        tensor([[[[ 2.,  6.],
                  [10., 14.]]]])
    """
    return to_map(output, layout, image) * output[:, 0, :, None, None]
