from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.backends import cudnn

import ttame
from tiny_backbone import tiny_backbone
from ttame.benchmarking import float32
from ttame.benchmarking.float32 import whole_float32
from ttame.methods.registry import Method

PRODUCTS = torch.backends.cuda.matmul
NEW = hasattr(PRODUCTS, "fp32_precision")
BY_OPERATOR = pytest.mark.skipif(not NEW, reason="settings of PyTorch 2.9 and later")


def settings() -> list[tuple[Any, str]]:
    kernels = [(cudnn, "benchmark"), (cudnn, "deterministic")]
    if not NEW:
        return kernels
    owners = (torch.backends, cudnn, cudnn.conv, cudnn.rnn, PRODUCTS, torch.backends.mkldnn.matmul)
    return [*((owner, "fp32_precision") for owner in owners), *kernels]


def state() -> list[Any]:
    return [getattr(owner, name) for owner, name in settings()]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = state()
    yield
    for (owner, name), value in zip(settings(), before, strict=True):
        setattr(owner, name, value)


def fail_inside() -> None:
    with whole_float32():
        assert cudnn.conv.fp32_precision == cudnn.rnn.fp32_precision == "ieee"
        assert PRODUCTS.fp32_precision == "ieee"
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
        raise KeyError


def choose(owner: Any, precision: str) -> None:
    owner.fp32_precision = precision


@BY_OPERATOR
@pytest.mark.parametrize(
    "chosen",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: choose(torch.backends, "tf32"),
        lambda: choose(cudnn, "tf32"),
        lambda: choose(cudnn.conv, "ieee"),
        lambda: choose(PRODUCTS, "tf32"),
        lambda: setattr(cudnn, "benchmark", True),
    ],
)
def test_settings_hold_inside_and_come_back_after_an_error(chosen):
    products = torch.get_float32_matmul_precision()
    chosen()
    before = state()
    with pytest.raises(KeyError):
        fail_inside()
    assert state() == before
    torch.set_float32_matmul_precision(products)


def test_the_settings_of_older_versions_come_back_too(monkeypatch):
    products, convolutions = Older(), Older()
    monkeypatch.setattr(float32, "_PRODUCTS", products)
    monkeypatch.setattr(float32, "_CUDNN", convolutions)
    with whole_float32():
        assert not products.allow_tf32
        assert not convolutions.allow_tf32
        assert convolutions.deterministic
    assert products.allow_tf32
    assert convolutions.allow_tf32
    assert not convolutions.deterministic


class Older:
    allow_tf32 = True
    benchmark = deterministic = False


@BY_OPERATOR
def test_how_a_processor_computes_stays_the_users_choice():
    choose(torch.backends.mkldnn.matmul, "bf16")
    with whole_float32():
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"


@pytest.mark.parametrize("run", [ttame.benchmark, ttame.evaluate])
def test_runs_compute_so(run):
    seen = []

    def function(backbone, images, classes):
        seen.append(cudnn.deterministic)
        return images[:, :1]

    before = cudnn.deterministic
    photos = torch.rand(2, 3, 32, 32)
    explainer = ttame.new_explainer(tiny_backbone())
    run(explainer, photos, methods=[Method("seen", "Seen", function)])
    assert set(seen) == {True}
    assert cudnn.deterministic == before
