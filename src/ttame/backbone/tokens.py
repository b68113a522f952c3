"""Which tokens of a transformer are patches, and which modules are its blocks."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ttame.backbone.layout import aspect_error, token_grid
from ttame.backbone.token_order import Size
from ttame.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from ttame.backbone.layers import Candidate
    from ttame.backbone.module import ModuleBackbone


# What libraries call the parameter that a class token starts from. The number of prefix tokens does
# not tell: registers stand in front of the patches too.
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


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
        BackboneError: No layer of the classifier gives this many tokens for such an image, or they
            are not row by row.
    """
    if any(c.layout.strides for c in token_layers(backbone)):
        raise BackboneError(
            f"{backbone.identity.name} takes its tokens apart window by window, so that its "
            "attention matrices do not speak of rows of patches"
        )
    prefixes = Counter(c.layout.prefix for c in token_layers(backbone))
    # The blocks are many; what comes before their prefix tokens are added is little.
    for prefix, _ in prefixes.most_common():
        grid = token_grid(tokens - prefix, image) if tokens > prefix else None
        if grid is None:
            continue
        probed = image == backbone.probe.image_size
        known = any((c.layout.prefix, c.grid) == (prefix, grid) for c in token_layers(backbone))
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
    blocks = alike_blocks(backbone.module, token_layers(backbone), count)
    if not blocks:
        raise BackboneError(
            f"expected {count} transformer blocks of one kind side by side in "
            f"{backbone.identity.name}, as many as it has attention matrices; found none"
        )
    return tuple(candidate.name for candidate in blocks)


def alike_blocks(
    model: nn.Module, candidates: Iterable[Candidate], count: int
) -> tuple[Candidate, ...]:
    """Find ``count`` layers of one kind side by side; of several such groups, the heaviest.

    Returns:
        The layers in the order of execution, or nothing.
    """
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.parent, candidate.kind].append(candidate)

    def weights(group: Iterable[Candidate]) -> int:
        modules = (model.get_submodule(candidate.name) for candidate in group)
        return sum(p.numel() for module in modules for p in module.parameters())

    fitting = [group for group in groups.values() if len(group) == count]
    return tuple(max(fitting, key=weights)) if fitting else ()


def check_class_token(model: nn.Module, chosen: Iterable[Candidate]) -> None:
    """Refuse layers whose output holds no class token in front of the patches.

    Raises:
        BackboneError: The classifier has none, or a layer gives none.
    """
    names = (name.rpartition(".")[2] for name, _ in model.named_parameters())
    if not any(name in _CLASS_TOKENS for name in names):
        raise BackboneError(
            f"class_token_product multiplies the patches by the class token, and "
            f"{type(model).__name__} has none; leave class_token_product off"
        )
    chosen = list(chosen)
    if not chosen:
        raise BackboneError(
            "class_token_product multiplies tokens, and no layer that is read gives any; choose "
            "another layer or leave it off"
        )
    for candidate in chosen:
        if candidate.layout.order != "tokens" or candidate.layout.prefix < 1:
            raise BackboneError(
                f"class_token_product needs a class token in front of the patches, and layer "
                f"{candidate.name!r} gives none; choose other layers or leave it off"
            )


def token_layers(backbone: ModuleBackbone) -> list[Candidate]:
    """Return the layers that give tokens, in the order of execution."""
    return [c for c in backbone.probe.candidates if c.layout.order == "tokens"]
