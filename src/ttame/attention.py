"""The attention mechanism: the small trained part that turns feature maps into class maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttame.errors import InputError, unknown_name
from ttame.masking import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ttame.heads import Head

GRID_CAP = 56

GRIDS = ("first", "last")

_TINY = 1e-6

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "sigmoid": torch.sigmoid}


def unit_cells(feature: Tensor) -> Tensor:
    """Scale every cell of a feature map (B, C, H, W) to a root mean square of 1 over channels.

    A linear filter then measures the *direction* of a cell, not how strongly it fires: a class
    activation map becomes a map of cosines. A cell of zeros stays one.

    Example:
        >>> unit_cells(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten()
        tensor([0.8485, 1.1314])
    """
    squares = feature.float().square().mean(dim=1, keepdim=True)
    return feature * torch.rsqrt(squares + _TINY).to(feature.dtype)


class FeatureBranch(nn.Module):
    """One layer's branch, as published: ``ReLU(BatchNorm(Conv1x1(F)) + F)``.

    In eval mode convolution, BatchNorm and skip fold into one 1x1 convolution, exactly:
    ``W' = diag(gamma / sigma) W + I``.

    Args:
        channels: Channels of the feature map, kept by the branch.
        norm: With the BatchNorm.
        skip: With the feature map added.
        activation: ``"relu"`` or ``"sigmoid"``.
    """

    def __init__(
        self, channels: int, *, norm: bool = True, skip: bool = True, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels) if norm else None
        self.skip = skip
        self.activation = _ACTIVATIONS[activation]
        self._memory: tuple[Any, Tensor, Tensor] | None = None

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature map (B, C, H, W) to (B, C, H, W)."""
        if self.training:
            mapped = self.conv(feature)
            mapped = mapped if self.norm is None else self.norm(mapped)
            return self.activation(mapped + feature if self.skip else mapped)
        traced = torch.compiler.is_compiling() or torch.is_grad_enabled()
        weight, bias = self.folded() if traced else self._remembered()
        return self.activation(F.conv2d(feature, weight, bias))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight (C, C, 1, 1) and bias (C,) of the one convolution equal to this branch."""
        weight, norm = self.conv.weight, self.norm
        bias = weight.new_zeros(len(weight)) if self.conv.bias is None else self.conv.bias
        if norm is not None:
            if norm.running_mean is None or norm.running_var is None:  # pragma: no cover
                raise InputError("expected a BatchNorm that tracks its statistics")
            gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = weight * gain.view(-1, 1, 1, 1)
            bias = norm.bias + (bias - norm.running_mean) * gain
        if self.skip:
            eye = torch.eye(len(weight), device=weight.device, dtype=weight.dtype)
            weight = weight + eye[:, :, None, None]
        return weight, bias

    @torch.no_grad()
    def silence(self) -> None:
        """Start as ``activation(F)``; without the skip there is nothing to start as."""
        if not self.skip:
            return
        if self.norm is not None:
            nn.init.zeros_(self.norm.weight)
        else:
            nn.init.zeros_(self.conv.weight)

    def _remembered(self) -> tuple[Tensor, Tensor]:
        """Fold once and again only after a parameter or a statistic has changed.

        Folding a wide layer costs as much as a tenth of a small classifier's own pass.
        """
        tensors = [*self.parameters(), *self.buffers()]
        if any(tensor.is_inference() for tensor in tensors):
            return self.folded()  # made or moved in inference mode, they count no versions
        key = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        memory = self._memory
        if memory is None or memory[0] != key:
            # Ordinary tensors even in inference mode: a later call may be outside of it.
            with torch.inference_mode(False), torch.no_grad():
                memory = (key, *self.folded())
            self._memory = memory
        return memory[1], memory[2]


class IdentityBranch(nn.Identity):
    """No branch: the head reads the feature map itself, as in L-CAM."""

    def __init__(self, channels: int) -> None:  # noqa: ARG002
        super().__init__()

    def silence(self) -> None:
        """Start as the feature map; it never is anything else."""


class PerceptronBranch(nn.Module):
    """A perceptron on every cell: ``u + W2 GELU(W1 u)``, u the cell at length one; not published.

    Unlike a filter on its own it can tell in which company a channel means something, which takes
    a signal for every cell: a teacher (:mod:`ttame.training.teacher`).

    Args:
        channels: Channels of the feature map, kept by the branch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature map (B, C, H, W) to (B, C, H, W)."""
        cells = unit_cells(feature)
        added: Tensor = self.second(F.gelu(self.first(cells)))
        return cells + added

    @torch.no_grad()
    def silence(self) -> None:
        """Start as the cells at length one."""
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)


BRANCHES: dict[str, Callable[[int], FeatureBranch | IdentityBranch | PerceptronBranch]] = {
    "paper": FeatureBranch,
    "no-norm": partial(FeatureBranch, norm=False),
    "no-skip": partial(FeatureBranch, skip=False),
    "sigmoid": partial(FeatureBranch, activation="sigmoid"),
    "identity": IdentityBranch,
    "perceptron": PerceptronBranch,
}
"""Forms of a layer's branch by name."""


class AttentionMechanism(nn.Module):
    """Maps of the asked classes from a few layers' feature maps.

    Every layer's branch is fused with its slice of the head's filters at the layer's own
    resolution and the results are resized and added. This equals the published order (resize,
    concatenate, 1x1 convolution to all K classes), because bilinear resizing and a 1x1 convolution
    commute, and costs a fraction: only the asked classes are computed.

    Source: Ntrougkas et al., "T-TAME", IEEE Access 2024, doi 10.1109/ACCESS.2024.3405788.

    Args:
        channels: Channels C_l of each layer's feature map.
        head: Gives the fusion filters of classes.
        grid: On which layer's grid the maps lie. ``"first"``, the published one, is the finest of
            a CNN; on ``"last"``, the coarsest, finer layers are averaged (antialiased), and the
            maps are smoother. For a plain vision transformer the two are the same.
        branch: Form of the layers' branches, one of ``BRANCHES``.
        unit_cells: What comes out of each branch is scaled by :func:`unit_cells`; not published.
        plain: Places of layers that are read as they are, with neither branch nor scaling; see
            :attr:`ttame.backbone.contract.Backbone.plain_layers`.

    Raises:
        UnknownNameError: There is no such grid or branch.

    Example:
        >>> from ttame.heads import IndependentHead
        >>> attention = AttentionMechanism([4, 8], IndependentHead([4, 8], num_classes=10))
        >>> features = (torch.randn(2, 4, 6, 6), torch.randn(2, 8, 3, 3))
        >>> attention(features, torch.tensor([[1], [7]])).shape
        torch.Size([2, 1, 6, 6])
        >>> attention(features).shape
        torch.Size([2, 10, 6, 6])
    """

    def __init__(
        self,
        channels: Sequence[int],
        head: Head,
        grid: str = "first",
        branch: str = "paper",
        unit_cells: bool = False,
        plain: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if grid not in GRIDS:
            raise unknown_name("grid", grid, GRIDS)
        if branch not in BRANCHES:
            raise unknown_name("branch", branch, BRANCHES)
        self.branch = branch
        self.grid = grid
        self.unit_cells = unit_cells
        self.channels = tuple(channels)
        self.plain = tuple(plain)
        self.branches = nn.ModuleList(
            BRANCHES["identity" if place in self.plain else branch](width)
            for place, width in enumerate(channels)
        )
        self.head = head

    def forward(self, features: Sequence[Tensor], classes: Tensor | None = None) -> Tensor:
        """Return maps before any normalisation.

        Args:
            features: One feature map (B, C_l, H_l, W_l) per layer; the first or the last gives
                the maps' grid, capped at 56.
            classes: (B, n) class indices, or None for all K classes.

        Returns:
            Maps (B, n, H, W), or (B, K, H, W) for ``classes=None``; float32, any range.

        Raises:
            InputError: Number of layers, channels or the classes' shape do not fit.
        """
        self._check(features, classes)
        weight, bias = self.head(classes)
        leading = features[0 if self.grid == "first" else -1]
        grid = (min(leading.shape[-2], GRID_CAP), min(leading.shape[-1], GRID_CAP))
        maps: Tensor = bias.view(-1 if classes is not None else 1, bias.shape[-1], 1, 1).float()
        slices = weight.split(self.channels, dim=-1)
        layers = zip(self.branches, features, slices, strict=True)
        for place, (branch, feature, part) in enumerate(layers):
            fused = branch(feature)
            fused = unit_cells(fused) if self.unit_cells and place not in self.plain else fused
            own = _project(fused, part).float()
            maps = maps + resize(own, grid, antialias=self.grid == "last")
        return maps

    def _check(self, features: Sequence[Tensor], classes: Tensor | None) -> None:
        came = tuple(feature.shape[1] for feature in features)
        if came != self.channels:
            raise InputError(
                f"expected feature maps with {self.channels} channels, got {came}; the backbone "
                "reads other layers than the attention mechanism was made for"
            )
        if classes is not None and (classes.ndim != 2 or len(classes) != len(features[0])):
            raise InputError(
                f"expected classes of shape ({len(features[0])}, n), got {tuple(classes.shape)}"
            )

    def silence_branches(self) -> None:
        """Let each branch start as ``ReLU(F)``, where its form allows it."""
        for branch in self.branches:
            branch.silence()  # type: ignore[operator]


def _project(feature: Tensor, weight: Tensor) -> Tensor:
    """Apply filters (K, C), or (B, n, C) per image, to a feature map (B, C, H, W)."""
    if weight.ndim == 2:
        return F.conv2d(feature, weight[:, :, None, None])
    flat = torch.bmm(weight.to(feature.dtype), feature.flatten(2))
    return flat.view(*flat.shape[:2], *feature.shape[-2:])
