"""What every patch contributes to the classifier's final features through the attention.

A vision transformer's class token is a sum: each block adds what its attention brings, and that is
itself a sum over tokens, ``sum_j A_j v_j W``. Followed along the skip connections to the input of
the final linear layer, this sum gives every token its own share, a feature vector in the very space
that the classifier's weight rows read: what a cell of a CNN's last feature map is. A deep token is
a mixture itself; its share is traced back to the patches that it was mixed from. What a classifier
reads from its patches directly, beside the class token, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttame.backbone.attention_calls import AttentionCalls, SelfAttention, join_heads, watching
from ttame.backbone.attention_paths import AttentionPaths
from ttame.backbone.hooks import listening
from ttame.backbone.layout import to_map
from ttame.backbone.outputs import first_tensor
from ttame.backbone.tokens import alike_blocks
from ttame.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttame.backbone.layers import Candidate
    from ttame.backbone.token_order import Size

CONTRIBUTIONS = "contributions"
"""Name of the layer."""

# Chosen on photos of docs/faithfulness.md; see there.
_SHARE_OF_BLOCKS = 2 / 3
_TINY = 1e-12


class Readout(NamedTuple):
    """A token in front of the patches that the classifier reads: a class or distillation token.

    Attributes:
        token: Its place.
        matrix: (D, C), from it in the residual stream to the input of the final linear layer.
    """

    token: int
    matrix: Tensor


class Contributions(nn.Module):
    """Computes the feature map (B, D, H, W) beside a pass of its classifier.

    For the blocks l that count, from the last one back,

    ``f_l = P W_l (A_l[r, j] v_lj) + M_l^T f_(l+1)``

    with A_l[r, j] the attention that the class token r pays to patch j, v_lj the patch's values,
    W_l the block's way to the residual stream and P that from there to the final linear layer. The
    first term is what block l reads from the patches, the second traces what later blocks read back
    through block l: M_l[i, j] is the share of patch i behind the block that came from patch j, by
    how far what it brought points to what patch i became there (see :func:`mixing`). The map is
    that of the first block that counts, scaled to a root mean square of 1 for each photo.

    Args:
        blocks: All blocks in the order of execution; their tokens have one layout and grid.
        first: Place of the first attention that counts; all later ones do.
        paths: W_l of those that count, (C, heads * d) each.
        readouts: The tokens that the classifier reads; with several, their terms are added.
    """

    def __init__(
        self,
        blocks: Sequence[Candidate],
        first: int,
        paths: Sequence[Tensor],
        readouts: Sequence[Readout],
    ) -> None:
        super().__init__()
        self.layout = blocks[-1].layout
        self.grid = blocks[-1].grid
        self.first = first
        self.count = len(blocks)
        # What enters the first block that counts, and what each leaves but the last.
        streams = blocks[max(0, first - 1) : -1]
        self._streams = {block.name: block.needs_copy for block in streams}
        self._tokens = tuple(readout.token for readout in readouts)
        for place, path in enumerate(paths):
            # A copy: without layer scale it is the classifier's own parameter.
            self.register_buffer(_path(place), path.detach().clone(), False)
            for token, readout in enumerate(readouts):
                self.register_buffer(_way(place, token), readout.matrix @ path, False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) at the probed input size; D is the width of the final linear layer."""
        return (len(self.get_buffer(_way(0, 0))), *self.grid)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[Callable[[Size], Tensor]]:
        """Look at the classifier's pass in this context.

        Yields:
            A function that returns the feature map (B, D, H, W) of the pass, given the height and
            width of its images.
        """
        with listening(model, self._streams) as outputs:
            calls = _Calls(self, outputs)
            with watching(model, calls):
                yield lambda image: self._map(calls, image)

    def _map(self, calls: _Calls, image: Size) -> Tensor:
        if calls.place != self.count:
            raise BackboneError(
                f"expected {self.count} attention calls in one pass, saw {calls.place}: the layer "
                f"{CONTRIBUTIONS!r} cannot be read here; choose other layers"
            )
        traced: Tensor | None = None
        for place in reversed(range(len(calls.shares))):
            own = self._read_by(place, calls.shares[place])
            if traced is not None:
                kept, mixed = calls.mixings[place]
                own = own + kept[..., None] * traced + mixed.transpose(-2, -1) @ traced
            traced = own
        if traced is None:  # pragma: no cover
            raise BackboneError("expected at least one block that counts")
        return unit_maps(to_map(traced, self.layout._replace(prefix=0), image))

    def _read_by(self, place: int, shares: Sequence[Tensor]) -> Tensor:
        """Bring what a block reads from the patches (B, N, heads * d) to final features."""
        parts = [
            F.linear(share, self.get_buffer(_way(place, token)).to(share.dtype))
            for token, share in enumerate(shares)
        ]
        return torch.stack(parts).sum(dim=0)


