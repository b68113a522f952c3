"""Fill holes of many images with the weighted means of their neighbours, all at once.

A pixel in a hole shall be the weighted mean of its eight neighbours, with weight 2 for the direct
and 1 for the diagonal ones, over those inside the image. Multiplied by the sum of its weights, each
such equation reads ``sum_j w_ij (x_j - x_i) = 0``: a symmetric graph Laplacian on the unknown
pixels with the known ones as boundary values. It is solved by conjugate gradients, preconditioned
by one multigrid V-cycle with Jacobi smoothing (Tatebe 1993, "The multigrid preconditioned conjugate
gradient method"), which needs about ten steps whatever the size and the shape of the holes.

The same stencil serves on the coarse grids. A coarse pixel that touches known pixels is held by an
extra weight on its diagonal: the restricted sum of the links to them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_WEIGHTS = ((1.0, 2.0, 1.0), (2.0, 0.0, 2.0), (1.0, 2.0, 1.0))
_LAPLACIAN = ((1.0, 2.0, 1.0), (2.0, -12.0, 2.0), (1.0, 2.0, 1.0))
_RESTRICTION = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))
_COARSEST = 8
# The residual is computed without rounding at the start and afresh now and then: the running one
# gathers rounding errors of one sign, which a hole amplifies by its area. Numbers of 11 bits after
# the point are summed without any.
_REFRESH = 4
_EXACT = 2.0**11
# In the plane an error of 1 in a single pixel, 0 at a distance of 500 pixels, has at least the
# energy 8 pi / log(500) under this stencil, whose conductivity is 4.
_ENERGY = 4.0
# A coarse pixel's hat is less than 1 at most of its links to known pixels, so that their full sum
# would hold it too firmly. This value took the fewest steps on random, smooth and mixed masks.
_HOLD = 0.75


class _Grid(NamedTuple):
    """One grid: its unknown pixels (0 or 1), one over their diagonal, the padding to the next."""

    unknown: Tensor
    inverse: Tensor
    padding: tuple[int, int]


class Holes:
    """The unknown pixels of N images, and everything that depends on nothing else.

    Args:
        unknown: (N, H, W) boolean; each image must have a known pixel.

    Example:
        >>> image = torch.tensor([[[0.0, 9.0, 1.0]]])
        >>> Holes(image == 9).fill(image)
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """

    def __init__(self, unknown: Tensor) -> None:
        mask = _laid_out(unknown.float()[None])
        self.unknown = mask
        self.stencil = _kernels(_WEIGHTS, mask)
        self.laplacian = _kernels(_LAPLACIAN, mask)
        self.restriction = _kernels(_RESTRICTION, mask)
        self.grids: list[_Grid] = []
        links = _sums(1 - mask, self.stencil).mul_(mask)
        diagonal = _weight_sums(mask).expand_as(mask)
        while max(mask.shape[2:]) > _COARSEST:
            # The coarse pixels lie on every other fine one, from one before the first where the
            # side is even, so that the first and the last fine pixel lie between coarse ones.
            padding = (2 - mask.shape[2] % 2, 2 - mask.shape[3] % 2)
            self.grids.append(_Grid(mask, _laid_out(mask / diagonal), padding))
            links = _HOLD * self._restrict(links, padding)
            mask = (self._restrict(mask, padding) > 0).float()
            diagonal = _weight_sums(mask) + links
        self.coarsest = _inverse(mask, diagonal)

    def fill(self, images: Tensor, tolerance: float = 1e-5, steps: int = 50) -> Tensor:
        """Fill the holes.

        Args:
            images: (N, H, W) values of about 1; those in the holes are not used.
            tolerance: An image is done when its energy tells that no pixel can be off by more;
                nearly all are much closer.
            steps: Most conjugate gradient steps.

        Returns:
            (N, H, W) float32, the known pixels unchanged.
        """
        x = self._start(images)
        scratch = torch.empty_like(x)
        residual = self._exactly_sent(x, scratch)
        z = self._correct(residual)
        direction = z.clone()
        size = _dot(residual, z, scratch)
        active = torch.ones_like(size, dtype=torch.bool)
        # A narrow image conducts less: an error of 1 costs its width over its length.
        height, width = x.shape[2:]
        least = _ENERGY * min(height, width) / max(height, width) * tolerance**2
        for step in range(1, steps + 1):
            # An image that is done moves no more, whatever the others still need.
            active &= size > least
            if not bool(active.any()):
                break
            change = self._sent(direction)
            length = torch.where(active, -size / _dot(direction, change, scratch), 0)
            x.addcmul_(direction, length)
            if step % _REFRESH:
                residual.addcmul_(change, length)
            else:
                del residual
                residual = self._exactly_sent(x, scratch)
            del change, z
            z = self._correct(residual)
            before, size = size, _dot(residual, z, scratch)
            torch.addcmul(z, direction, torch.where(active, size / before, 0), out=direction)
        return x.add_(z)[0].contiguous()

    def _start(self, images: Tensor) -> Tensor:
        """Put the mean of the known pixels into the holes."""
        known = 1 - self.unknown
        x = _laid_out(images.float()[None]).mul(known)
        mean = x.sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
        return x.addcmul_(self.unknown, mean)

    def _sent(self, x: Tensor) -> Tensor:
        """Return ``sum_j w_ij (x_j - x_i)`` of every pixel."""
        sent = _sums(x, self.laplacian)
        # What the kernel took for neighbours outside the image: 4 for each side, and at a corner
        # the diagonal one for both.
        for edge in (0, -1):
            sent[:, :, edge].add_(x[:, :, edge], alpha=4)
            sent[:, :, :, edge].add_(x[:, :, :, edge], alpha=4)
            for other in (0, -1):
                sent[:, :, edge, other].sub_(x[:, :, edge, other])
        return sent

    def _exactly_sent(self, x: Tensor, scratch: Tensor) -> Tensor:
        torch.mul(x, _EXACT, out=scratch).round_().div_(_EXACT)
        sent = self._sent(scratch)
        return sent.add_(self._sent(torch.sub(x, scratch, out=scratch)))

    def _correct(self, residual: Tensor, depth: int = 0) -> Tensor:
        """Return what a V-cycle would add to the solution; 0 on the known pixels."""
        if depth == len(self.grids):
            flat = residual.flatten(2)[0, :, :, None]
            return _laid_out(torch.bmm(self.coarsest, flat).view(residual.shape))
        grid = self.grids[depth]
        guess = grid.inverse * residual
        # After a Jacobi step from zero, the residual is what the neighbours send.
        rest = _sums(guess, self.stencil).mul_(grid.unknown)
        coarse = self._correct(self._restrict(rest, grid.padding), depth + 1)
        del rest
        guess.addcmul_(_interpolated(coarse, grid), grid.unknown)
        return _sums(guess, self.stencil).add_(residual).mul_(grid.inverse)

    def _restrict(self, values: Tensor, padding: tuple[int, int]) -> Tensor:
        return F.conv2d(values, self.restriction, padding=padding, stride=2, groups=values.shape[1])


def _laid_out(values: Tensor) -> Tensor:
    # With the images innermost every operation on a CPU runs over contiguous memory.
    if values.is_cuda:
        return values.contiguous()
    return values.contiguous(memory_format=torch.channels_last)


def _kernels(kernel: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return torch.tensor(kernel, dtype=like.dtype, device=like.device).repeat(like.shape[1], 1, 1, 1)


def _sums(values: Tensor, stencil: Tensor) -> Tensor:
    """Sum the weighted neighbours inside the image."""
    return F.conv2d(values, stencil, padding=1, groups=values.shape[1])


def _weight_sums(like: Tensor) -> Tensor:
    ones = torch.ones_like(like[:, :1])
    return _sums(ones, _kernels(_WEIGHTS, ones))


def _interpolated(coarse: Tensor, grid: _Grid) -> Tensor:
    height, width = grid.unknown.shape[2:]
    size = [2 * side - 1 for side in coarse.shape[2:]]
    fine = F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
    top, left = (padding - 1 for padding in grid.padding)
    return fine[:, :, top : top + height, left : left + width]


def _inverse(mask: Tensor, diagonal: Tensor) -> Tensor:
    """Invert the equations of a small grid: (N, h * w, h * w), 0 for the known pixels."""
    height, width = mask.shape[2:]
    unit = torch.eye(height * width, dtype=mask.dtype, device=mask.device)
    unit = unit.view(1, -1, height, width)
    links = _sums(unit, _kernels(_WEIGHTS, unit)).flatten(2)
    flat = mask[0].flatten(1)
    pairs = flat[:, :, None] * flat[:, None]
    matrix = torch.diag_embed(torch.where(flat > 0, diagonal[0].flatten(1), 1)) - links * pairs
    inverse: Tensor = torch.linalg.inv(matrix)
    return inverse * pairs


def _dot(a: Tensor, b: Tensor, scratch: Tensor) -> Tensor:
    return torch.mul(a, b, out=scratch).sum(dim=(2, 3), keepdim=True)
