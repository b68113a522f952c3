from __future__ import annotations

import argparse
import logging
import os
import pickle
from pathlib import Path

import pytest
import torch

from made_checkpoint import content, written
from ttame.checkpoints.reading import digest, read_checkpoint
from ttame.errors import StorageError


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_file_falls_into_its_parts(tmp_path):
    body = {"generic.body.fc.bias": torch.ones(2)}
    file = written(tmp_path / "a.ckpt", content(body=body))
    checkpoint = read_checkpoint(str(file))
    assert list(checkpoint.body) == ["fc.bias"]
    assert {"convs.0.weight", "bns.2.running_var", "fuser.bias"} <= set(checkpoint.mechanism)
    assert checkpoint.settings["model_name"] == "squeezenet1_1"
    assert checkpoint.notes["global_step"] == 1234


@pytest.mark.parametrize("place", ["top", "state_dict", "hyper_parameters"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_never_run(tmp_path, place, zipped):
    made, marker = content(), tmp_path / "marker"
    (made if place == "top" else made[place])["callbacks"] = Code(marker)
    torch.save(made, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(StorageError) as caught:
        read_checkpoint(tmp_path / "a.ckpt")
    message = str(caught.value)
    assert f"({'posix' if os.name == 'posix' else 'nt'}.mkdir)" in message
    assert "nothing of it was run" in message
    assert "weights_only" not in message
    assert not marker.exists()
    pickle.loads(pickle.dumps(Code(marker)))
    assert marker.exists()  # it would have been made


def test_every_class_that_is_refused_is_named(tmp_path):
    made = content()
    made["hyper_parameters"] = argparse.Namespace(data=Path("photos"))
    torch.save(made, tmp_path / "a.ckpt")
    with pytest.raises(StorageError, match=r"\(argparse\.Namespace, pathlib\S*Path\)"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_what_lightning_adds_is_ignored_silently_and_the_rest_is_told(tmp_path, caplog):
    made = content()
    with caplog.at_level(logging.WARNING, "ttame"):
        read_checkpoint(written(tmp_path / "a.ckpt", made))
        assert caplog.text == ""
        made["extra"] = 1
        made["state_dict"]["metric.total"] = torch.zeros(1)
        read_checkpoint(written(tmp_path / "a.ckpt", made))
    assert "entries that no explainer needs, ignored: extra" in caplog.text
    assert "weights that no explainer needs, ignored: metric.total" in caplog.text


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([1], "expected a Lightning checkpoint with `state_dict`.*got <class 'list'>"),
        ({}, "expected a Lightning checkpoint .*got nothing"),
        ({"model": {}, "epoch": 1}, "got model, epoch"),
        ({"state_dict": 3}, "expected a Lightning checkpoint"),
        ({"state_dict": {}}, r"expected .*weights as generic\.attn_mech\.\*.*found none"),
        ({"state_dict": {}, "hyper_parameters": [1]}, "`hyper_parameters` .*as a dict, got list"),
        (
            {"state_dict": {"generic.head.weight": torch.zeros(1)}},
            r"not understood: generic\.head\.weight",
        ),
        (
            {"state_dict": {"generic.attn_mech.fuser.bias": 3}},
            r"dense tensor .*generic\.attn_mech\.fuser\.bias .*got int",
        ),
        (
            {"state_dict": {"generic.attn_mech.fuser.bias": torch.zeros(2).to_sparse()}},
            r"dense tensor .*got torch\.sparse",
        ),
        (
            {"state_dict": {"generic.body.fc.bias": torch.tensor([1.0, float("nan")])}},
            r"generic\.body\.fc\.bias .*not finite",
        ),
    ],
    ids=str,
)
def test_what_is_no_such_checkpoint_is_refused(tmp_path, made, message):
    torch.save(made, tmp_path / "a.ckpt")
    with pytest.raises(StorageError, match=message):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "noise", "folder", "pickle"])
def test_damaged_files_give_one_clear_line(tmp_path, fault):
    path = tmp_path / "a.ckpt"
    whole = written(tmp_path / "whole.ckpt", content()).read_bytes()
    faulty = {"empty": b"", "truncated": whole[:-3000], "noise": b"\xff\x00" * 99}
    faulty["pickle"] = pickle.dumps([Code(tmp_path / "marker")])
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes(faulty[fault])
    with pytest.raises(StorageError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


def test_digest_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223b00361a39617")
