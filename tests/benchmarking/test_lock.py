from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier, Thread

import pytest

import ttame
from ttame.benchmarking.lock import LOCK, Owner, check_unlocked, one_run
from ttame.errors import InputError, StorageError

PATH = os.pathsep.join([str(Path(ttame.__file__).parents[1]), str(Path(__file__).parent)])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH}


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(folder, owner):
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(owner)))


def test_a_folder_is_taken_and_given_back(tmp_path):
    folder = tmp_path / "new"
    with one_run(folder):
        content = json.loads((folder / LOCK).read_text())
        assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
        with pytest.raises(InputError, match=f"another run, process {os.getpid()}, has been"):
            check_unlocked(folder)
        with pytest.raises(InputError, match="wait for its end"), one_run(folder):
            pass
    assert list(folder.iterdir()) == []
    check_unlocked(folder)
    check_unlocked(tmp_path / "nowhere")
    with pytest.raises(KeyError), one_run(folder):
        raise KeyError
    assert list(folder.iterdir()) == []


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path):
    write(tmp_path, replace(Owner.me(), pid=dead_pid()))
    check_unlocked(tmp_path)
    with one_run(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_later_process_of_the_same_number_is_another_one(tmp_path):
    assert Owner.me().born == Owner.me().born
    write(tmp_path, replace(Owner.me(), born="1"))
    with one_run(tmp_path):
        pass
    # Without it nobody can tell, and the lock counts.
    write(tmp_path, replace(Owner.me(), born=None))
    with pytest.raises(InputError, match="another run, process"):
        check_unlocked(tmp_path)


@pytest.mark.parametrize("content", [None, "", "no json", "[]", '{"pid": 1}'])
def test_what_may_be_running_elsewhere_is_refused(tmp_path, content):
    write(tmp_path, replace(Owner.me(), pid=dead_pid(), host="elsewhere"))
    if content is not None:
        (tmp_path / LOCK).write_text(content)
    who = "another run may be" if content is not None else r"process \d+ on elsewhere may be"
    with pytest.raises(InputError, match=f"{who} writing into .* delete .*{LOCK}"):
        check_unlocked(tmp_path)
    with pytest.raises(InputError, match="if it has ended"), one_run(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path):
    gone = replace(Owner.me(), pid=dead_pid())
    for turn in range(20):
        folder = tmp_path / str(turn)
        write(folder, gone)
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
        assert list(folder.iterdir()) == []


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
        child = replace(Owner.me(), pid=int(parent.stdout.readline()), born=None)
        assert not child.is_gone()
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while not ended(child.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert ended(child.pid)


def ended(pid):
    """Tell whether a process is gone, or waits only for somebody to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return replace(Owner.me(), pid=pid, born=None).is_gone()
