from __future__ import annotations

import json
import logging
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tiny_backbone import tiny_backbone, tiny_photos
from ttame import storage
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.module import ModuleBackbone
from ttame.errors import (
    BackboneError,
    InputError,
    StorageError,
    TrainingError,
    UnknownNameError,
)
from ttame.explainer import Explainer, new_explainer
from ttame.images.listing import data_digest, list_photos
from ttame.training import module as module_file
from ttame.training.guards import CollapseGuard
from ttame.training.keeping import BestExplainer
from ttame.training.module import ExplainerTraining

Train = Callable[..., Explainer]
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def losses(out: Path) -> list[float]:
    """Read the loss of every logged step."""
    lines = (out / "training" / "log" / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("loss")
    return [float(line.split(",")[place]) for line in lines[1:] if line.split(",")[place]]


def weights(explainer: Explainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in explainer.attention.state_dict().items()}


def last_weights(out: Path) -> dict[str, Tensor]:
    """The weights in the checkpoint of the last epoch."""
    state = torch.load(out / "training" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("attention.")}


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int, error: BaseException) -> None:
    """Let the training fail in the step after ``steps`` steps."""
    real = ExplainerTraining.training_step

    def step(self: ExplainerTraining, batch: Any, batch_idx: int) -> Any:
        if self.global_step >= steps:
            raise error
        return real(self, batch, batch_idx)

    monkeypatch.setattr(ExplainerTraining, "training_step", step)


def test_a_training_writes_a_folder_that_loads(
    tiny_train: Train, tmp_path: Path, photos: Path
) -> None:
    backbone = tiny_backbone(classes=3)
    explainer = tiny_train(backbone)
    out = tmp_path / "out"
    assert explainer.backbone is backbone
    assert not explainer.training
    assert explainer.device == torch.device("cpu")
    loaded = storage.load(out, backbone=tiny_backbone(classes=3))
    assert torch.equal(loaded(IMAGES, "all").maps, explainer(IMAGES, "all").maps)
    assert torch.isfinite(loaded(IMAGES, "all").maps).all()

    description = storage.read_description(out)
    training = description["training"]
    assert training["preset"] == "fast"
    assert training["config"]["epochs"] == 2
    assert training["config"]["batch_size"] == 6
    assert training["config"]["head"] == "shared"
    assert training["data_digest"] == data_digest(list_photos(photos))
    assert (training["photos"], training["validation_photos"]) == (18, 6)
    assert training["epoch"] in (0, 1, 2)
    assert training["steps"] == 3 * training["epoch"]
    assert set(training["versions"]) >= {"python", "torch", "lightning", "timm"}
    scores = description["scores"]["validation"]
    assert {"ad", "ad_100", "ad_50", "ad_15", "ic_100", "ic_50", "ic_15", "mask_area"} == set(
        scores
    )
    assert explainer.provenance == loaded.provenance
    assert explainer.provenance["scores"] == description["scores"]


@pytest.mark.parametrize("branch", ["identity", "no-norm", "no-skip", "sigmoid"])
def test_every_form_of_the_branch_can_be_trained(
    tiny_train: Train, tmp_path: Path, branch: str
) -> None:
    backbone = tiny_backbone(classes=3).with_layers(("2",))
    # With the identity this is L-CAM-Img: the head alone reads the last feature map.
    explainer = tiny_train(
        backbone, epochs=1, head="independent", mask_form="sigmoid", shares=[1.0], branch=branch
    )
    count = sum(parameter.numel() for parameter in explainer.attention.parameters())
    head = 3 * 16 + 3
    assert count == head if branch == "identity" else count > head
    loaded = storage.load(tmp_path / "out", backbone=tiny_backbone(classes=3))
    assert loaded.attention.branch == branch
    assert torch.equal(loaded(IMAGES, "all").maps, explainer(IMAGES, "all").maps)


