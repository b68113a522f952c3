"""What stands around or in the place of a classifier is unwrapped, or refused in one line."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from tiny_backbone import tiny_classifier
from ttame.backbone.registry import load_backbone
from ttame.backbone.wrappers import plain_module
from ttame.errors import BackboneError, InputError

IMAGES = torch.randn(2, 3, 32, 32)


def traced(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, IMAGES)


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def partly(change, index: int):
    def changed(model: nn.Module) -> nn.Module:
        model[index] = change(model[index])
        return model

    return changed


def quantised(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    ],
    ids=["data parallel", "compiled", "both"],
)
def test_wrappers_are_taken_off(wrap):
    model = tiny_classifier()
    backbone = load_backbone(wrap(model), image_size=32)
    assert backbone.module is model
    assert backbone.layers == load_backbone(model, image_size=32).layers
    assert torch.equal(backbone.logits(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (traced, "a TorchScript module: its inner layers cannot be read"),
        (partly(traced, 0), r"a TorchScript module \(its layer '0' is one\)"),
        (lambda model: torch.export.export(model, (IMAGES,)), "an exported program"),
        (lambda model: torch.export.export(model, (IMAGES,)).module(), "an exported program"),
        (compiled_in_place, "a module compiled in place"),
        (partly(lambda layer: torch.compile(layer, backend="eager"), 1), "layer '1' is one"),
        (quantised, "a quantised module: no gradient"),
    ],
    ids=["script", "part script", "exported", "graph", "in place", "part", "quantised"],
)
def test_what_cannot_be_read_is_refused(change, what):
    given = tiny_classifier()
    with pytest.raises(BackboneError, match=f"{what}.*pass the module that it was made from"):
        load_backbone(change(given), image_size=32)


def test_a_statically_quantised_convolution_is_refused():
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    convolution = torch.ao.nn.quantized.Conv2d(3, 4, 3)
    with pytest.raises(BackboneError, match="a quantised module"):
        load_backbone(nn.Sequential(convolution, nn.Flatten()))


def test_a_traced_graph_that_keeps_its_layers_works():
    graph = torch.fx.symbolic_trace(tiny_classifier())
    assert load_backbone(graph, image_size=32).layers[-1].startswith("2")


def test_what_is_no_module_is_refused():
    with pytest.raises(InputError, match="expected a source"):
        plain_module(lambda images: images)


def test_a_classifier_that_fails_is_refused_with_its_own_words():
    class Failing(nn.Module):
        def forward(self, images):
            raise KeyError("no such\nthing")

    with pytest.raises(
        BackboneError, match=r"Failing takes none .*KeyError\('no such.*pass prepro"
    ):
        load_backbone(Failing(), image_size=32)
