"""Which photos are meant, and names for their pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttame.cli.photos import gather, shorten, unique_targets
from ttame.errors import InputError


@pytest.fixture
def tree(tmp_path):
    for name in ("a.jpg", "sub/a.jpg", "sub/b.PNG", "note.md", "odd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_keep_their_sub_folders(tree):
    items = gather([tree])
    assert [item.photo.path.relative_to(tree).as_posix() for item in items] == [
        "a.jpg",
        "sub/a.jpg",
        "sub/b.PNG",
    ]
    assert [item.target for item in items] == [Path("a"), Path("sub/a"), Path("sub/b")]


def test_files_and_folders_mix_and_come_once(tree):
    items = gather([tree / "sub/a.jpg", tree / "a.jpg", tree / "odd", tree / "sub", tree / "a.jpg"])
    assert [item.photo.path.name for item in items] == ["a.jpg", "a.jpg", "odd", "b.PNG"]
    assert [str(item.target) for item in items] == ["a", "a-2", "odd", "b"]


def test_lists_are_read(tree):
    (tree / "list.txt").write_text("sub/b.PNG\n../elsewhere/c.jpg\n")
    items = gather([tree / "list.txt"])
    assert [str(item.target) for item in items] == [str(Path("sub/b")), "c"]


def test_a_single_missing_file_is_left_to_the_reader(tree):
    assert len(gather([tree / "a.jpg", tree / "missing.jpg"])) == 2
    with pytest.raises(InputError, match=r"no photo is there: '.*missing\.jpg'"):
        gather([tree / "missing.jpg"])
    with pytest.raises(InputError, match="no photo is there"):
        gather([tree / "missing.txt"])


def test_clashing_names_are_numbered():
    names = [Path("x.jpg"), Path("x.png"), Path("x-2.png"), Path("d/x.png"), Path("X.webp")]
    assert [t.as_posix() for t in unique_targets(names)] == ["x", "x-2", "x-2-2", "d/x", "X-3"]


def test_long_and_undecodable_names_become_valid():
    assert shorten("x" * 300) == "x" * 100
    assert len(shorten("ö" * 300).encode()) <= 100
    assert shorten("\udcffa") == "a"
    assert shorten("\udcff") == "photo"
