from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame import storage
from ttame.backbone.registry import load_backbone
from ttame.errors import BackboneError, StorageError
from ttame.explainer import Explainer, new_explainer
from ttame.heads import HEADS

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def made(head: str = "tied", seed: int = 0) -> Explainer:
    torch.manual_seed(seed + 1)
    explainer = new_explainer(
        tiny_backbone(),
        head,
        start="random",
        grid="last",
        branch="sigmoid",
        smoothing=0.5,
        upsampling="nearest",
        detail=0.1,
        unit_cells=head == "shared",
    )
    for branch in explainer.attention.branches:
        torch.nn.init.normal_(branch.norm.running_mean)
        torch.nn.init.uniform_(branch.norm.running_var, 0.5, 2)
    explainer.provenance = {"training": {"preset": "fast", "config": {"lr": 0.1}}, "scores": {}}
    return explainer


def edit(folder: Path, **changes: Any) -> None:
    path = folder / storage.DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**description, **changes}), encoding="utf-8")


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_gives_equal_maps_bit_for_bit(tmp_path: Path, head: str) -> None:
    explainer = made(head)
    assert explainer.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    loaded = storage.load(tmp_path / "new" / "folder", backbone=tiny_backbone())
    first, second = explainer(IMAGES, "all"), loaded(IMAGES, "all")
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.masks, second.masks)
    assert torch.equal(first.logits, second.logits)
    assert loaded.provenance == explainer.provenance
    assert loaded.mask_form == explainer.mask_form
    assert (loaded.attention.grid, loaded.attention.branch) == ("last", "sigmoid")
    assert (loaded.smoothing, loaded.upsampling, loaded.detail) == (0.5, "nearest", 0.1)
    assert loaded.attention.unit_cells == (head == "shared")
    assert not loaded.training


def test_the_folder_holds_two_files_and_no_pickle(tmp_path: Path) -> None:
    made().save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [storage.WEIGHTS, storage.DESCRIPTION] == sorted(names)
    assert names == ["attention.safetensors", "explainer.json"]


def test_the_description_says_who_made_it(tmp_path: Path) -> None:
    explainer = made()
    explainer.save(tmp_path)
    description = storage.read_description(tmp_path)
    backbone = description["backbone"]
    assert description["format"] == storage.FORMAT
    assert backbone["fingerprint"] == explainer.backbone.identity.fingerprint
    assert backbone["layers"] == ["0", "1", "2"]
    assert backbone["num_classes"] == 5
    assert backbone["class_names"][2] == "class 2"
    assert backbone["preprocessing"] == json.loads(
        json.dumps(explainer.backbone.preprocessing.to_dict())
    )
    assert description["attention"]["head"] == "tied"
    assert description["attention"]["parameters"] == sum(
        parameter.numel() for parameter in explainer.attention.parameters()
    )
    assert description["training"]["preset"] == "fast"


def test_float16_is_smaller_and_close(tmp_path: Path) -> None:
    explainer = made()
    storage.save(explainer, tmp_path / "full")
    storage.save(explainer, tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / name / storage.WEIGHTS).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.8 * sizes[0]
    loaded = storage.load(tmp_path / "half", backbone=tiny_backbone())
    assert all(parameter.dtype == torch.float32 for parameter in loaded.attention.parameters())
    torch.testing.assert_close(loaded(IMAGES).masks, explainer(IMAGES).masks, atol=5e-3, rtol=0)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    made().save(tmp_path)
    made(seed=1).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    loaded = storage.load(tmp_path, backbone=tiny_backbone())
    assert torch.equal(loaded(IMAGES).maps, made(seed=1)(IMAGES).maps)


def test_another_classifier_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    made().save(tmp_path)
    with pytest.raises(StorageError, match=r"fingerprint .*pass force=True"):
        storage.load(tmp_path, backbone=tiny_backbone(seed=1))


