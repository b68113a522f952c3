from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.backends import cudnn

from ttame.benchmarking.exactness import exact_arithmetic

PRODUCTS = torch.backends.cuda.matmul
BY_OPERATOR = pytest.mark.skipif(
    not hasattr(PRODUCTS, "fp32_precision"), reason="settings of PyTorch 2.9 and later"
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    cudnn.allow_tf32, PRODUCTS.allow_tf32 = True, False
    cudnn.benchmark = cudnn.deterministic = False


def fail_inside() -> None:
    with exact_arithmetic():
        assert not cudnn.allow_tf32
        assert not PRODUCTS.allow_tf32
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
        raise KeyError


def test_settings_hold_inside_and_come_back_after_an_error():
    torch.set_float32_matmul_precision("high")
    cudnn.benchmark = True
    with pytest.raises(KeyError):
        fail_inside()
    assert cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
    torch.set_float32_matmul_precision("highest")


@BY_OPERATOR
@pytest.mark.parametrize("wanted", ["tf32", "ieee"])
def test_settings_by_operator_come_back(wanted):
    cudnn.conv.fp32_precision = PRODUCTS.fp32_precision = wanted
    with exact_arithmetic():
        assert "tf32" not in (cudnn.conv.fp32_precision, PRODUCTS.fp32_precision)
        assert not cudnn.allow_tf32
    found = [each.fp32_precision == "tf32" for each in (cudnn.conv, PRODUCTS)]
    assert found == [wanted == "tf32"] * 2


@BY_OPERATOR
def test_how_a_processor_computes_stays_the_users_choice():
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    with exact_arithmetic():
        assert products.fp32_precision == "bf16"
    assert products.fp32_precision == "bf16"
    products.fp32_precision = before