def _way(place: int, token: int) -> str:
    return f"way_{place}_{token}"


def _path(place: int) -> str:
    return f"path_{place}"


def mixing(
    before: Tensor, after: Tensor, attention: Tensor, values: Tensor, path: Tensor
) -> tuple[Tensor, Tensor]:
    """Tell which share of every token behind a block came from which token before it.

    The token behind the block is a sum: itself before the block, by the skip connection, what the
    attention brought from each other token, and what the MLP made of these. Of each summand counts
    how far it points to the sum, ``max(0, <summand, sum>)``; the MLP's is left out, and the others
    are scaled to add up to 1.

    Args:
        before: Tokens that enter the block, (B, N, C).
        after: Tokens that leave it, (B, N, C).
        attention: (B, heads, N, N), of row i to column j.
        values: (B, heads, N, d).
        path: (C, heads * d), from the heads side by side to the tokens.

    Returns:
        What each token kept of itself (B, N), and what it took from others (B, N, N).
    """
    batch, heads, tokens, width = values.shape
    # Its length cancels, and might overflow in half precision.
    after = F.normalize(after.float(), dim=-1)
    wanted = (
        (after.to(values.dtype) @ path.to(values.dtype))
        .view(batch, tokens, heads, width)
        .transpose(1, 2)
    )
    taken = (attention * (wanted @ values.transpose(-2, -1))).sum(dim=1)
    taken = taken.float().clamp(min=0)
    kept = (before.float() * after).sum(dim=-1).clamp(min=0)
    total = (kept + taken.sum(dim=-1)).clamp(min=_TINY)
    return (kept / total).to(values.dtype), (taken / total[..., None]).to(values.dtype)


