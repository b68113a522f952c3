"""Noisy linear imputation: removed pixels become what their neighbours suggest, without a trace."""

from __future__ import annotations

import logging
import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError
from ttame.metrics.multigrid import Holes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from torch import Tensor

    _Noise: TypeAlias = Callable[[int, int], Tensor]
    _Fill: TypeAlias = Callable[[Tensor, Tensor, float, _Noise | None], Tensor]

NOISE = 0.01

_log = logging.getLogger(__name__)

# On a CPU torch's solver always gets this many images at once, the rest filled up with empty ones:
# its arrays stay in the cache, its vectors full, and no result depends on the size of the batch.
_TOGETHER = 16
# On a GPU, filling several batches takes little longer than filling one.
_BATCHES_ON_GPU = 4


@torch.no_grad()
def impute(
    images: Tensor,
    removed: Tensor,
    seeds: Sequence[int],
    noise: float = NOISE,
    tolerance: float = 1e-3,
) -> Tensor:
    """Replace removed pixels by the weighted means of their neighbours, plus noise.

    Every removed pixel is the weighted mean of its eight neighbours, 1/6 direct and 1/12 diagonal,
    renormalised at the border; the removed pixels among them are solved for together. Without
    noise, the linear fill would tell a classifier the shape of what was removed. Rong et al., "A
    Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022
    (arXiv 2202.00449).

    Args:
        images: (B, C, H, W) in [0, 1].
        removed: (B, H, W) boolean. An image that is removed as a whole has no neighbours to start
            from and gets its own mean colour.
        seeds: One seed per image, for the noise. The noise is drawn on the device of the images.
        noise: Standard deviation of the normal noise on the removed pixels, on the scale of the
            images; what leaves [0, 1] is not clipped.
        tolerance: The solver stops for an image when no pixel can be off by more than about this;
            usually the distance from the exact solution is a fifth of it.

    Returns:
        (B, C, H, W) float32 on the same device; pixels that were not removed are unchanged.

    Raises:
        InputError: Shapes do not fit, ``removed`` is not boolean, or ``noise`` is negative or not
            finite.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.9, 0.2]]]])
        >>> impute(image, image[:, 0] == 0.9, [0], noise=0)
        tensor([[[[0.0000, 0.1000, 0.2000]]]])
    """
    _check(images, removed, seeds, noise)
    images = images.float()
    everything = _all_of(removed)
    holes = removed & ~everything[:, None, None] if everything.any() else removed

    def drawn(number: int, count: int) -> Tensor:
        return _drawn((images.shape[1], count), seeds[number], noise, images.device)

    counted = bool(noise) and images.device.type == "cpu"
    filled = _solve(images, holes, tolerance, drawn if counted else None)
    for number in everything.nonzero().flatten().tolist():
        # float64: the order of the sum, which the threads decide, must not matter.
        filled[number] = images[number].mean(dim=(1, 2), keepdim=True, dtype=torch.float64)
        if counted:
            filled[number] += drawn(number, removed[number].numel()).view(images.shape[1:])
    if noise and not counted:
        add_noise(filled, removed, seeds, noise)
    return filled


def add_noise(filled: Tensor, removed: Tensor, seeds: Sequence[int], noise: float) -> None:
    """Add noise to removed pixels, in place, without counting them.

    To ask a GPU how many there are takes longer than to draw for all pixels.

    Args:
        filled: (B, C, H, W) float32.
        removed: (B, H, W) boolean.
        seeds: One seed per image.
        noise: Standard deviation.
    """
    size = filled.shape[1:]
    drawn = torch.stack([_drawn(size, seed, noise, filled.device) for seed in seeds])
    filled.addcmul_(drawn, removed[:, None].float())


