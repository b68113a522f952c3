from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame.errors import InputError, UnknownNameError
from ttame.methods.registry import Method, get_method, register


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def test_unknown_names_classes_and_needs_are_refused(backbone):
    with pytest.raises(UnknownNameError, match="did you mean 'gradcam'"):
        get_method("grad-cam")
    images = torch.zeros(2, 3, 32, 32)
    for classes in (torch.tensor([0, 1]), torch.tensor([[0]]), torch.zeros(2, 1)):
        with pytest.raises(InputError, match=r"class indices of shape \(2, n\)"):
            get_method("all_ones")(backbone, images, classes)
    with pytest.raises(InputError, match="from 0 to 4, got 1 to 5"):
        get_method("all_ones")(backbone, images, torch.tensor([[1], [5]]))
    with pytest.raises(UnknownNameError, match="gradients"):
        register(name="x", title="X", needs=("gradient",))
    with pytest.raises(InputError, match="exists already"):
        register(name="random", title="X")(lambda *_: images)


def test_unknown_ways_from_map_to_mask_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'as_given'"):
        replace(get_method("all_ones"), normalisation="as-given")
    with pytest.raises(UnknownNameError, match="did you mean 'nearest'"):
        replace(get_method("all_ones"), upsampling="nearst")


def test_maps_of_a_wrong_shape_are_refused(backbone):
    wrong = Method("wrong", "Wrong", lambda backbone, images, classes: images[:, 0])
    with pytest.raises(InputError, match=r"\(2, 1, 'h', 'w'\)"):
        wrong(backbone, torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, dtype=torch.long))


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(InputError, match=r"pip install 'ttame\[benchmark\]'"):
        get_method("gradcam")
    assert get_method("random").name == "random"
