"""Masking and objective terms, written out with loops."""

from __future__ import annotations

from torch import Tensor


def slow_variation(masks: Tensor, border: float = 0.3) -> float:
    """Squared neighbour differences plus weighted squared borders, over twice the batch."""
    total = 0.0
    batch, count, height, width = masks.shape
    for b in range(batch):
        for n in range(count):
            mask = masks[b, n].tolist()
            for y in range(height):
                for x in range(width):
                    if y + 1 < height:
                        total += (mask[y + 1][x] - mask[y][x]) ** 2
                    if x + 1 < width:
                        total += (mask[y][x + 1] - mask[y][x]) ** 2
            for x in range(width):
                total += border * (mask[0][x] ** 2 + mask[-1][x] ** 2)
            for y in range(height):
                total += border * (mask[y][0] ** 2 + mask[y][-1] ** 2)
    return total / (2 * batch)


def slow_area(masks: Tensor) -> float:
    """Mean of ``(mask + 5e-4) ** 0.3``."""
    values = masks.flatten().tolist()
    return sum((value + 5e-4) ** 0.3 for value in values) / len(values)