def _drawn(size: Sequence[int], seed: int, noise: float, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    values = torch.empty(tuple(size), dtype=torch.float32, device=device)
    return values.normal_(0, noise, generator=generator)


def filled_at_once(device: torch.device, batch_size: int) -> int:
    """Return how many photos to fill at once; it holds about ten times what they take themselves.

    Example:
        >>> filled_at_once(torch.device("cpu"), 16), filled_at_once(torch.device("cuda"), 16)
        (16, 64)
    """
    return batch_size if device.type == "cpu" else _BATCHES_ON_GPU * batch_size


def _all_of(removed: Tensor) -> Tensor:
    flat = removed.flatten(1)
    if removed.device.type != "cpu":
        return flat.all(dim=1)
    # Not by torch, whose threads would go on waiting busily, on the cores of those that fill.
    return torch.from_numpy(flat.numpy().all(axis=1))


def solver(device: str | torch.device) -> str:
    """Return what solves for the removed pixels of images on a device.

    Returns:
        ``"numba"``, compiled for the CPU, where that package is installed, else ``"torch"``.

    Example:
        >>> solver("cuda")
        'torch'
    """
    return "torch" if _fill_on(torch.device(device)) is None else "numba"


def _fill_on(device: torch.device) -> _Fill | None:
    return _compiled_fill() if device.type == "cpu" else None


@cache
def _compiled_fill() -> _Fill | None:
    try:
        from ttame.metrics.compiled.fill import fill

        # Compiles or loads it; where neither works, torch still does.
        fill(torch.zeros(1, 1, 1, 2), torch.tensor([[[True, False]]]))
    except ImportError:
        return None
    except Exception as error:  # a numba that does not fit the other packages may raise anything
        _log.warning("compiled imputation is not possible here (%s); torch does it", error)
        return None
    return fill


def _solve(images: Tensor, holes: Tensor, tolerance: float, noise: _Noise | None) -> Tensor:
    fill = _fill_on(images.device)
    if fill is not None:
        return fill(images, holes, tolerance, noise)
    filled = _solved_by_torch(images, holes, tolerance)
    if noise is not None:
        for number, (image, hole) in enumerate(zip(filled, holes, strict=True)):
            image[:, hole] += noise(number, int(hole.count_nonzero()))
    return filled


def _solved_by_torch(images: Tensor, holes: Tensor, tolerance: float) -> Tensor:
    count, colours = images.shape[:2]
    if images.is_cuda:
        flat = Holes(holes.repeat_interleave(colours, dim=0))
        return flat.fill(images.flatten(0, 1), tolerance).view(images.shape)
    if colours > 1 and count * colours <= _TOGETHER:
        apart = images.flatten(0, 1)[:, None]
        filled = _solved_by_torch(apart, holes.repeat_interleave(colours, dim=0), tolerance)
        return filled.view(images.shape)
    filled = torch.empty_like(images)
    for start in range(0, count, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        missing = _TOGETHER - len(images[part])
        multigrid = Holes(_with_empty(holes[part], missing))
        for colour in range(colours):
            solved = multigrid.fill(_with_empty(images[part, colour], missing), tolerance)
            filled[part, colour] = solved[: _TOGETHER - missing]
    return filled


def _with_empty(values: Tensor, missing: int) -> Tensor:
    if not missing:
        return values
    return torch.cat([values, values.new_zeros(missing, *values.shape[1:])])


def _check(images: Tensor, removed: Tensor, seeds: Sequence[int], noise: float) -> None:
    if not 0 <= noise < math.inf:
        raise InputError(f"expected a standard deviation of the noise of at least 0, got {noise}")
    expected = (len(images), *images.shape[2:])
    if images.ndim != 4 or tuple(removed.shape) != expected or removed.dtype != torch.bool:
        raise InputError(
            "expected images (B, C, H, W) and a boolean mask (B, H, W) of their removed pixels, "
            f"got {tuple(images.shape)} and {removed.dtype} {tuple(removed.shape)}"
        )
    if len(seeds) != len(images):
        raise InputError(f"expected one seed per image, got {len(seeds)} for {len(images)} images")
