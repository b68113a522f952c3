from __future__ import annotations

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