class _Calls(AttentionCalls):
    """Keeps of every attention from ``first`` on what the map is made of.

    Attributes:
        shares: For each, ``A[r, j] v_j`` of the patches j, (B, N, heads * d), per token r.
        mixings: For each but the last, :func:`mixing` of the patches.
    """

    def __init__(self, owner: Contributions, outputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.owner = owner
        self.outputs = outputs
        self.patches = slice(owner.layout.prefix, None)
        self.counting = range(owner.first, owner.count)
        self.place = 0
        self.shares: list[list[Tensor]] = []
        self.mixings: list[tuple[Tensor, Tensor]] = []
        self._mixed: tuple[Tensor, Tensor] | None = None  # of the block that is not over yet

    def see(self, attention: SelfAttention) -> None:
        """Keep what each patch gives to the tokens that are read, and to the other patches."""
        self._finish_block()
        if self.place in self.counting:
            values, tokens = attention.values()[:, :, self.patches], self.owner._tokens
            if self.place < self.counting[-1]:
                weights = attention.rows(slice(None))
                self._mixed = weights[:, :, self.patches, self.patches], values
                paid = [weights[:, :, read] for read in tokens]
            else:  # nothing is traced back through the last one
                paid = [attention.rows(slice(read, read + 1))[:, :, 0] for read in tokens]
            self.shares.append(
                [join_heads(part[..., self.patches, None] * values) for part in paid]
            )
        self.place += 1

    def _finish_block(self) -> None:
        """Trace the block before, whose output is known now."""
        if self._mixed is None:
            return
        number = len(self.mixings)
        names = list(self.owner._streams)[number : number + 2]
        before, after = (self.outputs[name][:, self.patches] for name in names)
        path = self.owner.get_buffer(_path(number))
        self.mixings.append(mixing(before, after, *self._mixed, path))
        self._mixed = None


def unit_maps(maps: Tensor) -> Tensor:
    """Scale every feature map (B, C, H, W) to a root mean square of 1 over channels and cells.

    Cells keep their lengths against each other. A map of zeros stays one.

    Example:
        >>> unit_maps(torch.tensor([1.0, 7.0]).view(1, 1, 1, 2)).flatten()
        tensor([0.2000, 1.4000])
    """
    squares = maps.float().square().mean(dim=(1, 2, 3), keepdim=True)
    return (maps.float() * torch.rsqrt(squares + _TINY)).to(maps.dtype)


@torch.inference_mode(False)
@torch.no_grad()
def find_contributions(
    model: nn.Module, images: Tensor, blocks: Sequence[Candidate], linears: Sequence[str]
) -> Contributions:
    """Look at a classifier once and prepare its contributions.

    Args:
        model: The classifier, frozen and in eval mode; left exactly as it was.
        images: Its input (B, C, h, w); the way from the residual stream to the final features is
            the mean over them of its Jacobian.
        blocks: The layers that give tokens, in the order of execution.
        linears: Names of its final linear layers.

    Raises:
        BackboneError: It has no self-attention between the same tokens in every block, not one
            final linear layer that reads a class token, or another way between them than skip
            connections.
    """
    name = type(model).__name__
    if len(linears) != 1 or not blocks:
        raise BackboneError(f"{name} has no tokens, or not one final linear layer")
    images = images.clone()
    with torch.autocast(images.device.type, enabled=False):
        with _Tokens() as seen:
            model(images)
        count = len(seen.counts)
        if len(set(seen.counts)) != 1:
            raise BackboneError(
                f"{name} has no self-attention between the same tokens in every block"
            )
        alike = alike_blocks(model, [b for b in blocks if _tokens(b) == seen.counts[0]], count)
        if not alike or alike[-1].layout.strides:
            raise BackboneError(f"{name} has no {count} blocks of tokens that lie row by row")
        followed = AttentionPaths()
        with followed.through(model.get_submodule(block.name) for block in alike):
            model(images)
        first = count - max(1, round(count * _SHARE_OF_BLOCKS))
        paths = [weight for weight in followed.weights[first:] if weight is not None]
        if len(paths) < count - first:
            raise BackboneError(
                f"what the attention of {name} gives is not the input of a linear layer whose "
                "result is added to the block's own input"
            )
        readouts = find_readouts(model, images, alike[-1], linears[0])
        if any(readout.matrix.shape[1] != len(path) for readout in readouts for path in paths):
            raise BackboneError(f"the blocks of {name} do not share one residual stream")
        return Contributions(alike, first, paths, readouts)


class _Tokens(AttentionCalls):
    """Counts the tokens of every attention."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def see(self, attention: SelfAttention) -> None:
        """Take note of the number of tokens."""
        self.counts.append(attention.tokens)


def _tokens(block: Candidate) -> int:
    rows, columns = block.grid
    return block.layout.prefix + rows * columns


@torch.enable_grad()
def find_readouts(model: nn.Module, images: Tensor, last: Candidate, linear: str) -> list[Readout]:
    """Find which tokens in front of the patches a classifier reads behind its last block, and how.

    Args:
        model: The classifier.
        images: (B, C, h, w).
        last: The last block.
        linear: Name of the final linear layer.

    Raises:
        BackboneError: It reads none of them.
    """
    inputs: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        tensor = first_tensor(given)
        if tensor is not None:
            inputs.append(tensor)

    handle = model.get_submodule(linear).register_forward_pre_hook(keep)
    try:
        with listening(model, {last.name: False}) as outputs:
            model(images.detach().clone().requires_grad_())
    finally:
        handle.remove()
    stream = outputs[last.name]
    if len(inputs) != 1 or inputs[0][0].numel() != inputs[0].shape[1]:
        raise BackboneError("the final linear layer does not read one feature vector per image")
    features = inputs[0].flatten(1).sum(dim=0)
    if last.needs_copy or not (features.requires_grad and stream.requires_grad):
        raise BackboneError(f"no gradient leads from the final features to {last.name!r}")
    ramp = torch.linspace(1, 2, len(features)).to(features)
    (slope,) = torch.autograd.grad(features @ ramp, stream, retain_graph=True, allow_unused=True)
    if slope is None:
        raise BackboneError(f"the logits do not depend on what {last.name!r} gives")
    read = slope.abs().sum(dim=(0, 2))[: last.layout.prefix].nonzero()[:, 0].tolist()
    if not read:
        raise BackboneError("the classifier reads its patches, and no token in front of them")
    rows = []
    for feature in features:
        (slope,) = torch.autograd.grad(feature, stream, retain_graph=True)
        rows.append(slope[:, read].sum(dim=0))
    matrices = torch.stack(rows, dim=1) / len(images)
    return [Readout(*pair) for pair in zip(read, matrices.detach(), strict=True)]
