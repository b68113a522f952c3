from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import killed_run
import ttame
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking.lock import in_turn, one_run
from ttame.benchmarking.parallel import share_out
from ttame.benchmarking.parts import Part, parse_part
from ttame.benchmarking.records import Unit, read_records
from ttame.benchmarking.settings import check_out, open_folder
from ttame.errors import InputError

SCRIPT = Path(killed_run.__file__)
FILES = ("results.json", "per_image.csv", "curves.json", "comparisons.json")


def run(photos: Path, out: Path | None, **changes):
    torch.manual_seed(0)
    settings = {"methods": ["random", "gradcam"], "measures": ["confidence"], "batch_size": 2}
    explainer = ttame.new_explainer(tiny_backbone())
    return ttame.benchmark(explainer, photos, out=out, report=False, **{**settings, **changes})


def test_a_part_is_written_as_a_fraction():
    assert parse_part("2/8") == Part(2, 8)
    assert str(parse_part("1/1")) == "1-of-1"
    for text in ("0/8", "9/8", "2", "2/", "/8", "-1/8", "a/b", "1/8/2", "1.5/8"):
        with pytest.raises(InputError, match="expected a part such as 1/8"):
            parse_part(text)


def test_every_method_is_dealt_evenly_whatever_is_left():
    units = [Unit("photos", 4 * batch, name) for batch in range(8) for name in "abc"]
    shares = share_out(units, 4)
    assert sorted(unit for share in shares for unit in share) == sorted(units)
    assert {sum(unit.method == name for unit in share) for share in shares for name in "abc"} == {2}


def start(data: Path, out: Path, calls_left: int, part: str) -> subprocess.Popen[bytes]:
    # The same ttame as here, wherever another one may be installed.
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(ttame.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, SCRIPT, data, out, calls_left, "new", part]
    return subprocess.Popen([str(item) for item in arguments], env=environment)


def test_parts_that_run_together_give_the_bytes_of_one_run_though_one_was_killed(tmp_path):
    photos = tiny_photos(tmp_path / "photos", 18)
    killed_run.run(str(photos), str(tmp_path / "whole"), 0, resume=False)
    out = tmp_path / "out"
    parts = [start(photos, out, 2 * (part == "2/3"), part) for part in ("1/3", "2/3", "3/3")]
    assert [part.wait() for part in parts] == [0, -signal.SIGKILL, 0]
    assert not (out / "results.json").exists()
    assert 16 < len(read_records(out)) < 24
    names = sorted(path.name for path in out.glob("records*"))
    assert names == [f"records-{number}-of-3.jsonl" for number in (1, 2, 3)]
    killed_run.run(str(photos), str(out), 0, resume=True)
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_part_computes_what_it_lacks_and_the_last_call_what_is_missing(tmp_path):
    photos = tiny_photos(tmp_path / "photos", 6)
    out = tmp_path / "out"
    run(photos, out, part="1/2")
    first = read_records(out)
    assert 0 < len(first) < 9
    kept = out / "records-1-of-2.jsonl"
    kept.write_bytes(kept.read_bytes()[:-9])
    seen = []
    run(photos, out, part="1/2", progress=lambda *now: seen.append(now))
    assert set(read_records(out)) == set(first)
    assert seen[0][1] == seen[-1][0] == seen[-1][1]
    assert seen[0][0] == seen[0][1] - 2
    with pytest.raises(InputError, match="holds a benchmark already"):
        run(photos, out)
    result = run(photos, out, resume=True)
    assert result.means()["gradcam"]["ad_50"].n == 6


def test_parts_of_another_run_are_refused(tmp_path):
    photos = tiny_photos(tmp_path / "photos", 4)
    run(photos, tmp_path / "out", part="1/2")
    with pytest.raises(InputError, match="other settings"):
        run(photos, tmp_path / "out", part="2/2", seed=1)


def test_parts_that_start_together_write_their_settings_in_turn(tmp_path):
    # As in a run: another part is in the middle of it when this one comes.
    def other() -> None:
        with in_turn(tmp_path):
            came.set()
            time.sleep(0.3)
            open_folder(tmp_path, {"seed": 0}, resume=True, command="first")

    came = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    came.wait()
    with in_turn(tmp_path), pytest.raises(InputError, match="other settings"):
        open_folder(tmp_path, {"seed": 1}, resume=True, command="second")
    thread.join()


@pytest.mark.parametrize("settings", [{"out": None}, {"jobs": 2}])
def test_a_part_needs_the_folder_and_one_process(tmp_path, settings):
    with pytest.raises(InputError, match="give each process a part of its own"):
        run(tmp_path, **{"out": tmp_path / "out", "part": "1/2", **settings})


def test_parts_stand_beside_each_other_but_not_beside_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("ttame.benchmarking.lock._MOMENT", 0.0)
    photos = tiny_photos(tmp_path / "photos", 2)
    out = tmp_path / "out"
    busy = pytest.raises(InputError, match="another run is writing")
    with one_run(out, Part(1, 2)):
        run(photos, out, part="2/2")
        with busy:
            run(photos, out, part="1/2")
        with busy:
            run(photos, out, resume=True)
        with busy:  # before any work
            check_out(out, resume=True)
    with one_run(out), busy:
        check_out(out, resume=False, part=Part(2, 2))
    with one_run(out), busy:
        run(photos, out, part="2/2")
    run(photos, out, resume=True)
