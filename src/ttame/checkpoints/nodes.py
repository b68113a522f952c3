"""Graph nodes of torchvision's feature extractors, and the modules whose output they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision.models.feature_extraction import (  # type: ignore[import-untyped]
    create_feature_extractor,
    get_graph_node_names,
)

from ttame.errors import StorageError, unknown_name

if TYPE_CHECKING:
    from torch import nn


def module_of(model: nn.Module, node: str) -> str:
    """Return the module that a graph node names; a module's own name stands for its output.

    torchvision numbers nodes anew: where ``ln_1`` and ``ln_2`` are the modules, ``ln`` and ``ln_1``
    are the nodes. So the graph itself is asked.

    Args:
        model: One of torchvision's classifiers; its values do not matter.
        node: A name that ``create_feature_extractor`` takes.

    Raises:
        UnknownNameError: The model has no such node.
        StorageError: The node is an operation, not a module's output.

    Example:
        >>> import torch
        >>> from torchvision.models import vit_b_16
        >>> with torch.device("meta"):
        ...     model = vit_b_16()
        >>> module_of(model, "encoder.layers.encoder_layer_9.ln")
        'encoder.layers.encoder_layer_9.ln_1'
    """
    model = model.eval()
    nodes = get_graph_node_names(model, suppress_diff_warning=True)[1]
    modules = dict(model.named_modules())
    if node not in nodes:
        if node not in modules or not node:
            raise unknown_name("layer", node, [*nodes, *filter(None, modules)])
        return node
    graph = create_feature_extractor(model, [node], suppress_diff_warning=True).graph
    found = next(item for item in graph.nodes if item.op == "output").args[0][node]
    if found.op != "call_module":
        raise StorageError(
            f"expected layer {node!r} to be a module's output, it is the result of an operation "
            f"({found.name})"
        )
    return str(found.target)
