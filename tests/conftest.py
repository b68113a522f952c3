"""Shared fixtures: one thread, the real data folder, tiny seeded models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# One thread per test process: pytest-xdist fills the cores, and sums do not depend on the machine.
torch.set_num_threads(1)
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real photos and weights beside the project; the test skips where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real photos and weights (../shared/data) are not on this machine")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a GPU, for ``-m gpu``."""
    for item in items:
        if "gpu" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture
def gpu() -> torch.device:
    """The GPU; the test skips where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
