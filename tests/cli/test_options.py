"""Reading the texts of options."""

from __future__ import annotations

import pytest

from ttame.cli.options import pick_device, pick_workers, read_settings, read_shares, split_list
from ttame.errors import InputError


def test_lists():
    assert split_list(None) is None
    assert split_list(" a ,b,") == ["a", "b"]
    with pytest.raises(InputError, match="expected names"):
        split_list(" , ")


def test_shares():
    assert read_shares("100, 50%,15") == (1.0, 0.5, 0.15)
    for text in ("0", "101", "half", ""):
        with pytest.raises(InputError, match="expected"):
            read_shares(text)


def test_settings():
    assert read_settings(["area-weight=2", "fill = blur", "shares=1,0.5"]) == {
        "area_weight": "2",
        "fill": "blur",
        "shares": "1,0.5",
    }
    for pairs in (["lr"], ["=1"], ["lr=1", "lr=2"]):
        with pytest.raises(InputError, match=r"expected --set|twice"):
            read_settings(pairs)


def test_devices():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")
    for name in ("toaster", "cuda:99"):
        with pytest.raises(InputError, match=f"cannot use device '{name}'"):
            pick_device(name)


def test_few_photos_are_read_without_processes():
    assert pick_workers(None, 3) == 0
    assert pick_workers(5, 3) == 5
    assert pick_workers(None, 10_000) >= 0
