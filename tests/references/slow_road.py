"""ROAD of one image, from its definition: a dense or sparse linear system solved exactly."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve

WEIGHTS = {
    (down, right): 1 / 12 if down and right else 1 / 6
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if down or right
}


def slow_imputation(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Impute the removed pixels (H, W) of an image (C, H, W) without noise, in float64."""
    height, width = removed.shape
    places = np.argwhere(removed)
    numbers = np.full(removed.shape, -1)
    numbers[removed] = np.arange(len(places))
    rows, columns, entries = [], [], []
    known = np.zeros((len(places), len(image)))
    for (down, right), weight in WEIGHTS.items():
        near = np.add(places, (down, right))
        inside = ((near >= 0) & (near < (height, width))).all(axis=1)
        row = np.flatnonzero(inside)
        near = near[inside]
        neighbour = numbers[near[:, 0], near[:, 1]]
        unknown = neighbour >= 0
        rows += [row, row[unknown]]
        columns += [row, neighbour[unknown]]
        entries += [np.full(len(row), weight), np.full(int(unknown.sum()), -weight)]
        given = near[~unknown]
        known[row[~unknown]] += weight * image[:, given[:, 0], given[:, 1]].T.astype(np.float64)
    system = csc_matrix(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(places), len(places)),
    )
    filled = image.astype(np.float64)
    filled[:, removed] = spsolve(system, known).reshape(len(places), -1).T
    return filled


def slow_removal(mask: np.ndarray, share: float, most_first: bool) -> np.ndarray:
    """Mark the share of the pixels of a mask without ties that goes first, (H, W) boolean."""
    order = np.argsort(-mask.ravel() if most_first else mask.ravel())
    removed = np.zeros(mask.size, dtype=bool)
    removed[order[: round(share * mask.size)]] = True
    return removed.reshape(mask.shape)