def test_the_start_is_kept_where_no_epoch_is_better(
    tiny_train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(ExplainerTraining, "validation_step", lambda *_: None)
    monkeypatch.setattr(
        ExplainerTraining, "on_validation_epoch_end", lambda self: self.log("val/ad", next(scores))
    )
    backbone = tiny_backbone(classes=3)
    with caplog.at_level(logging.WARNING, "ttame"):
        kept = tiny_train(backbone, smoothing=0.5)
    assert "the explainer is the start, untrained" in caplog.text
    assert kept.provenance["training"]["epoch"] == kept.provenance["training"]["steps"] == 0
    start = new_explainer(
        backbone, "shared", mask_form="ranks", grid="last", smoothing=0.5, unit_cells=True
    )
    assert torch.equal(kept(IMAGES, "all").maps, start(IMAGES, "all").maps)
    assert not torch.equal(
        last_weights(tmp_path / "out")["attention.head.shared"], kept.attention.head.shared
    )
    trained = iter([30.0, 20.0, 25.0])
    monkeypatch.setattr(
        ExplainerTraining, "on_validation_epoch_end", lambda self: self.log("val/ad", next(trained))
    )
    caplog.clear()
    assert tiny_train(out=tmp_path / "b").provenance["training"]["epoch"] == 1
    assert "untrained" not in caplog.text


def test_a_training_cut_off_in_its_first_epoch_is_begun_anew(
    tiny_train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1, RuntimeError("power cut"))
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_train()
    assert storage.read_description(tmp_path / "out")["training"]["epoch"] == 0
    tiny_train(epochs=1)
    with pytest.raises(StorageError, match="holds an explainer already"):
        tiny_train(epochs=1)


def test_a_kept_start_tells_of_the_collapse_of_its_training(
    tiny_train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scores = iter([10.0, 30.0])
    monkeypatch.setattr(
        ExplainerTraining, "on_validation_epoch_end", lambda self: self.log("val/ad", next(scores))
    )
    monkeypatch.setattr(ExplainerTraining, "validation_step", lambda *_: None)
    monkeypatch.setattr(
        CollapseGuard,
        "on_validation_batch_end",
        lambda self, _, module, *__: self.findings.extend(["gone"] * bool(module.global_step)),
    )
    kept = tiny_train(epochs=1)
    assert kept.provenance["training"]["epoch"] == 0
    assert set(kept.provenance["training"]["collapse"]) == {"gone"}
    assert storage.read_description(tmp_path / "out")["training"] == kept.provenance["training"]


def test_what_a_classifier_keeps_from_the_scoring_of_the_start_serves_the_steps(
    tiny_train: Train,
) -> None:
    tables: dict[int, Tensor] = {}

    class Table(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            made = features.new_ones(features.shape[0], 1)
            return features * tables.setdefault(len(features), made)

    backbone = tiny_backbone(classes=3)
    backbone.classifier.insert(5, Table())  # type: ignore[operator]
    backbone = ModuleBackbone(backbone.classifier, backbone.preprocessing, layers=["0", "1", "2"])
    tables.clear()
    tiny_train(backbone, epochs=1)
    assert tables


def test_a_random_start_is_not_scored(tiny_train: Train) -> None:
    kept = tiny_train(epochs=1, lr=1e-12, head="independent")
    assert kept.provenance["training"]["epoch"] == 1


def test_a_gpu_trains_and_leaves_the_classifier_as_it_was(
    tiny_train: Train, tmp_path: Path, gpu: torch.device
) -> None:
    backbone = tiny_backbone(classes=3)
    explainer = tiny_train(backbone, device="cuda", precision="auto", workers=1)
    assert explainer.device.type == "cpu"
    assert fingerprint(backbone.module) == backbone.identity.fingerprint
    loaded = storage.load(tmp_path / "out", backbone=tiny_backbone(classes=3), device=gpu)
    found = loaded(IMAGES.to(gpu), "all")
    assert found.maps.device.type == "cuda"
    torch.testing.assert_close(found.maps.cpu(), explainer(IMAGES, "all").maps, atol=1e-3, rtol=0)


def test_a_training_lowers_the_loss(tiny_train: Train, tmp_path: Path) -> None:
    tiny_train(
        epochs=20,
        head="independent",
        mask_form="sigmoid",
        shares=[1.0],
        cross_entropy_bound=0,
        area_weight=4,
        variation_weight=0.01,
        unit_cells=False,
        smoothing=0,
        lr=0.02,
    )
    seen = losses(tmp_path / "out")
    assert len(seen) >= 6
    assert np.mean(seen[-2:]) < 0.9 * np.mean(seen[:2])


def test_the_classifier_is_left_as_it_was(tiny_train: Train) -> None:
    backbone = tiny_backbone(classes=3)
    module = backbone.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    states = [parameter.requires_grad for parameter in module.parameters()]
    tiny_train(backbone)
    assert fingerprint(module) == backbone.identity.fingerprint
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())
    assert [parameter.requires_grad for parameter in module.parameters()] == states
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(parameter.is_contiguous() for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


def test_a_bare_module_and_a_source_are_loaded(tiny_train: Train) -> None:
    explainer = tiny_train(tiny_backbone(classes=3).module, layers=["1", "2"], epochs=1)
    assert explainer.backbone.layers == ("1", "2")
    assert explainer.backbone.identity.source == "module"


def test_the_seed_decides_the_training(tiny_train: Train, tmp_path: Path) -> None:
    first, again, other = (
        weights(tiny_train(out=tmp_path / str(place), seed=seed, head="independent"))
        for place, seed in enumerate((3, 3, 4))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_and_environment_are_left_alone(
    tiny_train: Train, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    if fails:
        interrupt_after(monkeypatch, 1, RuntimeError("broken"))
    torch.rand(3), random.random(), np.random.rand(2)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    environment = dict(os.environ)
    interrupts = signal.getsignal(signal.SIGINT)
    backbone = tiny_backbone(classes=3)
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            tiny_train(backbone)
    else:
        tiny_train(backbone)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]
    assert dict(os.environ) == environment
    assert signal.getsignal(signal.SIGINT) is interrupts
    assert all(parameter.is_contiguous() for parameter in backbone.module.parameters())


@pytest.mark.parametrize("head", ["tied", "shared", "independent"])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    tiny_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    settings = {"epochs": 3, "head": head, "shares": [1.0, 0.5]}
    whole = tiny_train(out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, RuntimeError("power cut"))
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_train(out=tmp_path / "cut", **settings)
    # The first epoch's explainer is there already, whole.
    description = storage.read_description(tmp_path / "cut")
    assert description["training"]["epoch"] == 1
    storage.load(tmp_path / "cut", backbone=tiny_backbone(classes=3))

    resumed = tiny_train(out=tmp_path / "cut", resume=True, **settings)
    expected, came = last_weights(tmp_path / "whole"), last_weights(tmp_path / "cut")
    for name, value in expected.items():
        torch.testing.assert_close(came[name], value, atol=1e-6, rtol=1e-6, msg=name)
    assert torch.equal(resumed(IMAGES).maps, whole(IMAGES).maps)
    assert resumed.provenance["scores"] == whole.provenance["scores"]
    assert resumed.provenance["training"]["epoch"] == whole.provenance["training"]["epoch"]


def test_resuming_refuses_changed_settings(tiny_train: Train, tmp_path: Path) -> None:
    tiny_train(epochs=1)
    with pytest.raises(InputError, match=r"keeps its settings and its photos; lr was .*, now 0\.5"):
        tiny_train(epochs=1, resume=True, lr=0.5)
    with pytest.raises(InputError, match="seed was 0, now 1"):
        tiny_train(epochs=1, resume=True, seed=1)
    explainer = tiny_train(epochs=1, resume=True, workers=1)  # workers may change
    assert explainer.provenance["training"]["epoch"] == 1


def test_a_training_of_before_detail_had_none(tiny_train: Train, tmp_path: Path) -> None:
    made = tiny_train(epochs=1, detail=0.0)
    assert made.provenance["training"]["config"]["detail"] == 0
    (path,) = tmp_path.rglob("training/config.json")
    values = json.loads(path.read_text())
    del values["detail"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"detail was 0\.0, now 0\.06"):
        tiny_train(epochs=1, resume=True, detail=0.06)
    assert tiny_train(epochs=1, resume=True, detail=0.0).detail == 0


def test_resuming_refuses_other_photos(tiny_train: Train, tmp_path: Path, photos: Path) -> None:
    tiny_train(epochs=1)
    other = tiny_photos(tmp_path / "other", 12)
    with pytest.raises(InputError, match="photos"):
        tiny_train(data=other, epochs=1, resume=True)


def test_nothing_to_resume(tiny_train: Train) -> None:
    with pytest.raises(StorageError, match="nothing to resume"):
        tiny_train(resume=True)


def test_ctrl_c_is_a_keyboard_interrupt_and_can_be_resumed(
    tiny_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            tiny_train()
    assert signal.getsignal(signal.SIGINT) is interrupts
    assert storage.read_description(tmp_path / "out")["training"]["epoch"] == 1
    tiny_train(resume=True)
    assert torch.load(tmp_path / "out" / "training" / "last.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_loss_that_is_not_finite_stops_with_something_kept(
    tiny_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    real, count = module_file.objective, 0

    def broken(*arguments: Any) -> dict[str, Tensor]:
        nonlocal count
        count += 1
        terms = real(*arguments)
        return {**terms, "loss": terms["loss"] * torch.nan} if count > steps else terms

    monkeypatch.setattr(module_file, "objective", broken)
    backbone = tiny_backbone(classes=3)
    with pytest.raises(TrainingError, match=rf"not finite at step {steps}, .*explainer before it"):
        tiny_train(backbone)
    assert count == steps + 1
    loaded = storage.load(tmp_path / "out", backbone=tiny_backbone(classes=3))
    assert all(torch.isfinite(value).all() for value in weights(loaded).values())
    assert torch.isfinite(loaded(IMAGES).maps).all()
    assert fingerprint(backbone.module) == backbone.identity.fingerprint
    assert all(parameter.is_contiguous() for parameter in backbone.module.parameters())


def test_an_explainer_is_not_overwritten_unless_asked(tiny_train: Train, tmp_path: Path) -> None:
    first = weights(tiny_train(epochs=1))
    description = (tmp_path / "out" / storage.DESCRIPTION).read_bytes()
    with pytest.raises(StorageError, match="holds an explainer already"):
        tiny_train(epochs=1, seed=1)
    assert (tmp_path / "out" / storage.DESCRIPTION).read_bytes() == description
    second = weights(tiny_train(epochs=1, seed=1, overwrite=True, start="random"))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_an_overwritten_training_cannot_be_resumed_by_mistake(
    tiny_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_train(epochs=1)
    interrupt_after(monkeypatch, 1, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        tiny_train(epochs=1, overwrite=True)
    with pytest.raises(StorageError, match="nothing to resume"):
        tiny_train(epochs=1, resume=True)


def test_too_few_photos(tiny_train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="found 5 photos"):
        tiny_train(data=tiny_photos(tmp_path / "few", 5))


def test_broken_photos_do_not_stop_it(tiny_train: Train, tmp_path: Path) -> None:
    folder = tiny_photos(tmp_path / "photos", 24)
    for index in (0, 5, 11, 17, 23):
        path = folder / f"photo-{index:02d}.png"
        path.write_bytes(path.read_bytes()[: 40 * (index > 0)])
    explainer = tiny_train(data=folder)
    assert torch.isfinite(explainer(IMAGES).maps).all()


def test_no_readable_validation_photo_is_an_error(tiny_train: Train, tmp_path: Path) -> None:
    from ttame.images.listing import split

    folder = tiny_photos(tmp_path / "photos", 24)
    for photo in split(list_photos(folder), 0.25, 0)[1]:
        photo.path.write_bytes(b"no image")
    with pytest.raises(TrainingError, match="no validation photo could be read"):
        tiny_train(data=folder, epochs=1)


def test_no_validation_does_not_return_an_older_explainer(
    tiny_train: Train, tmp_path: Path
) -> None:
    from ttame.images.listing import split

    tiny_train(epochs=1)
    folder = tiny_photos(tmp_path / "photos", 24)
    for photo in split(list_photos(folder), 0.25, 0)[1]:
        photo.path.write_bytes(b"no image")
    with pytest.raises(TrainingError, match="no validation photo could be read"):
        tiny_train(data=folder, epochs=1, overwrite=True)


def test_a_classifier_that_changes_is_noticed(
    tiny_train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone(classes=3)
    real = BestExplainer.on_validation_end

    def meddling(self: BestExplainer, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with torch.no_grad():
            next(backbone.module.parameters()).add_(1e-3)
        real(self, trainer, pl_module)

    monkeypatch.setattr(BestExplainer, "on_validation_end", meddling)
    with pytest.raises(TrainingError, match="changed during the training"):
        tiny_train(backbone, epochs=1)


class NoLinear(nn.Module):
    """A classifier without a final linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 3, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.two(torch.relu(self.one(images)))
        return maps.square().mean(dim=(2, 3))


def test_without_a_linear_layer_the_independent_head_is_trained(
    tiny_train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    from ttame.backbone.module import ModuleBackbone
    from ttame.images.preprocessing import Preprocessing

    backbone = ModuleBackbone(NoLinear(), Preprocessing(crop=(32, 32), resize=None))
    if backbone.class_weights is not None:
        pytest.skip("this classifier has a linear layer after all")
    with caplog.at_level(logging.WARNING, "ttame"):
        explainer = tiny_train(backbone, epochs=1)
    assert explainer.attention.head.name == "independent"
    assert "training an independent head instead" in caplog.text
    with pytest.raises(BackboneError, match="head='independent'"):
        tiny_train(backbone, epochs=1, head="tied", overwrite=True)


def test_collapse_is_warned_of(
    tiny_train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ttame.attention import AttentionMechanism

    real = AttentionMechanism.forward
    monkeypatch.setattr(
        AttentionMechanism, "forward", lambda *inputs, **names: real(*inputs, **names) * 0 + 20
    )
    with caplog.at_level(logging.WARNING, "ttame"):
        explainer = tiny_train(epochs=1, mask_form="sigmoid")
    assert "the masks keep everything" in caplog.text
    (area, *others) = explainer.provenance["training"]["collapse"]
    assert "the masks keep everything" in area
    assert all("no longer depend" in other for other in others)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"preset": "quick"}, UnknownNameError),
        ({"epoch": 3}, UnknownNameError),
        ({"lr": -1}, InputError),
        ({"device": "cuda:99"}, InputError),
        ({"precision": "half"}, InputError),
        ({"layers": ["9"]}, UnknownNameError),
    ],
    ids=str,
)
def test_bad_settings_leave_nothing_behind(
    tiny_train: Train, tmp_path: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        tiny_train(**settings)
    out = tmp_path / "out"
    assert not out.exists() or not any(out.iterdir())


def test_an_unwritable_place_is_refused_at_once(tiny_train: Train, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match="choose another folder"):
        tiny_train(out=tmp_path / "taken")


def test_the_settings_are_recorded_beside_the_log(tiny_train: Train, tmp_path: Path) -> None:
    tiny_train(preset="paper", epochs=1)
    values = json.loads((tmp_path / "out" / "training" / "config.json").read_text())
    training = storage.read_description(tmp_path / "out")["training"]
    assert values == {**training["config"], "data_digest": training["data_digest"]}
    assert values["optimizer"] == "sgd"
    assert values["block"] is True


def test_bfloat16_trains_too(tiny_train: Train) -> None:
    explainer = tiny_train(epochs=1, precision="bf16-mixed")
    assert all(parameter.dtype == torch.float32 for parameter in explainer.attention.parameters())
    assert torch.isfinite(explainer(IMAGES).maps).all()


def test_the_log_goes_on_after_a_resumption(
    tiny_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, RuntimeError("power cut"))
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_train(epochs=2)
    tiny_train(epochs=2, resume=True)
    logged = "".join(
        path.read_text() for path in sorted((tmp_path / "out" / "training").rglob("metrics*.csv"))
    )
    header = logged.splitlines()[0].split(",")
    epochs = {line.split(",")[header.index("epoch")] for line in logged.splitlines()[1:]}
    assert {"0", "1"} <= epochs


def test_how_masks_are_shown_does_not_change_what_a_teacher_teaches(
    tiny_train: Train, tmp_path: Path
) -> None:
    """An explainer may be smoothed, or not, after its training: it is the same one."""
    shown: dict[str, dict[str, Any]] = {
        "plain": {"smoothing": 0.0, "detail": 0.0},
        "smoothed": {"smoothing": 0.7, "detail": 0.1},
        "start": {"smoothing": 0.0, "detail": 0.0, "lr": 1e-12},
    }
    found = {}
    for name, settings in shown.items():
        tiny_train(out=tmp_path / name, teacher="gradcam", **settings)
        found[name] = last_weights(tmp_path / name)
    for key, values in found["plain"].items():
        assert torch.equal(values, found["smoothed"][key]), key
    learnt = [key for key in found["plain"] if key.endswith("weight")]
    assert any(not torch.allclose(found["plain"][key], found["start"][key]) for key in learnt)
