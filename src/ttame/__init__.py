"""ttame explains any image classifier, CNN or vision transformer, in one forward pass."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttame.ablation.run import ablate
    from ttame.backbone.contract import Backbone, BackboneOutput
    from ttame.backbone.registry import load_backbone
    from ttame.benchmarking.evaluation import evaluate
    from ttame.benchmarking.run import benchmark
    from ttame.checkpoints.importing import import_checkpoint
    from ttame.data import sample_photos
    from ttame.errors import TtameError
    from ttame.explainer import Explainer, new_explainer
    from ttame.explanation import Explanation
    from ttame.images.preprocessing import Preprocessing
    from ttame.storage import load
    from ttame.training.run import train

__version__ = "0.1.0"

# Importing ttame imports neither torch nor lightning: each name is fetched at its first use.
_HOMES = {
    "Backbone": "ttame.backbone.contract",
    "BackboneOutput": "ttame.backbone.contract",
    "Explainer": "ttame.explainer",
    "Explanation": "ttame.explanation",
    "Preprocessing": "ttame.images.preprocessing",
    "TtameError": "ttame.errors",
    "ablate": "ttame.ablation.run",
    "benchmark": "ttame.benchmarking.run",
    "evaluate": "ttame.benchmarking.evaluation",
    "import_checkpoint": "ttame.checkpoints.importing",
    "load": "ttame.storage",
    "load_backbone": "ttame.backbone.registry",
    "new_explainer": "ttame.explainer",
    "sample_photos": "ttame.data",
    "train": "ttame.training.run",
}

__all__ = [
    "Backbone",
    "BackboneOutput",
    "Explainer",
    "Explanation",
    "Preprocessing",
    "TtameError",
    "__version__",
    "ablate",
    "benchmark",
    "evaluate",
    "import_checkpoint",
    "load",
    "load_backbone",
    "new_explainer",
    "sample_photos",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ttame' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
