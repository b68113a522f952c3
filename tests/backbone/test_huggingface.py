"""Classifiers of transformers: every family, from a folder, with tiny random weights."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import ttame
from tiny_huggingface import CLASSES, FAMILIES, save_classifier, save_description
from ttame import storage
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.registry import load_backbone
from ttame.errors import BackboneError, InputError, StorageError
from ttame.images.dataset import Batch
from ttame.images.preprocessing import Preprocessing
from ttame.training.config import load_preset
from ttame.training.module import ExplainerTraining

pytest.importorskip("transformers")
VIT = FAMILIES["vit"]

# Whose class token reads the patches by attention, along skip connections.
WITH_CONTRIBUTIONS = {
    "vit", "vit_msn", "deit", "dinov2", "dinov2 with registers",
}  # fmt: skip


@pytest.fixture
def vit(tmp_path) -> Path:
    """A folder with a tiny ViT, as transformers writes it."""
    return save_classifier(VIT, tmp_path / "vit")


def step_of(explainer: ttame.Explainer, images: Tensor) -> Tensor:
    """The loss of one training step, as lightning would compute it."""
    module = ExplainerTraining(explainer, load_preset("fast", {"shares": [1.0]}))
    module.log_dict = lambda values, **_: None  # type: ignore[method-assign]
    module.trainer = SimpleNamespace(precision="32-true", should_stop=False)  # type: ignore[assignment]
    module.setup("fit")
    loss = module.train().training_step(Batch(images, torch.arange(len(images))), 0)
    assert loss is not None
    return loss


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_explained_by_name_alone(family, tmp_path):
    tiny = FAMILIES[family]
    backbone = load_backbone(f"hf/{save_classifier(tiny, tmp_path / 'model')}")
    contributed = (backbone.feature_shapes[-1],) if family in WITH_CONTRIBUTIONS else ()
    assert backbone.feature_shapes == (*tiny.maps, *contributed)
    assert (backbone.layers[-1] == "contributions") == bool(contributed)
    assert backbone.num_classes == CLASSES
    images = torch.randn(2, 3, tiny.size, tiny.size, requires_grad=True)
    logits = backbone.logits(images)
    assert torch.equal(logits, backbone.module(images)[0])
    logits[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0

    explainer = ttame.new_explainer(backbone, head="tied")
    loss = step_of(explainer, torch.rand(2, 3, tiny.size, tiny.size))
    loss.backward()
    gradients = [parameter.grad for parameter in explainer.attention.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients if g is not None)
    assert fingerprint(backbone.module) == backbone.identity.fingerprint

    explainer = explainer.eval()
    explainer.save(tmp_path / "explainer")
    again = ttame.load(tmp_path / "explainer")
    with torch.no_grad():
        first, second = (e(images.detach(), [0, 1]).maps for e in (explainer, again))
    # The training left the first classifier's weights channels last, which rounds otherwise.
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(first).all()
    assert first.shape[2:] == backbone.feature_shapes[0][1:]


def patches(tokens: Tensor, prefix: int) -> Tensor:
    """(B, N, C) without the first tokens, as a square (B, C, h, w)."""
    side = round((tokens.shape[1] - prefix) ** 0.5)
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.parametrize(
    ("family", "stages", "as_map"),
    [
        ("vit", [4], lambda tokens: patches(tokens, 1)),
        ("deit distilled", [4], lambda tokens: patches(tokens, 2)),
        ("dinov2 with registers", [4], lambda tokens: patches(tokens, 4)),
        ("convnext", [2, 3], lambda plane: plane),
        ("segformer", [1, 2], lambda plane: plane),
    ],
)
def test_features_equal_the_hidden_states(family, stages, as_map, tmp_path):
    tiny = FAMILIES[family]
    backbone = load_backbone(f"hf/{save_classifier(tiny, tmp_path)}")
    images = torch.randn(2, 3, tiny.size, tiny.size)
    with torch.no_grad():
        features = backbone(images).features
        states = backbone.module(images, output_hidden_states=True).hidden_states
    for feature, stage in zip(features, stages, strict=False):
        torch.testing.assert_close(feature, as_map(states[stage]))


def test_the_maps_of_swin_end_their_resolutions(tmp_path):
    tiny = FAMILIES["swin"]
    backbone = load_backbone(f"hf/{save_classifier(tiny, tmp_path)}")
    images = torch.randn(1, 3, tiny.size, tiny.size)
    stages = backbone.module.swin.encoder.layers
    # What the second stage gives before it merges patches.
    seen: list[Tensor] = []
    handle = stages[1].downsample.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    with torch.no_grad():
        features = backbone(images).features
    handle.remove()
    torch.testing.assert_close(features[1], patches(seen[0], 0))


def photo(size: tuple[int, int] = (150, 100)) -> Image.Image:
    """A seeded photo of coarse coloured cells."""
    cells = torch.randint(0, 256, (6, 9, 3), generator=torch.Generator().manual_seed(1))
    return Image.fromarray(cells.byte().numpy()).resize(size, Image.Resampling.BICUBIC)


SQUARE = {"size": {"height": 32, "width": 32}}
SHORT = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
# processor, its settings, what ours must have
PROCESSORS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("ViTImageProcessor", SQUARE, {"resize": None, "interpolation": "bilinear"}),
    ("ViTImageProcessor", {**SQUARE, "do_normalize": False}, {"mean": (0, 0, 0), "std": (1, 1, 1)}),
    ("ViTImageProcessor", {**SQUARE, "do_rescale": False}, {"mean": (0.5 / 255,) * 3}),
    ("DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "crop_size": SQUARE["size"]},
     {"resize": (40, 40), "crop": (32, 32)}),
    ("BeitImageProcessor", SQUARE, {"resize": None, "mean": (0.5,) * 3}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}, {"resize": 40}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, {"resize": None}),
    ("BitImageProcessor", {**SHORT, "resample": 3}, {"resize": 40, "interpolation": "bicubic"}),
    ("LevitImageProcessor", {**SHORT, "size": {"shortest_edge": 28}}, {"resize": 32}),
    ("EfficientNetImageProcessor",
     {**SQUARE, "rescale_factor": 1 / 127.5, "rescale_offset": True, "image_std": [0.4, 0.5, 0.6]},
     {"resize": None}),
    ("EfficientNetImageProcessor", {**SQUARE, "resample": 0}, {"interpolation": "nearest"}),
    ("MobileViTImageProcessor", SHORT, {"reverse": True, "std": (1, 1, 1)}),
    ("MobileViTImageProcessor", {**SHORT, "size": {"shortest_edge": 24}}, {"resize": 24}),
    ("MobileNetV2ImageProcessor", SHORT, {"resize": 40}),
    ("PoolFormerImageProcessor", {**SHORT, "size": {"shortest_edge": 32}, "crop_pct": 0.8}, {}),
    ("PvtImageProcessor", SQUARE, {"resize": None}),
    ("SegformerImageProcessor", SQUARE, {"resize": None}),
    ("CLIPImageProcessor", SHORT, {"resize": 40}),
    ("SiglipImageProcessor", SQUARE, {"resize": None}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "expected"), PROCESSORS)
def test_the_preprocessing_does_what_the_processor_does(kind, values, expected, tmp_path):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, kind)(**values)
    processor.save_pretrained(tmp_path)
    crop = values["size"].get("shortest_edge", 0) if "384" in str(values) else 32
    save_description(replace(VIT, values={**VIT.values, "image_size": crop}), tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}", pretrained=False)
    ours = backbone.preprocessing
    for name, value in expected.items():
        exact = name not in ("mean", "std")
        assert getattr(ours, name) == (value if exact else pytest.approx(value, rel=1e-5))
    # Where the margin of the crop is odd, it may start one pixel further: not at these sizes.
    for size in ((150, 100), (100, 130)):
        theirs = processor(photo(size), return_tensors="pt")["pixel_values"][0]
        came = ours.normalise(ours.pixels(photo(size)))
        # One level of 255, and a little where a crop that is not whole rounds otherwise.
        difference = (came - theirs).abs() * torch.tensor(ours.std).view(3, 1, 1)
        assert difference.mean() < 0.1 / 255
        assert difference.max() < 3 / 255


@pytest.mark.parametrize("kind", ["DonutImageProcessor", "Siglip2ImageProcessor"])
def test_a_processor_of_another_kind_is_refused(kind, vit):
    transformers = pytest.importorskip("transformers")
    getattr(transformers, kind)().save_pretrained(vit)
    with pytest.raises(BackboneError, match=r"not just resize, crop and normalise.*preprocessing="):
        load_backbone(f"hf/{vit}")
    given = Preprocessing(crop=(32, 32))
    assert load_backbone(f"hf/{vit}", preprocessing=given).preprocessing == given


def test_a_missing_processor_is_named(vit):
    (vit / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError, match=r"no image processor.*save_pretrained"):
        load_backbone(f"hf/{vit}")


def test_a_folder_beside_the_user_is_found_from_everywhere(vit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = load_backbone("hf/./vit")
    assert (
        backbone.identity.source
        == f"hf/{vit.resolve()}"
        == load_backbone("hf/vit").recipe["source"]
    )
    ttame.new_explainer(backbone).save("explainer")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert storage.load("../explainer").backbone.identity == backbone.identity


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "a/b/c", "", "~/none"])
def test_a_missing_folder_is_refused_without_the_hub(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(BackboneError, match=r"expected a folder with config\.json"):
        load_backbone(f"hf/{name}")


def test_the_hub_gives_safetensors_only(vit, monkeypatch):
    asked: list[Any] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(vit)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    backbone = load_backbone("hf/org/model")
    load_backbone("hf/org/model", pretrained=False)
    assert backbone.identity.source == backbone.recipe["source"] == "hf/org/model"
    assert [name for name, _ in asked] == ["org/model"] * 2
    (_, whole), (_, plain) = asked
    assert {Path(name).suffix for name in whole} == {".json", ".safetensors"}
    assert {Path(name).suffix for name in plain} == {".json"}


def test_no_network_is_one_line(monkeypatch):
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("Name or service not known\nmore\n")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(BackboneError, match=r"hf/org/model: Name or .*hf/\./FOLDER") as caught:
        load_backbone("hf/org/model")
    assert "\n" not in str(caught.value)


def test_without_transformers_the_extra_is_named(vit, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackboneError, match=r"pip install 'ttame\[hf\]'"):
        load_backbone(f"hf/{vit}")


def test_weights_of_other_files(vit, tmp_path):
    state = {name: value + 1 for name, value in load_file(vit / "model.safetensors").items()}
    save_file(state, tmp_path / "other.safetensors")
    torch.save(state, tmp_path / "other.bin")
    first, second = (
        load_backbone(f"hf/{vit}", weights=tmp_path / name, pretrained=False)
        for name in ("other.safetensors", "other.bin")
    )
    own = load_backbone(f"hf/{vit}")
    assert first.identity == second.identity
    assert first.identity.fingerprint != own.identity.fingerprint
    for name, value in own.module.state_dict().items():
        torch.testing.assert_close(first.module.state_dict()[name], value + 1)


class Trap:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_and_code_are_never_run(vit, tmp_path):
    mark = tmp_path / "ran"
    torch.save({"trap": Trap(mark)}, vit / "pytorch_model.bin")
    load_backbone(f"hf/{vit}")
    (vit / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"expected model\.safetensors.*weights=FILE"):
        load_backbone(f"hf/{vit}")
    with pytest.raises(StorageError, match="could run code"):
        load_backbone(f"hf/{vit}", weights=vit / "pytorch_model.bin")

    (vit / "own.py").write_text(f"open({str(mark)!r}, 'w')")
    config = json.loads((vit / "config.json").read_text())
    names = ("AutoConfig", "AutoModelForImageClassification")
    config.update(model_type="own", auto_map=dict.fromkeys(names, "own.Own"))
    (vit / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="cannot read the configuration"):
        load_backbone(f"hf/{vit}", pretrained=False)
    assert not mark.exists()


def test_weights_without_a_classifier_are_refused(vit):
    state = load_file(vit / "model.safetensors")
    save_file({n: v for n, v in state.items() if "classifier" not in n}, vit / "model.safetensors")
    with pytest.raises(BackboneError, match=r"do not fit ViT.*missing: classifier\.bias"):
        load_backbone(f"hf/{vit}")
    # Of another number of classes.
    save_file(state, vit / "model.safetensors")
    with pytest.raises(BackboneError, match=r"another shape: classifier\.bias is \(5,\)"):
        load_backbone(f"hf/{vit}", num_labels=3)


def test_half_precision_and_several_files_give_the_same_classifier(vit, tmp_path):
    backbone = load_backbone(f"hf/{vit}")
    backbone.module.half().save_pretrained(tmp_path / "half", max_shard_size="10KB")
    save_description(VIT, tmp_path / "half")
    assert len(list((tmp_path / "half").glob("*.safetensors"))) > 1
    half = load_backbone(f"hf/{tmp_path / 'half'}")
    assert {value.dtype for value in half.module.parameters()} == {torch.float32}
    for name, value in half.module.state_dict().items():
        torch.testing.assert_close(value, backbone.module.state_dict()[name].float())


def test_names_of_classes(vit):
    assert load_backbone(f"hf/{vit}").class_names is None  # LABEL_0 is no name
    config = json.loads((vit / "config.json").read_text())
    config["id2label"] = {str(index): f"animal {index}" for index in range(CLASSES)}
    (vit / "config.json").write_text(json.dumps(config))
    names = tuple(f"animal {index}" for index in range(CLASSES))
    assert load_backbone(f"hf/{vit}").class_names == names


@pytest.mark.parametrize(
    ("wanted", "activation"), [(None, "sigmoid"), (True, "sigmoid"), (False, "softmax")]
)
def test_several_labels_as_the_configuration_or_the_caller_says(wanted, activation, tmp_path):
    values = {**VIT.values, "problem_type": "multi_label_classification"}
    folder = save_classifier(replace(VIT, values=values), tmp_path / "vit")
    backbone = load_backbone(f"hf/{folder}", multi_label=wanted)
    explainer = ttame.new_explainer(backbone, head="tied").eval()
    again = ttame.load(explainer.save(tmp_path / "explainer"))
    images = torch.randn(2, 3, 32, 32)
    logits = backbone.module(images).logits
    expected = logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=1)
    for one in (explainer, again):
        assert one.backbone.activation == activation
        torch.testing.assert_close(one(images).probabilities, expected)


def test_one_logit_or_other_problems_are_not_multi_label(vit):
    several = {"problem_type": "multi_label_classification"}
    assert load_backbone(f"hf/{vit}").activation == "softmax"
    assert load_backbone(f"hf/{vit}", problem_type="regression").activation == "softmax"
    assert load_backbone(f"hf/{vit}", **several).activation == "sigmoid"
    one = load_backbone(f"hf/{vit}", pretrained=False, num_labels=1, **several)
    assert (one.activation, one.class_names) == ("softmax", ("negative", "positive"))
    with pytest.raises(InputError, match="leave multi_label out"):
        load_backbone(f"hf/{vit}", pretrained=False, num_labels=1, multi_label=True)


def test_settings_of_the_configuration(vit):
    backbone = load_backbone(f"hf/{vit}", pretrained=False, num_labels=3, image_size=48)
    assert backbone.num_classes == 3
    assert backbone.preprocessing.crop == (48, 48)
    assert backbone.feature_shapes[-1] == (16, 6, 6)
    with pytest.raises(InputError, match="no entry number_of_labels"):
        load_backbone(f"hf/{vit}", number_of_labels=3)


def test_what_is_no_image_classifier(vit):
    for broken, message in (
        ('{"model_type": "bert"}', "no image classifier"),
        ("{", "cannot read the configuration"),
    ):
        (vit / "config.json").write_text(broken)
        with pytest.raises(BackboneError, match=message):
            load_backbone(f"hf/{vit}")


def test_images_that_the_classifier_does_not_take(vit):
    with pytest.raises(BackboneError, match=r"tried \(3 x 48 x 48"):
        load_backbone(f"hf/{vit}", preprocessing=Preprocessing(crop=(48, 48)))