def test_insisting_loads_it_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made().save(tmp_path)
    with caplog.at_level(logging.WARNING, "ttame"):
        loaded = storage.load(tmp_path, backbone=tiny_backbone(seed=1), force=True)
    assert "loaded all the same" in caplog.text
    assert loaded(IMAGES).maps.shape == (2, 1, 4, 4)


def test_insisting_on_a_classifier_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    made("independent").save(tmp_path)
    with pytest.raises(StorageError, match="do not fit"):
        storage.load(tmp_path, backbone=tiny_backbone(classes=4), force=True)


def test_a_backbone_that_reads_other_layers_is_turned_to_the_right_ones(tmp_path: Path) -> None:
    explainer = made()
    explainer.save(tmp_path)
    loaded = storage.load(tmp_path, backbone=tiny_backbone().with_layers(["1"]))
    assert loaded.backbone.layers == ("0", "1", "2")
    assert torch.equal(loaded(IMAGES).maps, explainer(IMAGES).maps)


def test_an_own_module_must_be_passed(tmp_path: Path) -> None:
    explainer = made()
    explainer.save(tmp_path)
    with pytest.raises(StorageError, match=r"own classifier \(tiny\).*backbone=your_model"):
        storage.load(tmp_path)
    loaded = storage.load(tmp_path, backbone=tiny_backbone().module)
    assert loaded.backbone.preprocessing == explainer.backbone.preprocessing
    assert loaded.backbone.class_names == explainer.backbone.class_names
    assert torch.equal(loaded(IMAGES).maps, explainer(IMAGES).maps)


def test_a_library_s_classifier_is_rebuilt_from_its_weight_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    def source(**arguments: Any) -> Any:
        return load_backbone("timm/test_resnet", pretrained=False, num_classes=7, **arguments)

    first = tmp_path / "weights.safetensors"
    save_file(source().module.state_dict(), first)
    explainer = new_explainer(source(weights=first))
    explainer.save(tmp_path / "out")
    images = torch.zeros(1, 3, 160, 160)
    expected = explainer(images, "all").maps
    assert torch.equal(storage.load(tmp_path / "out")(images, "all").maps, expected)
    moved = first.rename(tmp_path / "moved.safetensors")
    with pytest.raises(StorageError, match=r"weights\.safetensors is not there.*weights="):
        storage.load(tmp_path / "out")
    loaded = storage.load(tmp_path / "out", weights=moved)
    assert torch.equal(loaded(images, "all").maps, expected)


@pytest.mark.parametrize("inside", ["weights.safetensors", "classifier/weights.safetensors"])
def test_a_weight_file_in_the_folder_moves_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    from safetensors.torch import save_file

    def source(**arguments: Any) -> Any:
        return load_backbone("timm/test_resnet", pretrained=False, num_classes=7, **arguments)

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "out" / inside
    file.parent.mkdir(parents=True)
    save_file(source().module.state_dict(), file)
    explainer = new_explainer(source(weights=file))
    explainer.save("out")  # a relative name of the same folder
    assert storage.read_description("out")["backbone"]["weights_file"] == inside
    images = torch.zeros(1, 3, 160, 160)
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere" / "moved")
    loaded = storage.load(moved)
    assert torch.equal(loaded(images, "all").maps, explainer(images, "all").maps)
    # Saved elsewhere, it still finds the file where it is.
    loaded.save(tmp_path / "copy")
    assert storage.load(tmp_path / "copy").backbone.weights_file == str(moved / inside)
    (moved / inside).unlink()
    with pytest.raises(StorageError, match=r"weights\.safetensors is not there.*weights="):
        storage.load(moved)


def test_a_torn_pair_is_noticed(tmp_path: Path) -> None:
    made().save(tmp_path / "a")
    made(seed=1).save(tmp_path / "b")
    (tmp_path / "a" / storage.WEIGHTS).write_bytes((tmp_path / "b" / storage.WEIGHTS).read_bytes())
    with pytest.raises(StorageError, match="does not belong"):
        storage.load(tmp_path / "a", backbone=tiny_backbone())


