from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

import pytest

from ttame.errors import StorageError
from ttame.files import check_writable, slug, write_atomically


def test_writes_and_makes_folders(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a" / "b" / "file.bin", lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert [child.name for child in path.parent.iterdir()] == ["file.bin"]


def test_replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"a much longer old text")
    write_atomically(str(path), lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def half(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["file.bin"]


def test_the_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"

    def slowly(file: IO[bytes]) -> None:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")

    write_atomically(path, slowly)
    assert path.read_bytes() == b"half and half"


@pytest.mark.skipif(os.name == "nt", reason="file modes are those of Unix")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        path = write_atomically(tmp_path / "file.bin", lambda file: file.write(b"x"))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write .*taken"):
        write_atomically(tmp_path / "taken" / "file.bin", lambda file: file.write(b"x"))
    with pytest.raises(StorageError, match="choose another folder"):
        check_writable(tmp_path / "taken")
    with pytest.raises(StorageError, match="choose another folder"):
        check_writable(tmp_path / "taken" / "below")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(tmp_path / "taken", lambda file: file.write(b"x"))
    assert [child.name for child in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="choose another folder"):
        check_writable(tmp_path)
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(tmp_path / "file.bin", lambda file: file.write(b"x"))


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    folder = check_writable(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tench, Tinca tinca!", "tench-tinca-tinca"),
        ("../../etc/passwd", "etc-passwd"),
        ("Straße 7", "straße-7"),
        ("??", "untitled"),
        ("", "untitled"),
        ("a" * 100, "a" * 60),
        ("a" * 59 + "--b", "a" * 59),
    ],
)
def test_slug(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_two_long_slugs_of_any_script_fit_a_file_name(tmp_path: Path) -> None:
    name = f"{slug('写' * 90)}-{slug('真' * 90)}-12.png"
    write_atomically(tmp_path / name, lambda file: file.write(b"x"))
    assert (tmp_path / name).is_file()
