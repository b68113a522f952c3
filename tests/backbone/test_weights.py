from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ttame.backbone.weights import WeightFile, load_state, read_weights
from ttame.errors import BackboneError, StorageError


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files_are_unwrapped(tmp_path, wrapper, prefix):
    layer = nn.Linear(2, 3)
    state = {prefix + name: value for name, value in layer.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "weights.pth")
    other = nn.Linear(2, 3)
    load_state(other, read_weights(tmp_path / "weights.pth").state, "the file")
    assert torch.equal(other.weight, layer.weight)


def test_half_safetensors_with_notes_give_float32_weights(tmp_path):
    layer = nn.Linear(2, 3)
    save_file(layer.half().state_dict(), tmp_path / "w.safetensors", metadata={"mean": "0.5"})
    file = read_weights(tmp_path / "w.safetensors")
    assert file.metadata == {"mean": "0.5"}
    other = nn.Linear(2, 3)
    load_state(other, file.state, "the file")
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, layer.weight.float())


class Code:
    def __reduce__(self):
        return print, ("this must never run",)


def test_files_with_code_are_refused(tmp_path, capsys):
    torch.save({"state_dict": {}, "extra": Code()}, tmp_path / "bad.pth")
    with pytest.raises(StorageError, match=r"\(builtins\.print\), and loading it could run code"):
        read_weights(tmp_path / "bad.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Code()))
    with pytest.raises(StorageError):
        read_weights(tmp_path / "plain.pkl")
    assert capsys.readouterr().out == ""


def test_what_was_read_already_is_returned_as_it_is(tmp_path):
    file = WeightFile(tmp_path / "later.safetensors", {"weight": torch.zeros(1)})
    assert read_weights(file) is file


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_missing_and_damaged_files_are_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match="w\\."):
        read_weights(tmp_path / name)


def test_empty_files_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(StorageError, match="expected named tensors"):
        read_weights(tmp_path / "w.pth")


def test_weights_that_do_not_fit_are_named():
    state = {"weight": torch.zeros(4, 2), "extra": torch.zeros(1)}
    with pytest.raises(BackboneError) as caught:
        load_state(nn.Linear(2, 3), state, "the file")
    assert "missing: bias" in str(caught.value)
    assert "not known: extra" in str(caught.value)
    assert "weight is (4, 2) instead of (3, 2)" in str(caught.value)
