"""The libraries whose models are swept: their families, and how a model of them is loaded."""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

TESTS = Path(__file__).resolve().parents[2] / "tests"

# Classes of the classifier that a network which is published without one gets.
CLASSES = 10

# Pictures for tiny configurations of transformers that take any size; deep grids have some cells.
PICTURE = 384


class AbsentError(Exception):
    """A library cannot be swept here; the message says why."""


@dataclass(frozen=True)
class Library:
    """A library of models.

    Attributes:
        title: Its own name.
        version: Gives its version; raises :class:`AbsentError` where it cannot be swept.
        families: Gives the models' names by family: the module or model type that makes them.
        build: Makes an untrained model by its name.
        load: Gives source and arguments of :func:`ttame.load_backbone` for a name; into the
            folder go files that are needed.
    """

    title: str
    version: Callable[[], str]
    families: Callable[[], Mapping[str, Sequence[str]]]
    build: Callable[[str], nn.Module]
    load: Callable[[str, Path], tuple[str, dict[str, Any]]]


def _timm_version() -> str:
    import timm

    return str(timm.__version__)


def _timm_classes(name: str) -> int:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return 1 if config is None else int(config.num_classes)


def _timm_families() -> dict[str, list[str]]:
    """Models by module; where a module has classifiers, only they."""
    import timm

    families = {}
    for family in timm.list_modules():
        names = timm.list_models(module=family)
        families[family] = [name for name in names if _timm_classes(name)] or names
    return {family: names for family, names in families.items() if names}


def _timm_build(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _timm_load(name: str, folder: Path) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
    return f"timm/{name}", {} if _timm_classes(name) else {"num_classes": CLASSES}


def _torchvision_version() -> str:
    import torchvision

    return str(torchvision.__version__)


def _torchvision_families() -> dict[str, list[str]]:
    """Image classifiers by the module that defines them."""
    from torchvision import models

    families = defaultdict(list)
    for name in models.list_models(module=models):
        builder = models.get_model_builder(name)
        families[builder.__module__.rpartition(".")[2]].append(name)
    return families


def _torchvision_build(name: str) -> nn.Module:
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None)
    return model


def _torchvision_load(name: str, folder: Path) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
    return f"torchvision/{name}", {}


def _tiny_huggingface() -> Any:
    """The tests' table of tiny configurations, one for every family of transformers."""
    try:
        importlib.import_module("transformers")
    except ImportError as error:
        raise AbsentError("transformers is not installed: pip install 'ttame[hf]'") from error
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    try:
        return importlib.import_module("tiny_huggingface")
    except ImportError as error:
        raise AbsentError("tests/tiny_huggingface.py is not in this checkout") from error


def _huggingface_version() -> str:
    _tiny_huggingface()
    return str(importlib.import_module("transformers").__version__)


def _huggingface_families() -> dict[str, list[str]]:
    return {family: [family] for family in _tiny_huggingface().FAMILIES}


def _huggingface_build(name: str) -> nn.Module:
    table = _tiny_huggingface()
    tiny = table.FAMILIES[name]
    library = importlib.import_module("transformers")
    config = library.AutoConfig.for_model(tiny.model_type, num_labels=table.CLASSES, **tiny.values)
    model: nn.Module = library.AutoModelForImageClassification.from_config(config)
    return model


def _huggingface_load(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    table = _tiny_huggingface()
    tiny = table.FAMILIES[name]
    if tiny.any_size:
        tiny = replace(tiny, size=PICTURE)
    return f"hf/{table.save_description(tiny, folder)}", {}


LIBRARIES: dict[str, Library] = {
    "timm": Library("timm", _timm_version, _timm_families, _timm_build, _timm_load),
    "torchvision": Library(
        "torchvision",
        _torchvision_version,
        _torchvision_families,
        _torchvision_build,
        _torchvision_load,
    ),
    "hf": Library(
        "transformers",
        _huggingface_version,
        _huggingface_families,
        _huggingface_build,
        _huggingface_load,
    ),
}
"""Libraries by the prefix of their sources."""
