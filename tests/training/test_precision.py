from __future__ import annotations

import pytest
import torch

from ttame.errors import InputError
from ttame.training import precision
from ttame.training.precision import cpu_computes_bf16, pick_accelerator, pick_precision


def test_auto_takes_one_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_accelerator("auto") == ("gpu", 1)
    assert pick_accelerator("cuda") == ("gpu", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_accelerator("cuda:1") == ("gpu", [1])
    with pytest.raises(InputError, match="cuda:2"):
        pick_accelerator("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_accelerator("auto") == ("cpu", 1)


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps"])
def test_a_missing_device_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=device):
        pick_accelerator(device)


@pytest.mark.parametrize("device", ["gpu7", "", "meta", "quantum"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="use 'auto', 'cpu', 'cuda' or 'mps'"):
        pick_accelerator(device)


@pytest.mark.parametrize(
    ("accelerator", "native", "expected"),
    [
        ("cpu", True, "bf16-mixed"),
        ("cpu", False, "32-true"),
        ("mps", True, "32-true"),
        ("gpu", True, "bf16-mixed"),
        ("gpu", False, "16-mixed"),
    ],
)
def test_auto_takes_bfloat16_only_where_it_is_native(
    accelerator: str, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: native)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    assert pick_precision("auto", accelerator) == expected


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "16-mixed", "64-true", "32", "bf16"])
def test_a_given_precision_is_kept(name: str) -> None:
    assert pick_precision(name, "cpu") == name


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'bf16-mixed'"):
        pick_precision("bf16-mixd", "cpu")


def test_the_processor_is_asked() -> None:
    assert cpu_computes_bf16() in (True, False)
