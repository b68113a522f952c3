"""Processors that are our own preprocessing are found again; others are refused."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ttame.backbone.processor import Processor, measured_preprocessing
from ttame.errors import BackboneError
from ttame.images.preprocessing import Preprocessing

HALF = (0.5, 0.5, 0.5)
UNEVEN = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def processor(preprocessing: Preprocessing) -> Processor:
    return lambda photo: preprocessing.normalise(preprocessing.pixels(photo))


@pytest.mark.parametrize(
    "known",
    [
        Preprocessing(),
        Preprocessing(crop=(32, 32), resize=None, mean=HALF, std=HALF, interpolation="bicubic"),
        Preprocessing(crop=(30, 50), resize=None, interpolation="lanczos", **UNEVEN),
        Preprocessing(crop=(30, 50), resize=61, interpolation="nearest", **UNEVEN),
        Preprocessing(crop=(48, 32), resize=(56, 41), reverse=True, **UNEVEN),
        Preprocessing(crop=(64, 64), resize=40, mean=(0, 0, 0), std=(1 / 255,) * 3),  # padded
        Preprocessing(crop=(640, 640), resize=700, interpolation="bicubic"),  # enlarged
    ],
)
def test_any_preprocessing_is_found_again(known):
    found = measured_preprocessing(processor(known))
    assert found.std == pytest.approx(known.std, rel=1e-5)
    assert found == Preprocessing(
        known.crop, known.resize, known.mean, found.std, known.interpolation, known.reverse
    )


def test_without_a_crop_the_centre_square_is_taken():
    def keep_the_aspect_ratio(photo: Image.Image) -> Tensor:
        width, height = photo.size
        size = (40 * width // min(photo.size), 40 * height // min(photo.size))
        return processor(Preprocessing(crop=size[::-1], resize=None))(photo)

    assert measured_preprocessing(keep_the_aspect_ratio) == Preprocessing((40, 40), 40)


KNOWN = processor(Preprocessing(crop=(32, 32), resize=40))
OTHERS = {
    "grey": (lambda photo: KNOWN(photo.convert("L").convert("RGB")), "mixes the colours"),
    "negative": (lambda photo: -KNOWN(photo), "turns light into dark"),
    "mirrored": (lambda photo: KNOWN(ImageOps.mirror(photo)), "upright"),
    "turned": (lambda photo: KNOWN(photo.transpose(Image.Transpose.ROTATE_90)), "upright"),
    "fitted inside": (lambda photo: KNOWN(ImageOps.pad(photo, (640, 640))), "resizes 640 x 480"),
    "a corner": (lambda photo: KNOWN(photo.crop((0, 0, 240, 240))), "resizes|differs"),
    "equalised": (lambda photo: KNOWN(ImageOps.equalize(photo)), "resizes|differs|mixes"),
    "broken": (lambda photo: KNOWN(photo.crop((0, 0, 0, 0))), r"fails on an RGB photo \("),
    "patches": (lambda photo: torch.zeros(16, 48), r"shape \(16, 48\)"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_preprocessing_is_refused(kind):
    process, message = OTHERS[kind]
    with pytest.raises(BackboneError, match=rf"({message}).*preprocessing="):
        measured_preprocessing(process)
