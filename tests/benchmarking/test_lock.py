from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier, Thread

import pytest

import ttame
from ttame.benchmarking.lock import LOCK, check_unlocked, one_run
from ttame.errors import InputError, StorageError

PATH = os.pathsep.join([str(Path(ttame.__file__).parents[1]), str(Path(__file__).parent)])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH}


HOLDER = """
import sys, time
from pathlib import Path
from ttame.benchmarking.lock import one_run

with one_run(Path(sys.argv[1])):
    print("taken", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_taken_and_given_back(tmp_path):
    folder = tmp_path / "new"
    with one_run(folder):
        with pytest.raises(InputError, match="another run is writing into"):
            check_unlocked(folder)
        with pytest.raises(InputError, match="wait for its end"), one_run(folder):
            pass
    check_unlocked(folder)
    check_unlocked(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(KeyError), one_run(folder):
        raise KeyError
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], env=ENVIRONMENT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"taken"
        with pytest.raises(InputError, match="another run is writing into"):
            check_unlocked(tmp_path)
        holder.kill()
    check_unlocked(tmp_path)
    with one_run(tmp_path):
        pass


def test_of_many_that_ask_at_once_one_gets_it(tmp_path):
    for turn in range(20):
        folder = tmp_path / str(turn)
        start, done, won = Barrier(4), Barrier(4), []

        def take(folder=folder, start=start, done=done, won=won):
            start.wait()
            try:
                with one_run(folder):
                    won.append(True)
                    done.wait()
            except InputError:
                done.wait()

        threads = [Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [True]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"), one_run(tmp_path / "file" / "out"):
        pass


CHILD = """
import time
from ttame.benchmarking.lock import end_with_parent

def child(pid):
    import os
    end_with_parent()
    pid.value = os.getpid()
    time.sleep(60)
"""
PARENT = """
import multiprocessing, time
from child_of_a_run import child

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pid = context.Value("q", 0)
    context.Process(target=child, args=(pid,)).start()
    while not pid.value:
        time.sleep(0.02)
    print(pid.value, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_processes_of_a_run_end_with_it(tmp_path):
    (tmp_path / "child_of_a_run.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], env=ENVIRONMENT, stdout=subprocess.PIPE
    ) as parent:
        child = int(parent.stdout.readline())
        assert not ended(child)
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while not ended(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert ended(child)


def ended(pid):
    """Tell whether a process is gone, or waits only for somebody to notice."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:  # no /proc
        return False
