from __future__ import annotations

import logging

import pytest

from ttame.benchmarking.records import RecordFile, Unit, read_records, record_path
from ttame.errors import StorageError

A, B = Unit("photos", 0, "a"), Unit("photos", 0, "b")


def write(path, *records):
    file = RecordFile(path)
    for unit, content in records:
        file.append(unit, content)
    file.close()


def test_records_of_all_processes_are_read(tmp_path):
    write(record_path(tmp_path), (A, {"p": [0.1 + 0.2, float("nan")]}))
    write(record_path(tmp_path, 3), (B, {"p": [1.0]}))
    records = read_records(tmp_path)
    assert set(records) == {A, B}
    assert records[A]["p"][0] == 0.1 + 0.2
    assert records[A]["p"][1] != records[A]["p"][1]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path, cut):
    path = record_path(tmp_path)
    write(path, (A, {"p": [1.0]}), (B, {"p": [2.0]}))
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_records(tmp_path)) == [A]
    write(path, (B, {"p": [3.0]}))
    assert read_records(tmp_path)[B]["p"] == [3.0]
    assert path.read_bytes().count(b"\n") == 2


def test_a_damaged_line_is_told_and_passed_over(tmp_path, caplog):
    path = record_path(tmp_path)
    write(path, (A, {}), (B, {}))
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"a', 1))
    with caplog.at_level(logging.WARNING):
        assert list(read_records(tmp_path)) == [B]
    assert "damaged record" in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_success_counts_more_than_failure(tmp_path, turned):
    records = [(A, {"error": ["failed", "memory"]}), (A, {"p": [1.0]})]
    for rank, record in enumerate(reversed(records) if turned else records):
        write(record_path(tmp_path, rank), record)
    assert "error" not in read_records(tmp_path)[A]


def test_a_complete_record_counts_most_and_then_the_last(tmp_path, monkeypatch):
    now = iter(range(9))
    monkeypatch.setattr("time.time", lambda: next(now))
    part, whole = {"p": [1.0], "failed": ["road"]}, {"p": [1.0], "failed": []}
    # The names of the files say nothing about the order.
    write(record_path(tmp_path, 1), (A, part), (B, part))
    write(record_path(tmp_path, 0), (A, {"error": ["failed", "memory"]}), (B, whole))
    assert "error" in read_records(tmp_path)[A]
    assert read_records(tmp_path)[B]["failed"] == []
    write(record_path(tmp_path, 1), (A, part), (B, {"error": ["failed", "memory"]}))
    assert read_records(tmp_path)[A]["failed"] == ["road"]
    assert read_records(tmp_path)[B]["failed"] == []


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        RecordFile(tmp_path / "file" / "records.jsonl")
