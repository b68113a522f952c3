"""Which tokens of a transformer are patches, and which modules are its blocks."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ttame.backbone.layout import Size, aspect_error, token_grid
from ttame.errors import BackboneError

if TYPE_CHECKING:
    from ttame.backbone.layers import Candidate
    from ttame.backbone.module import ModuleBackbone


class TokenGrid(NamedTuple):
    """``prefix`` tokens (class, distillation, registers), then the patches, row by row.

    Attributes:
        prefix: Number of tokens in front of the patches.
        grid: Rows and columns of patches.
    """

    prefix: int
    grid: Size


def patch_tokens(backbone: ModuleBackbone, tokens: int, image: Size) -> TokenGrid:
    """Find the patches among ``tokens`` tokens, from the layers that the backbone has probed.

    Args:
        backbone: A classifier whose layers give tokens (B, N, C).
        tokens: N.
        image: Height and width of the input that gave them.

    Raises:
        BackboneError: No layer of the classifier gives this many tokens for such an image.
    """
    prefixes = Counter(c.layout.prefix for c in _token_layers(backbone))
    # The blocks are many; what comes before their prefix tokens are added is little.
    for prefix, _ in prefixes.most_common():
        grid = token_grid(tokens - prefix, image) if tokens > prefix else None
        if grid is None:
            continue
        probed = image == backbone.probe.image_size
        known = any((c.layout.prefix, c.grid) == (prefix, grid) for c in _token_layers(backbone))
        if known if probed else aspect_error(grid, image) < 0.05:
            return TokenGrid(prefix, grid)
    raise BackboneError(
        f"{tokens} tokens of {backbone.identity.name} for images of {image[0]} x {image[1]} "
        "pixels are no grid of patches"
    )


def token_blocks(backbone: ModuleBackbone, count: int) -> tuple[str, ...]:
    """Name the ``count`` transformer blocks, in the order of execution.

    They are siblings of one kind that give tokens; of several such groups, the one with the most
    weights.

    Raises:
        BackboneError: There are not ``count`` such modules.
    """
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in _token_layers(backbone):
        groups[candidate.parent, candidate.kind].append(candidate)

    def weights(group: list[Candidate]) -> int:
        modules = (backbone.module.get_submodule(candidate.name) for candidate in group)
        return sum(p.numel() for module in modules for p in module.parameters())

    fitting = [group for group in groups.values() if len(group) == count]
    if not fitting:
        raise BackboneError(
            f"expected {count} transformer blocks of one kind side by side in "
            f"{backbone.identity.name}, as many as it has attention matrices; found none"
        )
    return tuple(candidate.name for candidate in max(fitting, key=weights))


def _token_layers(backbone: ModuleBackbone) -> list[Candidate]:
    return [c for c in backbone.probe.candidates if c.layout.order == "tokens"]
