from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from references.slow_masking import slow_area, slow_variation
from references.slow_scores import slow_scores
from tiny_backbone import tiny_backbone
from ttame import masking
from ttame.detail import edge_strength, with_detail
from ttame.explainer import Explainer, new_explainer
from ttame.images.dataset import Batch
from ttame.methods.registry import get_method
from ttame.training import module as module_file
from ttame.training.config import TrainingConfig
from ttame.training.module import ExplainerTraining
from ttame.training.teacher import with_other_classes

Config = Callable[..., TrainingConfig]


def made(config: TrainingConfig) -> tuple[Explainer, ExplainerTraining, dict[str, Tensor]]:
    """An explainer, its training, and the place where the training's logs end up."""
    start = "random" if config.head == "independent" else config.start
    explainer = new_explainer(tiny_backbone(), config.head, start=start)
    module = ExplainerTraining(explainer, config)
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        precision="32-true",
        should_stop=False,
        estimated_stepping_batches=10,
        global_step=3,
        _results=None,
    )
    return explainer, module, logged


def a_batch(count: int = 4) -> Batch:
    return Batch(torch.rand(count, 3, 32, 32), torch.arange(count))


def all_maps(explainer: Explainer, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and maps of all classes, in the attention mechanism's present mode."""
    backbone = explainer.backbone
    with torch.no_grad():
        output = backbone(backbone.preprocessing.normalise(pixels))
        return output.logits, explainer.attention(output.features)


def whole_cells(maps: Tensor) -> Tensor:
    """Bring maps (B, n, h, w) to 32 pixels a side, cell by cell."""
    repeat = 32 // maps.shape[-1]
    return maps.repeat_interleave(repeat, 2).repeat_interleave(repeat, 3)


def test_the_classifier_is_no_part_of_the_training(config: Config) -> None:
    explainer, module, _ = made(config())
    names = {name for name, _ in module.named_parameters()}
    assert names == {f"attention.{name}" for name, _ in explainer.attention.named_parameters()}
    assert set(module.state_dict()) == {f"attention.{k}" for k in explainer.attention.state_dict()}


@pytest.mark.parametrize("fill", ["black", "mean"])
@pytest.mark.parametrize(
    ("form", "smoothing", "upsampling", "detail"),
    [
        ("sigmoid", 0.0, "bilinear", 0.0),
        ("minmax", 0.0, "bilinear", 0.0),
        ("ranks", 0.0, "nearest", 0.0),
        ("ranks", 0.7, "bilinear", 0.2),
    ],
)
def test_a_step_by_hand(
    config: Config, form: str, smoothing: float, upsampling: str, detail: float, fill: str
) -> None:
    settings = config(
        mask_form=form,
        fill=fill,
        shares=[1.0],
        area_weight=2.0,
        cross_entropy_bound=0,
        smoothing=smoothing,
        upsampling=upsampling,
        detail=detail,
    )
    explainer, module, logged = made(settings)
    batch = a_batch()
    module.train()
    loss = module.training_step(batch, 0)
    assert loss is not None

    logits, maps = all_maps(explainer, batch.pixels)
    labels = logits.argmax(1)
    shown = masking.smooth(maps[torch.arange(4), labels][:, None], smoothing)
    masks = masking.to_masks(shown, form)
    full = F.interpolate(masks, (32, 32), mode="bilinear", align_corners=False)
    if upsampling == "nearest":
        full = whole_cells(masks)
    full = (1 - detail) * full + detail * masking.normal_ranks(edge_strength(batch.pixels))
    normalise = explainer.backbone.preprocessing.normalise
    masked = {
        "black": normalise(batch.pixels * full),
        "mean": normalise(batch.pixels) * full,
    }[fill]
    entropy = F.cross_entropy(explainer.backbone.logits(masked), labels)
    expected = (
        settings.cross_entropy_weight * float(entropy)
        + settings.area_weight * slow_area(masks)
        + settings.variation_weight * slow_variation(masks)
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(logged["mask_area"]) == pytest.approx(float(masks.mean()), rel=1e-5)
    assert {"cross_entropy", "area", "variation", "loss", "mask_area"} <= set(logged)


def test_a_step_with_a_teacher_by_hand(config: Config) -> None:
    settings = config(teacher="gradcam", teacher_classes=2, smoothing=0.7, grid="last")
    explainer, module, logged = made(settings)
    batch = a_batch()
    module.train()
    torch.manual_seed(3)
    loss = module.training_step(batch, 0)
    assert loss is not None
    assert loss.requires_grad

    logits, maps = all_maps(explainer, batch.pixels)
    labels = logits.argmax(1)
    torch.manual_seed(3)
    classes = with_other_classes(labels, logits.shape[1], 2)
    images = explainer.backbone.preprocessing.normalise(batch.pixels)
    taught = get_method("gradcam")(explainer.backbone, images, classes)
    taught = masking.resize(taught, (maps.shape[-2], maps.shape[-1]), antialias=True)
    values: tuple[list[float], list[float]] = ([], [])
    for image in range(4):
        for place in range(3):
            own = maps[image, classes[image, place]][None, None]
            mask = masking.to_masks(own, "ranks").flatten()  # smoothed when it is shown only
            ranks = rankdata(taught[image, place].flatten().numpy())
            values[place > 0].append(1 - np.corrcoef(mask.numpy(), ranks)[0, 1])
    # Values less than 0.001 apart share their rank in part, rankdata's only where they are equal.
    expected = (np.mean(values[0]) + np.mean(values[1])) / 2
    assert float(loss.detach()) == pytest.approx(float(expected), abs=0.02)
    assert set(logged) == {"loss", "mask_area"}


def test_block_regularisation_by_hand(config: Config) -> None:
    settings = config("paper", batch_size=4)
    explainer, module, logged = made(settings)
    batch = a_batch()
    module.train()
    loss = module.training_step(batch, 0)
    assert loss is not None

    logits, maps = all_maps(explainer, batch.pixels)
    labels = logits.argmax(1)
    masks = torch.stack([maps[i, labels].sigmoid() for i in range(4)])  # image i, label j
    assert masks.shape == (4, 4, 16, 16)
    own = torch.stack([masks[i, i] for i in range(4)])[:, None]
    full = F.interpolate(own, (32, 32), mode="bilinear", align_corners=False)
    masked = explainer.backbone.preprocessing.normalise(batch.pixels * full)
    entropy = F.cross_entropy(explainer.backbone.logits(masked), labels)
    expected = 1.5 * float(entropy) + 2 * slow_area(masks) + 0.01 * slow_variation(masks)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(logged["area"].detach()) == pytest.approx(slow_area(masks), rel=1e-4)
    assert float(logged["variation"].detach()) == pytest.approx(slow_variation(masks), rel=1e-4)
    assert float(logged["mask_area"]) == pytest.approx(float(own.mean()), rel=1e-4)


def test_gradients_reach_the_mechanism_and_not_the_classifier(config: Config) -> None:
    explainer, module, _ = made(config(head="independent", start="random"))
    loss = module.train().training_step(a_batch(), 0)
    assert loss is not None
    loss.backward()
    assert all(parameter.grad is not None for parameter in explainer.attention.parameters())
    for parameter in explainer.backbone.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not explainer.backbone.module.training


def test_a_step_is_three_passes_of_the_classifier(config: Config) -> None:
    explainer, module, _ = made(config())
    calls: list[bool] = []
    explainer.backbone.module.register_forward_pre_hook(
        lambda _module, inputs: calls.append(inputs[0].requires_grad)
    )
    module.train().training_step(a_batch(), 0)
    assert calls == [False, True]  # one without gradient, one forward (and one backward)


@pytest.mark.parametrize("count", [0, 1])
def test_batches_too_small_for_batchnorm_are_left_out(config: Config, count: int) -> None:
    _, module, _ = made(config())
    assert module.train().training_step(a_batch(count), 0) is None
    assert module.nan_at_step is None


def test_shares_are_drawn_per_image(config: Config) -> None:
    _, module, _ = made(config(shares="1,0.25", detail=0))
    images = torch.randn(64, 3, 32, 32)
    masks = torch.rand(64, 1, 32, 32)
    kept = (module._masked(images, masks) - module._blend(images, masks * 0, "black")).abs()
    sizes = kept.mean(dim=(1, 2, 3))
    whole = (
        module._blend(images, masks, "black") - module._blend(images, masks * 0, "black")
    ).abs()
    untouched = torch.isclose(sizes, whole.mean(dim=(1, 2, 3)), rtol=1e-3)
    assert 16 < int(untouched.sum()) < 48
    assert (sizes[~untouched] < 0.8 * whole.mean(dim=(1, 2, 3))[~untouched]).all()


def test_detail_is_mixed_in_before_a_share_is_kept(config: Config) -> None:
    _, module, _ = made(config(shares="0.25", detail=0.2))
    pixels = a_batch().pixels
    images = module._frozen[0].preprocessing.normalise(pixels)
    masks = torch.rand(len(pixels), 1, 32, 32)
    mixed = 0.8 * masks + 0.2 * masking.normal_ranks(edge_strength(pixels))
    full = masking.keep_share(mixed, torch.full((len(pixels),), 0.25), module_file.SOFTNESS)
    found = module._masked(images, masks)
    torch.testing.assert_close(found, module._blend(images, full, "black"), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("upsampling", "detail"), [("bilinear", 0), ("nearest", 0), ("nearest", 0.2)]
)
def test_validation_scores_equal_the_slow_ones(
    config: Config, upsampling: str, detail: float
) -> None:
    settings = config(mask_form="minmax", smoothing=0.0, upsampling=upsampling, detail=detail)
    explainer, module, logged = made(settings)
    batch = a_batch(5)
    module.eval()
    with torch.no_grad():
        module.validation_step(batch, 0)
    logits, maps = all_maps(explainer, batch.pixels)
    if upsampling == "nearest":
        maps = whole_cells(maps)
    if detail:
        maps = with_detail(masking.minmax(maps), batch.pixels, detail)
    drops = []
    for share in (1.0, 0.5, 0.15):
        rows = [
            slow_scores(explainer.backbone.module, pixels, map_[label], share, 0.5, 0.25)
            for pixels, map_, label in zip(batch.pixels, maps, logits.argmax(1), strict=True)
        ]
        drop, increase, _, area = torch.tensor(rows).mean(0).tolist()
        name = round(100 * share)
        assert float(logged[f"val/ad_{name}"]) == pytest.approx(drop, abs=1e-2)
        assert float(logged[f"val/ic_{name}"]) == pytest.approx(increase, abs=1e-4)
        assert float(logged["val/mask_area"]) == pytest.approx(area, abs=1e-4)
        drops.append(drop)
    assert float(logged["val/ad"]) == pytest.approx(sum(drops) / 3, abs=1e-2)


def test_the_paper_s_training_is_validated_on_maps_before_the_sigmoid(config: Config) -> None:
    _, module, logged = made(config("paper"))
    batch = a_batch(5)
    module.eval().validation_step(batch, 0)
    paper = dict(logged)
    module.config = config("paper", mask_form="minmax")
    module.validation_step(batch, 0)
    assert {name: value.item() for name, value in paper.items()} == pytest.approx(
        {name: value.item() for name, value in logged.items()}
    )


def test_validation_of_no_readable_photo_logs_nothing(config: Config) -> None:
    _, module, logged = made(config())
    module.validation_step(a_batch(0), 0)
    assert not logged


def test_weights_and_gains_decay_and_biases_do_not(config: Config) -> None:
    _, module, _ = made(config("paper"))
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"]
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 5e-4
    assert free["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in module.attention.named_parameters()}
    in_decayed = {names[id(parameter)] for parameter in decayed["params"]}
    in_branches = {f"branches.{i}.{part}.weight" for i in range(3) for part in ("conv", "norm")}
    assert in_decayed == in_branches | {"head.weight"}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_keeps_the_momentum_that_was_asked_for(config: Config, momentum: float) -> None:
    _, module, _ = made(config("paper", momentum=momentum))
    made_by = module.configure_optimizers()
    optimizer, schedule = made_by["optimizer"], made_by["lr_scheduler"]["scheduler"]
    seen = set()
    for _ in range(10):
        seen |= {group["momentum"] for group in optimizer.param_groups}
        optimizer.step()
        schedule.step()
    assert seen == {momentum}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_cycle_rises_to_the_rate_and_falls(config: Config, optimizer: str) -> None:
    _, module, _ = made(config(optimizer=optimizer, lr=0.02))
    made_by = module.configure_optimizers()
    assert made_by["lr_scheduler"]["interval"] == "step"
    schedule = made_by["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        made_by["optimizer"].step()
        schedule.step()
    assert max(rates) == pytest.approx(0.02, rel=0.1)
    assert rates[0] == pytest.approx(0.02 / 25)
    assert rates[-1] < 0.1 * max(rates)


def test_a_loss_that_is_not_finite_stops_without_a_step(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, module, _ = made(config())
    real = module_file.objective

    def broken(*arguments: Any) -> dict[str, Tensor]:
        terms = real(*arguments)
        return {**terms, "loss": terms["loss"] * torch.nan}

    monkeypatch.setattr(module_file, "objective", broken)
    assert module.train().training_step(a_batch(), 0) is None
    assert module.trainer.should_stop
    assert module.nan_at_step is not None


def test_gradients_that_are_not_finite_are_dropped(config: Config) -> None:
    _, module, _ = made(config())
    for parameter in module.attention.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.on_before_optimizer_step(torch.optim.SGD(module.parameters(), lr=1))
    assert not module.trainer.should_stop
    next(module.attention.parameters()).grad = torch.full((8, 8, 1, 1), torch.inf)
    module.on_before_optimizer_step(torch.optim.SGD(module.parameters(), lr=1))
    assert module.trainer.should_stop
    assert all(parameter.grad is None for parameter in module.attention.parameters())


def test_a_step_that_is_not_finite_leaves_the_statistics_finite(config: Config) -> None:
    # A photo's features beyond all bounds: BatchNorm must not take them up for good.
    explainer, module, _ = made(config(head="independent", start="random"))
    frozen = explainer.backbone
    before = {name: value.clone() for name, value in module.attention.state_dict().items()}
    layer = frozen.module.get_submodule(frozen.layers[-1])
    handle = layer.register_forward_hook(lambda _m, _i, output: output * torch.inf)
    assert module.train().training_step(a_batch(), 0) is None
    handle.remove()
    assert module.nan_at_step is not None
    after = module.attention.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
