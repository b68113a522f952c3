from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.errors import InputError
from ttame.images.listing import Photo, data_digest, list_photos, sample, split


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ["b/2.JPG", "b/10.png", "a/1.jpeg", "3.webp", "a/notes.txt", ".hidden/4.jpg"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "photos" / "a" / "._1.jpeg").write_bytes(b"left behind by macOS")
    return tmp_path / "photos"


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def shown(photos: list[Photo], folder: Path) -> list[tuple[str, int | None]]:
    return [(photo.path.relative_to(folder).as_posix(), photo.label) for photo in photos]


def test_folder_is_searched_in_depth_and_sorted(folder):
    names = [("3.webp", None), ("a/1.jpeg", None), ("b/10.png", None), ("b/2.JPG", None)]
    assert shown(list_photos(folder), folder) == names
    assert list_photos(str(folder)) == list_photos(folder)


def test_linked_folders_are_followed_once(folder):
    (folder / "a" / "up").symlink_to(folder)
    (folder / "other").symlink_to(folder / "b")
    assert len(list_photos(folder)) == 4


def test_text_list(folder):
    (folder / "my photo 7.jpg").write_bytes(b"1")
    lines = ["# comment", "", "b/2.JPG 3", "a/1.jpeg\t12", "my photo 7.jpg", "my photo 7.jpg  5",
             "  3.webp  ", "b/10.png -1", str(folder / "3.webp") + " 0"]  # fmt: skip
    photos = list_photos(written(folder / "list.txt", "\r\n".join(lines), "utf-8-sig"))
    assert shown(photos, folder) == [
        ("b/2.JPG", 3),
        ("a/1.jpeg", 12),
        ("my photo 7.jpg", None),
        ("my photo 7.jpg", 5),
        ("3.webp", None),
        ("b/10.png", None),
        ("3.webp", 0),
    ]


@pytest.mark.parametrize("column", ["file", "path", "image", "filename", " Image "])
@pytest.mark.parametrize("label", ["label", "imagenet_label"])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_csv(folder, column, label, comma):
    # fmt: off
    rows = [["source", column, label], ["x", "b/2.JPG", "3"], ["y", "3.webp", ""],
            ["z", "a/1.jpeg", "4.0"], ["", "", ""], ["w", '"b/10.png"', "-1"], ["v", "3.webp"]]
    # fmt: on
    text = "\n".join(comma.join(row) for row in rows)
    photos = list_photos(written(folder / "list.csv", text, "utf-8-sig"))
    names = [
        ("b/2.JPG", 3),
        ("3.webp", None),
        ("a/1.jpeg", 4),
        ("b/10.png", None),
        ("3.webp", None),
    ]
    assert shown(photos, folder) == names


def test_csv_without_labels_and_with_commas_in_names(folder):
    (folder / "a, b.jpg").write_bytes(b"1")
    photos = list_photos(written(folder / "list.csv", 'file\n"a, b.jpg"\n'))
    assert shown(photos, folder) == [("a, b.jpg", None)]


def test_single_file_and_iterables(folder):
    path = folder / "3.webp"
    assert list_photos(path) == [Photo(path)]
    assert list_photos(iter([str(path), path, Photo(path, 4)])) == [
        Photo(path),
        Photo(path),
        Photo(path, 4),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,label\n3.webp,1\n", r"columns \['name', 'label'\].*file, path"),
        ("a.csv", "", "expected one of file"),
        ("a.csv", "file,label\n3.webp,dog\n", "line 2.*class index.*'dog'"),
        ("a.csv", "file,label\n3.webp,1.5\n", "whole numbers"),
        ("a.csv", "file,label\n,1\n", "line 2 names no photo"),
        ("a.csv", "file,label\n", "names no photo"),
        ("a.csv", "file\nnowhere.jpg\n", "none of the 1 files.*relative"),
        ("a.txt", "# nothing\n", "names no photo"),
        ("a.txt", "nowhere.jpg 1\nelsewhere.jpg 2\n", "none of the 2 files.*nowhere"),
        ("a.docx", "x", r"expected a folder.*\.csv"),
    ],
)
def test_unusable_lists(folder, name, text, message):
    with pytest.raises(InputError, match=message):
        list_photos(written(folder / name, text))


