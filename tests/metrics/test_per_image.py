from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import idle_rank
import ttame
from tiny_cases import make_case
from ttame.metrics.measured import Measured

SCRIPT = Path(idle_rank.__file__)


def test_a_process_without_images_is_merged_too(tmp_path):
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(ttame.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path / "meeting")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        found = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    (count, drop, *several), (none, *merged) = map(json.loads, found)
    assert (count, none) == (2, 0)
    assert drop == pytest.approx(25)
    assert merged == [drop, *several]
    alone = Measured("confidence")
    alone.update(make_case(images=2))
    assert several == pytest.approx([mean.item() for mean in alone.compute().values()])


@pytest.mark.parametrize(
    ("measure", "metric"),
    [("confidence", "ad_50"), ("road", "road_morf"), ("sensitivity", "noise_similarity")],
)
def test_a_measures_merged_metrics_equal_one(measure, metric):
    cases = [make_case(images=images) for images in (3, 2)]
    whole, left, right = (Measured(measure, metric) for _ in range(3))
    for case, part in zip(cases, (left, right), strict=True):
        whole.update(case)
        part.update(case)
    left.merge_state(right)
    assert len(left.per_image()) == 5
    # The state that is merged in comes first.
    expected = torch.cat([right.per_image(), whole.per_image()[:3]])
    assert left.per_image().tolist() == pytest.approx(expected.tolist(), nan_ok=True)
    torch.testing.assert_close(left.compute(), whole.compute())