@pytest.mark.parametrize("broken", ["first", "second"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("disk full")], ids=repr)
def test_a_killed_save_leaves_the_old_explainer_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    old = made()
    old.save(tmp_path)
    write = storage.write_atomically
    fatal = {"first": storage.WEIGHTS, "second": storage.DESCRIPTION}[broken]

    def killed(path: Path, content: Any) -> Path:
        if path.name == fatal:
            raise error
        return write(path, content)

    for seed in (1, 2):  # killed twice in a row, too
        monkeypatch.setattr(storage, "write_atomically", killed)
        with pytest.raises(type(error)):
            made(seed=seed).save(tmp_path)
        monkeypatch.undo()
        loaded = storage.load(tmp_path, backbone=tiny_backbone())
        assert torch.equal(loaded(IMAGES).maps, old(IMAGES).maps)
    new = made(seed=3)
    new.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {storage.WEIGHTS, storage.DESCRIPTION}
    loaded = storage.load(tmp_path, backbone=tiny_backbone())
    assert torch.equal(loaded(IMAGES).maps, new(IMAGES).maps)


@pytest.mark.parametrize("name", [storage.WEIGHTS, storage.DESCRIPTION])
@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "folder", "noise"])
def test_damaged_files_give_one_clear_line(tmp_path: Path, name: str, fault: str) -> None:
    made().save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes(
            {"empty": b"", "truncated": content[:-20], "noise": b"\xff\x00" * 99}[fault]
        )
    with pytest.raises(StorageError) as caught:
        storage.load(tmp_path, backbone=tiny_backbone())
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "null", '{"format": 1}', '{"format": 1, "backbone": {}, "attention": {}}'],
)
def test_a_description_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    made().save(tmp_path)
    (tmp_path / storage.DESCRIPTION).write_text(text)
    with pytest.raises(StorageError, match=r"explainer\.json"):
        storage.load(tmp_path, backbone=tiny_backbone())


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    made().save(tmp_path)
    edit(tmp_path, format=2)
    with pytest.raises(StorageError, match=r"has format 2.*update ttame"):
        storage.load(tmp_path, backbone=tiny_backbone())
    (tmp_path / storage.DESCRIPTION).write_text('{"format": 3, "classifier": {}}')
    with pytest.raises(StorageError, match=r"has format 3.*update ttame"):
        storage.load(tmp_path, backbone=tiny_backbone())


@pytest.mark.parametrize(
    "change",
    [
        {"head": "other"},
        {"mask_form": "other"},
        {"grid": "other"},
        {"branch": "other"},
        {"detail": 2},
        {"detail": None},
        {"detail": "some"},
        {"head": "independent"},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_its_weights_is_refused(
    tmp_path: Path, change: dict[str, str]
) -> None:
    made().save(tmp_path)
    description = storage.read_description(tmp_path)
    edit(tmp_path, attention={**description["attention"], **change})
    with pytest.raises(StorageError):
        storage.load(tmp_path, backbone=tiny_backbone())


def test_no_explainer_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no explainer in .*ttame train"):
        storage.load(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        storage.load(tmp_path / "file")


def test_an_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        made().save(tmp_path / "taken")


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    made().save(tmp_path)
    backbone = tiny_backbone()
    state = torch.random.get_rng_state()
    storage.load(tmp_path, backbone=backbone)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_unknown_source_is_a_typed_error(tmp_path: Path) -> None:
    made().save(tmp_path)
    backbone = storage.read_description(tmp_path)["backbone"]
    recipe = {"source": "nobody/net", "pretrained": False, "image_size": None, "model_args": {}}
    edit(tmp_path, backbone={**backbone, "source": "nobody/net", "recipe": recipe})
    with pytest.raises((StorageError, BackboneError, ValueError)):
        storage.load(tmp_path)
