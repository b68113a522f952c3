from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import killed_run
import ttame
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking.records import read_records
from ttame.benchmarking.world import World, world
from ttame.errors import InputError

SCRIPT = Path(killed_run.__file__)
FILES = ("results.json", "per_image.csv", "curves.json", "comparisons.json")


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_a_process_is_alone_and_does_not_wait():
    alone = world()
    assert alone == World(0, 1, 0)
    assert alone.first
    with alone.meeting():
        alone.wait()
        assert alone.agreed([1]) == [1]


def test_ranks_of_another_launcher_are_not_taken_for_torchruns(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert world() == World()


@pytest.mark.usefixtures("second_of_two")
def test_a_process_of_torchrun_knows_its_place():
    assert world() == World(rank=5, size=8, local_rank=1)
    assert not world().first


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("settings", [{}, {"jobs": 2}])
def test_processes_of_torchrun_need_one_folder_and_start_no_others(tmp_path, settings):
    photos = tiny_photos(tmp_path / "photos", 2)
    out = {"out": tmp_path / "out"} if settings else {}
    with pytest.raises(InputError, match=r"started 8 processes.*leave out jobs"):
        ttame.benchmark(ttame.new_explainer(tiny_backbone()), photos, **out, **settings)
    assert not (tmp_path / "out").exists()


def torchrun(data: Path, out: Path, calls_left: int, mode: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(ttame.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = [*launcher, "--nproc-per-node", 2, SCRIPT, data, out, calls_left, mode]
    texts = [str(item) for item in arguments]
    return subprocess.run(texts, env=environment, check=False, capture_output=True, text=True)


def test_two_processes_of_torchrun_share_a_run_that_was_killed_and_goes_on(tmp_path):
    data = tiny_photos(tmp_path / "photos", 12)
    killed_run.run(str(data), str(tmp_path / "whole"), 0, resume=False)
    out = tmp_path / "out"
    killed = torchrun(data, out, 2, "new")
    assert killed.returncode != 0
    assert not (out / "results.json").exists()
    assert 0 < len(read_records(out)) < 16
    resumed = torchrun(data, out, 0, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(path.name for path in out.glob("records*")) == [
        "records-0.jsonl",
        "records-1.jsonl",
    ]
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