def test_unusable_data(tmp_path):
    with pytest.raises(InputError, match="do not exist"):
        list_photos(tmp_path / "missing")
    with pytest.raises(InputError, match="no photos in folder"):
        list_photos(tmp_path)
    with pytest.raises(InputError, match="empty list"):
        list_photos([])
    for wrong in (7, b"a.jpg", [3], None):
        with pytest.raises(InputError, match=r"expected photos as.*got (int|NoneType)"):
            list_photos(wrong)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(InputError, match="UTF-8"):
        list_photos(tmp_path / "latin.txt")


def test_one_missing_photo_is_left_to_the_reader(folder):
    photos = list_photos(written(folder / "list.txt", "gone.jpg\n3.webp\n"))
    assert len(photos) == 2


def test_digest(folder, tmp_path):
    photos = list_photos(folder)
    digest = data_digest(photos)
    assert len(digest) == 64
    assert data_digest(photos[::-1]) == digest
    folder.rename(tmp_path / "moved")
    moved = list_photos(tmp_path / "moved")
    assert data_digest(moved) == digest
    assert data_digest([Photo(photo.path, 1) for photo in moved]) == digest
    assert data_digest(moved[1:]) != digest
    moved[0].path.write_bytes(b"another size")
    assert data_digest(moved) != digest
    moved[0].path.unlink()
    assert data_digest(moved) != digest
    assert data_digest([]) == data_digest([])


def many(n: int) -> list[Photo]:
    return [Photo(Path(f"{i:03}.jpg"), i) for i in range(n)]


@pytest.mark.parametrize(
    ("n", "share", "count"), [(10, 0.2, 2), (10, 0, 0), (10, 0.01, 1), (2, 0.99, 1), (1, 0, 0)]
)
def test_split_sizes(n, share, count):
    training, validation = split(many(n), share, seed=0)
    assert (len(training), len(validation)) == (n - count, count)
    assert sorted(training + validation, key=lambda photo: photo.path) == many(n)


def test_split_depends_on_seed_and_not_on_order():
    photos = many(50)
    assert split(photos, 0.3, seed=1) == split(photos[::-1], 0.3, seed=1)
    assert split(photos, 0.3, seed=1) != split(photos, 0.3, seed=2)
    assert sample(photos, 9, seed=1) == sample(photos[::-1], 9, seed=1)
    assert sample(photos, 9, seed=1) != sample(photos, 9, seed=2)


def test_split_is_pinned():
    # The numbers behind a published split must not move with Python or this library.
    _, validation = split(many(10), 0.3, seed=0)
    assert [photo.label for photo in validation] == [3, 5, 7]


def test_sample_sizes():
    assert sample(many(5), 99, seed=0) == many(5)
    assert len(sample(many(5), 2, seed=0)) == 2
    with pytest.raises(InputError, match="at least 1"):
        sample(many(5), 0, seed=0)


@pytest.mark.parametrize(
    ("n", "share"), [(5, 1.0), (5, -0.1), (5, float("nan")), (1, 0.5), (0, 0.5)]
)
def test_wrong_splits(n, share):
    with pytest.raises(InputError, match="expected"):
        split(many(n), share, seed=0)


@pytest.mark.real
def test_real_lists(data_folder):
    pool = list_photos(data_folder / "pool" / "pool.csv")
    assert len(pool) == 8500
    assert data_digest(pool) == data_digest(list_photos(data_folder / "pool"))
    assert list_photos(data_folder / "nips2017" / "labels.csv")[0].label == 341


class Labelled(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.read = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.read.append(index)
        return torch.full((3, 2, 2), index / 2), 7


def test_a_data_set_s_photos_are_read_when_they_are_needed():
    data = Labelled()
    photos = list_photos(data)
    assert [photo.path.name for photo in photos] == [f"photo-00000{index}" for index in range(3)]
    assert data.read == []
    assert float(photos[2].read().max()) == 1.0
    assert data.read == [2]
    assert [len(part) for part in split(photos, 0.34, seed=0)] == [2, 1]


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((3, 4, 5, 6)),
        torch.zeros(3, 6, 4, 5),
        [np.zeros((4, 5, 6)), torch.zeros(6, 4, 5), Image.new("L", (2, 2))],
        (np.zeros((4, 5, 6)) for _ in range(3)),
    ],
    ids=["array", "tensor", "list", "generator"],
)
def test_photos_that_are_no_files(data):
    photos = list_photos(data)
    assert len(photos) == 3
    assert all(photo.label is None and photo.read() is not None for photo in photos)
    assert len(data_digest(photos)) == 64
