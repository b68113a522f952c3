from __future__ import annotations

from dataclasses import replace

from ttame.backbone.layers import Candidate, default_layers
from ttame.backbone.layout import Layout


def candidate(name: str, side: int, kind: str = "Block", producer: str | None = None) -> Candidate:
    return Candidate(name, (8, side, side), Layout("channels_first"), kind, False, producer or name)


def test_the_outermost_last_layer_of_the_three_coarsest_resolutions():
    found = [
        candidate("stem", 56),
        candidate("stages.0", 28),
        candidate("stages.1.0", 14),
        candidate("stages.1", 14, producer="stages.1.0"),
        candidate("stages.2", 7),
        candidate("stages", 7, producer="stages.2"),
        candidate("norm", 7, "Norm"),
    ]
    assert default_layers(found) == ("stages.0", "stages.1", "norm")


def test_two_resolutions_give_two_layers_and_one_gives_one():
    found = [candidate("a", 4, "Conv"), candidate("b", 2, "Relu")]
    assert default_layers(found) == ("a", "b")
    assert default_layers(found[:1]) == ("a",)


def test_blocks_of_one_resolution_give_two_late_ones_and_the_last_map():
    blocks = [candidate(f"blocks.{i}", 14) for i in range(12)]
    inner = [candidate(f"blocks.{i}.norm", 14, "Norm") for i in range(12)]
    found = [candidate("stem", 14, "Conv")]
    for block, norm in zip(blocks, inner, strict=True):
        found += [norm, block]
    found += [candidate("blocks", 14, "Sequential", producer="blocks.11")]
    assert default_layers(found) == ("blocks.8", "blocks.10", "blocks.11")
    # Layers that run later inside the head are no part of the trunk.
    found += [candidate("norm", 14, "Norm"), candidate("pool.kv", 14, "Linear")]
    assert default_layers(found) == ("blocks.8", "blocks.10", "norm")


def test_maps_inside_blocks_are_no_resolutions_of_their_own():
    found = [
        candidate("patches", 14),
        candidate("blocks.0.attention", 49, "Softmax"),
        candidate("blocks.0.reduced", 7, "Conv"),
        candidate("blocks.0", 14),
        candidate("blocks.1", 14),
        candidate("norm", 14, "Norm"),
    ]
    assert default_layers(found) == ("blocks.1", "norm")


def test_a_resolution_ends_with_its_blocks_where_these_lie_deeper():
    found = [
        candidate("embed.0", 28),
        candidate("stages.0.norm", 28, "Norm"),
        candidate("stages.0", 14, "Stage"),  # merges patches at its end
        candidate("stages.1.blocks.0.norm", 14, "Norm"),
        candidate("stages.1.blocks.0", 14),
        candidate("stages.1.blocks.1.norm1", 14, "Norm"),
        candidate("stages.1.blocks.1.norm2", 14, "Norm"),
        candidate("stages.1.blocks.1", 14),
        candidate("stages.1.merge.norm", 14, "Norm"),
        candidate("stages.1", 7, "Stage"),
        candidate("stages.2.blocks.0.norm1", 7, "Norm"),
        candidate("stages.2.blocks.0.norm2", 7, "Norm"),
        candidate("stages.2.blocks.0", 7),  # a single one: it might as well be a part of a block
    ]
    assert default_layers(found) == ("embed.0", "stages.1.blocks.1", "stages.1")


def test_the_first_layers_of_the_next_block_end_no_resolution():
    found = [candidate("layer1", 14), candidate("layer2.0", 7), candidate("layer2", 7)]
    inner = [
        replace(candidate(f"layer2.0.branch.{i}", 14, "ConvNorm"), shape=(4, 14, 14))
        for i in range(2)
    ]
    leaves = [candidate(f"{part.name}.norm", 14, "Norm") for part in inner]
    leaves += [candidate(f"layer2.0.norm{i}", 14, "Norm") for i in (1, 2)]
    assert default_layers([found[0], *inner, *leaves, *found[1:]]) == ("layer1", "layer2")


def test_a_resolution_ends_with_a_whole_block_not_with_a_branch_of_one():
    branches = [candidate(f"stages.1.down.block.{name}", 14, "ConvNorm") for name in ("a", "b")]
    inner = [candidate(f"{branch.name}.norm", 14, "Norm") for branch in branches]
    found = [candidate("stages.0", 14, "Stage"), *inner, *branches]
    found += [candidate("stages.1.down.block", 14), candidate("stages.1", 7, "Stage")]
    assert default_layers(found) == ("stages.1.down.block", "stages.1")
