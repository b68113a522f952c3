"""Fill the holes of a batch on a CPU, one image a thread, by compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from ttame.metrics.compiled.kernels import COLOURS, Array, fill_one, image_links


def fill(
    images: Tensor,
    unknown: Tensor,
    tolerance: float = 1e-5,
    noise: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Fill the holes of a batch on ``torch.get_num_threads()`` threads.

    An image's result does not depend on the others or on the number of threads.

    Args:
        images: (B, C, H, W) values of about 1 on a CPU; those in the holes are not used.
        unknown: (B, H, W) boolean; each image must have a known pixel.
        tolerance: An image is done when no pixel can be off by more than about half of it, judged
            by the last change and by how fast the changes shrink.
        noise: Draws what is added to the filled pixels, (C, U) float32 by an image's number and how
            many of its pixels are unknown. Called on the threads, which share that work too.

    Returns:
        (B, C, H, W) float32, the known pixels unchanged.

    Example:
        >>> image = torch.tensor([[[[0.0, 9.0, 1.0]]]])
        >>> fill(image, image[:, 0] == 9)
        tensor([[[[0.0000, 0.5000, 1.0000]]]])
    """
    given = images.detach().float().contiguous()
    filled = torch.empty_like(given)
    arrays = given.numpy(), unknown.contiguous().numpy(), filled.numpy()
    links = _links(*images.shape[2:])
    threads = min(torch.get_num_threads(), len(images))
    # Taken by whichever thread is free.
    numbers = iter(range(len(images)))
    work = partial(_fill_some, numbers, *arrays, links, tolerance, noise)
    if threads < 2:
        work()
        return filled
    pool = _pool(threads, os.getpid())
    for task in [pool.submit(work) for _ in range(threads)]:
        task.result()
    return filled


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # noqa: ARG001
    # Kept: to start threads takes as long as to fill small holes. A forked process has none.
    return ThreadPoolExecutor(threads, thread_name_prefix="ttame-fill")


@lru_cache(maxsize=2)
def _links(height: int, width: int) -> Array:
    return image_links(height, width)


def _fill_some(
    numbers: Iterable[int],
    images: Array,
    unknown: Array,
    filled: Array,
    links: Array,
    tolerance: float,
    noise: Callable[[int, int], Tensor] | None,
) -> None:
    places = links.shape[1]
    # Made once: fresh memory costs as much as filling small holes.
    x, rest = np.zeros((COLOURS, places)), np.zeros((COLOURS, places))
    mask = np.zeros(places, np.uint8)
    drawn = np.empty((images.shape[1], 0), np.float32)
    for number in numbers:
        if noise is not None:
            drawn = noise(number, int(np.count_nonzero(unknown[number]))).numpy()
        for start in range(0, images.shape[1], COLOURS):
            some = slice(start, start + COLOURS)
            image, result = images[number, some], filled[number, some]
            fill_one(image, unknown[number], drawn[some], result, links, x, rest, mask, tolerance)
