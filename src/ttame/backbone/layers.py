"""Choosing layers: which feature maps to read where the user names none."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ttame.backbone.layout import Layout


@dataclass(frozen=True)
class Candidate:
    """A layer whose output can serve as a feature map.

    Attributes:
        name: Dotted name in the classifier.
        shape: (C, H, W) of its feature map at the probed input size.
        layout: Order of the output's axes.
        kind: Name of the module's class.
        needs_copy: A later in-place operation overwrites the output.
        producer: The first layer that gave this very tensor (a container gives its last child's).
        picture: It is the picture itself, padded or pooled: it has as many channels as the input,
            and no layer with weights comes before it.
    """

    name: str
    shape: tuple[int, int, int]
    layout: Layout
    kind: str
    needs_copy: bool
    producer: str
    picture: bool = False

    @property
    def depth(self) -> int:
        """Depth in the module tree; children of the classifier have 1."""
        return self.name.count(".") + 1

    @property
    def parent(self) -> str:
        """Name of the module that holds this one."""
        return self.name.rpartition(".")[0]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the feature map."""
        return self.shape[1:]


def default_layers(candidates: Sequence[Candidate], most: int = 3) -> tuple[str, ...]:
    """Choose the layers to read, shallow to deep.

    Networks with several resolutions give the last map of each of the ``most`` coarsest ones, from
    the outermost module that has it; where that only begins a resolution, whose blocks follow
    deeper in the module tree, from the last of these blocks. Networks with one resolution (plain
    vision transformers, mixers) give two late blocks of their longest sequence of blocks and the
    last map of all. The picture itself is read only where there is nothing else.

    Args:
        candidates: All usable layers in the order of execution; at least one.
        most: How many layers at most where there are several resolutions.

    Returns:
        Names of one to ``most`` layers.
    """
    path = _main_path([c for c in candidates if not c.picture] or candidates)
    grids = sorted({c.grid for c in path}, key=math.prod)
    if len(grids) == 1:
        return _late_blocks(path)
    chosen = {_last_of_grid([c for c in path if c.grid == grid]) for grid in grids[:most]}
    return tuple(c.name for c in path if c in chosen)


def _main_path(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Keep the maps of the way from fine to coarse.

    Two kinds belong to the inside of a block: maps finer than an earlier one of the same or an
    outer level (attention matrices look like planes), and maps coarser than what a module around
    them gives (reduced keys and values).
    """
    grids = {c.name: math.prod(c.grid) for c in candidates}
    coarsest: dict[int, int] = {}
    path = []
    for candidate in candidates:
        area = grids[candidate.name]
        before = [least for depth, least in coarsest.items() if depth <= candidate.depth]
        around = [grids[name] for name in _ancestors(candidate.name) if name in grids]
        if max(around, default=0) <= area <= min(before, default=area):
            path.append(candidate)
            coarsest[candidate.depth] = min(area, coarsest.get(candidate.depth, area))
    return path


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _last_of_grid(candidates: Sequence[Candidate]) -> Candidate:
    """Return the map with which a resolution ends; ``candidates`` are all that have it."""
    last = _outermost_last(candidates)
    # Blocks keep the shape, are at least two of one kind side by side, and hold other layers.
    after = [c for c in candidates[candidates.index(last) + 1 :] if c.shape == last.shape]
    siblings: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in after:
        if any(other.name.startswith(f"{candidate.name}.") for other in candidates):
            siblings[candidate.parent, candidate.kind].append(candidate)
    blocks = [group for group in siblings.values() if len(group) > 1]
    if not blocks:
        return last
    end = min(blocks, key=lambda group: group[0].depth)[-1]
    # They may themselves be parts of a block, or of a stage that goes on from there.
    around = [c for c in after if c.name in _ancestors(end.name)]
    return min(around, key=lambda c: c.depth, default=end)


def _outermost_last(candidates: Sequence[Candidate]) -> Candidate:
    depth = min(c.depth for c in candidates)
    return [c for c in candidates if c.depth == depth][-1]


def _late_blocks(path: Sequence[Candidate]) -> tuple[str, ...]:
    sequences: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in path:
        sequences[candidate.parent, candidate.kind].append(candidate)
    blocks = max(sequences.values(), key=lambda found: (len(found), -found[0].depth))
    after = path[path.index(blocks[-1]) :]
    # What runs after the blocks and lies outermost is the trunk; deeper modules belong to the head.
    last = _outermost_last(after).producer
    count = len(blocks)
    late = [blocks[round(count * 2 / 3)].producer] if count > 2 else []
    late += [blocks[min(round(count * 5 / 6), count - 1)].producer] if count > 1 else []
    return tuple(dict.fromkeys([*late, last]))
