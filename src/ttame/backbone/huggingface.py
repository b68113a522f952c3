"""Classifiers of the transformers library: ``hf/<hub id>`` or ``hf/<folder>``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ttame.backbone.processor import measured_preprocessing
from ttame.backbone.source import Loaded, Request, register_source
from ttame.backbone.weights import check_fit, downloading, read_weights
from ttame.errors import BackboneError, InputError, StorageError, first_line
from ttame.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

_DESCRIPTIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_OFFLINE = (
    "where there is no network, give a folder that holds the model, as save_pretrained() of the "
    "model and of its image processor write it: hf/./FOLDER or hf//path/to/FOLDER"
)


@register_source("hf", names=tuple)
def load_huggingface(request: Request) -> Loaded:
    """Load an image classifier of transformers, from the hub or from a folder.

    A name that is a folder with a ``config.json`` is read there, without a look at the hub. Weights
    are read from safetensors only, and code that comes with a model is never run. The preprocessing
    is measured: the model's own image processor is shown a few pictures.

    ``model_args`` override entries of the configuration, for example ``num_labels``. One whose
    ``problem_type`` is ``"multi_label_classification"`` makes a multi-label classifier.

    Raises:
        BackboneError: transformers is not installed, the model cannot be fetched or is no image
            classifier, its weights do not fit, or its image processor does something else than
            resize, crop and normalise.
        InputError: The configuration has no such entry.
        StorageError: The weight file cannot be read.
    """
    with _transformers():
        folder = _local_folder(request.name)
        source = None if folder is None else f"hf/{folder}"
        wanted = request.pretrained and request.weights is None
        if folder is None:
            folder = _fetched(request.name, wanted)
        config = _configuration(folder, request)
        preprocessing = request.preprocessing or _preprocessing(folder, request)
        if request.weights is not None:
            file = read_weights(request.weights)
            model = _with_weights(config, file.state, str(file.path))
        elif wanted:
            model = _with_weights(config, _published(folder, request.name), f"hf/{request.name}")
        else:
            model = _untrained(config)
    return Loaded(model, preprocessing, _class_names(config), source, _is_multi_label(config))


@contextmanager
def _transformers() -> Iterator[None]:
    """Keep the library's reports and progress bars to themselves, or say that it is missing."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise BackboneError(
            f"hf/... needs the package transformers ({error}); install the extra with: "
            "pip install 'ttame[hf]' (from a checkout: pip install '.[hf]')"
        ) from error
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _local_folder(name: str) -> Path | None:
    """Absolute path of the folder that ``name`` is, or None where it is a hub id.

    Raises:
        BackboneError: It can only be a folder, and there is no model in it.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder.resolve()
    if not name or name[0] in ".~/\\" or folder.is_absolute() or name.count("/") > 1:
        raise BackboneError(
            f"expected a folder with config.json at {name!r}, found none; give a folder as "
            "save_pretrained() writes it, or the id of a model on the hub, such as "
            "hf/microsoft/resnet-18"
        )
    return None


def _fetched(name: str, weights: bool) -> Path:
    """Folder of a hub model: from the cache, after the hub was asked for news where it answers."""
    from huggingface_hub import snapshot_download

    wanted = [*_DESCRIPTIONS, *([_WEIGHTS, _INDEX, "model-*.safetensors"] if weights else [])]
    # Unlike the download of single files, this one does not try again for minutes.
    with downloading(f"hf/{name}", _OFFLINE):
        return Path(snapshot_download(name, allow_patterns=wanted))


def _configuration(folder: Path, request: Request) -> Any:
    from transformers import AutoConfig, __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    try:
        config, unknown = AutoConfig.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            return_unused_kwargs=True,
            **request.model_args,
        )
    except Exception as error:  # whatever a configuration's own checks raise
        raise BackboneError(
            f"transformers {__version__} cannot read the configuration of hf/{request.name}: "
            f"{first_line(error)}"
        ) from error
    unknown = sorted(set(unknown) & set(request.model_args))
    if unknown:
        raise InputError(
            f"the configuration of hf/{request.name} has no entry {', '.join(unknown)}"
        )
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise BackboneError(
            f"hf/{request.name} is a model of the type {config.model_type!r}, which has no image "
            "classifier in transformers"
        )
    config.architectures = config.architectures or []
    size = request.image_size
    if size is not None and hasattr(config, "image_size"):
        config.image_size = size[0] if size[0] == size[1] else list(size)
    return config


def _untrained(config: Any) -> nn.Module:
    from transformers import AutoModelForImageClassification

    try:
        model: nn.Module = AutoModelForImageClassification.from_config(
            config, trust_remote_code=False
        )
    except Exception as error:  # some families need further packages, or other settings
        raise BackboneError(
            f"transformers cannot build this {config.model_type}: {first_line(error)}"
        ) from error
    return model.float()


def _with_weights(config: Any, state: dict[str, Tensor], origin: str) -> nn.Module:
    with torch.device("meta"):
        kind: Any = type(_untrained(config))
    try:
        # The library itself knows the older names of its weights.
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            torch_dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged state can fail anywhere
        raise BackboneError(
            f"the weights of {origin} do not fit {kind.__name__}: {first_line(error)}"
        ) from error
    shapes = [
        f"{name} is {tuple(came)} instead of {tuple(expected)}"
        for name, came, expected in sorted(report["mismatched_keys"])
    ]
    missing = sorted(report["missing_keys"])
    check_fit(kind.__name__, origin, {"missing": missing, "of another shape": shapes})
    loaded: nn.Module = model
    return loaded


def _published(folder: Path, name: str) -> dict[str, Tensor]:
    """All tensors of a folder, from one safetensors file or from several with an index.

    Raises:
        BackboneError: There are none; a pickle beside them is not read.
        StorageError: A file is damaged.
    """
    files = {_WEIGHTS}
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            # Only files of this folder, whatever the index says.
            files = {Path(file).name for file in index["weight_map"].values()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise StorageError(f"cannot read {folder / _INDEX}: {error!r}") from error
    elif not (folder / _WEIGHTS).is_file():
        raise BackboneError(
            f"expected {_WEIGHTS} in hf/{name}, found none; pass weights=FILE to use another file "
            "(a .bin file is read without running code from it), or pretrained=False for random "
            "weights"
        )
    state: dict[str, Tensor] = {}
    for file in sorted(files):
        state.update(read_weights(folder / file).state)
    return state


def _preprocessing(folder: Path, request: Request) -> Preprocessing:
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # no file, no such class, a missing package
        raise BackboneError(
            f"hf/{request.name} has no image processor that can be read ({first_line(error)}); "
            "save it there (AutoImageProcessor ... .save_pretrained(FOLDER)), or say how photos "
            "are to be prepared with load_backbone(..., preprocessing=Preprocessing(...))"
        ) from error

    def process(photo: Image.Image) -> Tensor:
        output = processor(photo, return_tensors="pt")
        # Under another name, it is no picture: its shape will tell.
        tensor: Tensor = output.get("pixel_values", next(iter(output.values())))
        return tensor[0]

    own = measured_preprocessing(process)
    return own if request.image_size is None else _sized(own, request.image_size)


def _sized(own: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """The same share of the photo at another input size."""
    resize = own.resize
    if isinstance(resize, int):
        resize = round(resize * max(size) / max(own.crop))
    elif resize is not None:
        resize = (
            round(resize[0] * size[0] / own.crop[0]),
            round(resize[1] * size[1] / own.crop[1]),
        )
    return replace(own, crop=size, resize=resize)


def _is_multi_label(config: Any) -> bool:
    # A single logit is two classes that exclude each other.
    several: bool = config.num_labels > 1
    return several and config.problem_type == "multi_label_classification"


def _class_names(config: Any) -> tuple[str, ...] | None:
    """The configuration's names, where somebody has given them."""
    labels = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    made_up = all(re.fullmatch(r"LABEL_\d+", name) for name in labels.values())
    if made_up or sorted(labels) != list(range(config.num_labels)):
        return None
    return tuple(labels[index] for index in range(config.num_labels))
