"""Explanation methods by name, all behind one signature.

A method turns images and classes into maps: ``method(backbone, images, classes) -> maps``. To add
one, put a file with a registered function into this package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from ttame.backbone.contract import Backbone
from ttame.detail import check_detail
from ttame.errors import InputError
from ttame.masking import check_upsampling
from ttame.normalisation import check_normalisation, full_masks
from ttame.registry import Registry, changed, reduced

MethodFunction = Callable[..., Tensor]

NEEDS = ("gradients", "layer", "masks", "attention", "explainer")


def _no_details(backbone: Backbone) -> Mapping[str, Any]:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class Method:
    """A method with what people and the benchmark must know about it.

    Attributes:
        name: How it is called on the command line and in results.
        title: How it is called in tables and plots.
        function: ``(backbone, images, classes, **options) -> maps``; raises a BackboneError that
            says why where a classifier does not have what it needs.
        paper: Where it was published; empty for controls.
        needs: Some of ``NEEDS``: gradients of the classifier, one of its layers, many masked
            passes, attention blocks, an explainer.
        cost: What an explanation costs, in words: ``"1 forward, 1 backward"``.
        options: Its settings with their values; written into the results.
        slow: Explains only the few photos of ``slow_images``, unless a limit says otherwise.
        packages: Module names of optional packages it imports.
        control: It does not explain: it shows what a score is worth.
        normalisation: How its maps become masks, see ``ttame.normalisation``; a benchmark
            puts its own in the place of ``"minmax"``, any other belongs to the method.
        upsampling: How its maps come to the size of the image, see ``ttame.masking.UPSAMPLINGS``; a
            benchmark sets it to its own for all methods.
        detail: How much of the photo's edges is mixed into its masks, see ``ttame.detail``; a
            benchmark sets it to its own, and to 0 for methods that give masks.
        details: ``backbone -> values`` for the results, for example the layer that was used.
        rebind: Makes the method for a changed copy of its classifier; None: it takes any
            classifier as it is. For methods that hold parts made for one classifier.
    """

    name: str
    title: str
    function: MethodFunction
    paper: str = ""
    needs: tuple[str, ...] = ()
    cost: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    packages: tuple[str, ...] = ()
    control: bool = False
    normalisation: str = "minmax"
    upsampling: str = "bilinear"
    detail: float = 0.0
    details: Callable[[Backbone], Mapping[str, Any]] = field(default=_no_details)
    rebind: Callable[[Backbone], Method] | None = None

    def __post_init__(self) -> None:
        check_normalisation(self.normalisation)
        check_upsampling(self.upsampling)
        check_detail(self.detail)

    def __call__(self, backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
        """Explain images; gradients are recorded only for methods that need them.

        Args:
            backbone: The classifier.
            images: Its normalised input, (B, C, H, W).
            classes: (B, n) int64 class indices.

        Returns:
            Maps (B, n, h, w) float32, before normalisation.

        Raises:
            InputError: The classes do not fit the images, or the maps do not fit the classes.
        """
        if classes.ndim != 2 or len(classes) != len(images) or classes.is_floating_point():
            raise InputError(
                f"expected class indices of shape ({len(images)}, n) for {len(images)} images, "
                f"got {classes.dtype} of shape {tuple(classes.shape)}"
            )
        if (
            classes.numel()
            and not 0 <= int(classes.min()) <= int(classes.max()) < backbone.num_classes
        ):
            raise InputError(
                f"expected class indices from 0 to {backbone.num_classes - 1}, got "
                f"{int(classes.min())} to {int(classes.max())}"
            )
        with torch.inference_mode("gradients" not in self.needs):
            maps = self.function(backbone, images, classes, **self.options)
        if maps.ndim != 4 or maps.shape[:2] != classes.shape:
            raise InputError(
                f"expected maps of shape {(*classes.shape, 'h', 'w')} from the method "
                f"{self.name!r}, got {tuple(maps.shape)}"
            )
        return maps.detach().float()

    def to_masks(self, maps: Tensor, pixels: Tensor) -> Tensor:
        """Turn its maps (B, h, w), without NaN, into masks of their photos.

        Args:
            maps: What the method gave for one class of each photo.
            pixels: The photos, (B, C, H, W) in [0, 1].

        Returns:
            (B, H, W) in [0, 1], see :func:`ttame.normalisation.full_masks`.
        """
        size = (pixels.shape[-2], pixels.shape[-1])
        return full_masks(maps, size, self.normalisation, self.upsampling, self.detail, pixels)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return reduced(self, protocol, methods)

    def with_options(self, **values: Any) -> Method:
        """Return the method under other settings.

        Raises:
            UnknownNameError: It has no such option.
        """
        return replace(self, options=changed(self, values))

    def check_packages(self) -> None:
        """Find out whether the optional packages are there, without importing them.

        Raises:
            InputError: One is not installed.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"the method {self.name!r} needs the package {package}, which is not "
                    "installed; install the extra with: pip install 'ttame[benchmark]' (from a "
                    "checkout: pip install '.[benchmark]'), or leave the method out"
                )


_METHODS: Registry[Method] = Registry("method", "ttame.methods", NEEDS)


def register(
    *, name: str, title: str, needs: tuple[str, ...] = (), **values: Any
) -> Callable[[MethodFunction], MethodFunction]:
    """Register the decorated function as a method.

    Args:
        name: Name of the method, not yet taken.
        title: Title in tables.
        needs: Some of ``NEEDS``.
        **values: Other attributes of :class:`Method`.

    Raises:
        InputError: The name is taken.
        UnknownNameError: A need is unknown.
    """
    _METHODS.check_needs(needs)

    def add(function: MethodFunction) -> MethodFunction:
        _METHODS.add(Method(name=name, title=title, function=function, needs=needs, **values))
        return function

    return add


def methods() -> dict[str, Method]:
    """Return every registered method by name, in alphabetical order.

    Example:
        >>> methods()["gradcam"].title
        'Grad-CAM'
    """
    return _METHODS.all()


def get_method(name: str, **options: Any) -> Method:
    """Return a method by name, ready to be called, under other settings if asked.

    Raises:
        UnknownNameError: There is no such method or option.
        InputError: A package that it needs is not installed.

    Example:
        >>> get_method("random").control
        True
    """
    method = _METHODS.get(name)
    method.check_packages()
    return method.with_options(**options)
