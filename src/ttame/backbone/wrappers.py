"""What may stand around or in the place of a classifier: unwrapped, or refused with the reason."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ttame.errors import BackboneError, InputError


def plain_module(given: object) -> nn.Module:
    """Return the classifier whose layers can be read.

    ``nn.DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` wrap a module: it is
    taken out, and computes the same.

    Args:
        given: What came in the place of a classifier.

    Raises:
        BackboneError: Its layers cannot be read: TorchScript, exported, quantised or compiled in
            place.
        InputError: It is no module at all.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> plain_module(nn.DataParallel(layer)) is layer
        True
    """
    if isinstance(given, torch.export.ExportedProgram):
        raise _refusal("an exported program", "its layers are dissolved into single operations")
    if not isinstance(given, nn.Module):
        raise InputError(
            f"expected a source such as 'timm/resnet50' or an nn.Module, got {given!r}"
        )
    model = _unwrapped(given)
    for name, module in model.named_modules():
        where = f" (its layer {name!r} is one)" if name else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise _refusal(f"a TorchScript module{where}", "its inner layers cannot be read")
        if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
            raise _refusal(
                f"an exported program{where}", "its layers are dissolved into single operations"
            )
        if _unwrapped(module) is not module or module._compiled_call_impl is not None:
            raise _refusal(
                f"a module compiled in place{where}", "its compiled layers cannot be listened to"
            )
    if any(_quantised(value) for value in model.state_dict().values()):
        raise _refusal("a quantised module", "no gradient passes through its integer layers")
    return model


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        # Its class would have to be imported from the compiler, which takes seconds.
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def _quantised(value: Any) -> bool:
    """Whether an entry of a state dict is a quantised weight, packed or not."""
    if isinstance(value, (tuple, list)):
        return any(_quantised(item) for item in value)
    quantised = isinstance(value, Tensor) and value.is_quantized
    return quantised or isinstance(value, torch.ScriptObject)


def _refusal(what: str, why: str) -> BackboneError:
    return BackboneError(
        f"expected an ordinary nn.Module in floating point, got {what}: {why}; pass the module "
        "that it was made from"
    )
