"""The conventions of all scores in words, as they are written into results."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

QUANTILE_RULES: Mapping[str, str] = MappingProxyType(
    {
        "quantile": "values under the mask's own (1 - share) quantile are 0 (linear interpolation, "
        "tolerance 1e-6)",
        "exact": "exactly round(share * pixels) pixels stay, ties in seeded random order",
    }
)

COMMON: Mapping[str, str] = MappingProxyType(
    {
        "matched": "the resized map is replaced by its pixel ranks, uniform in [0, 1], ties in "
        "seeded random order, before it is cut",
        "nan_maps": "a map with NaN or infinity counts as all zeros",
        "interval": "95 % percentile bootstrap over images, 2000 resamples, widened for few images "
        "by Student's t (Hesterberg 2015)",
    }
)
"""Shared by ``ttame evaluate`` and ``ttame benchmark``."""

BENCHMARK: Mapping[str, str] = MappingProxyType(
    {
        **COMMON,
        "scores": "in percent, but mask_area in [0, 1] and SRG in units of the logit",
        "rule": "; ".join(f"{name}: {text}" for name, text in QUANTILE_RULES.items()),
        "mask_space": "pixel: the mask multiplies the [0, 1] image, which is then normalised; with "
        "another fill than black in a measure's options, it blends the image with that",
        "fill": "what stands where pixels are missing, an option of most measures. black; mean: "
        "the classifier's mean colour; photo_mean: the photo's own; blur: Gaussian of 11 x 11 "
        "pixels, sigma 5, edges repeated. Of methods and trainings, blur is wider: sigma a "
        "sixteenth of the shorter side",
        "class": "the classifier's own prediction on the unmasked image; on the photos with "
        "marked objects the marked class, on a picture of two photos that of one of them",
        "normalisation": "per map at its own resolution (of an explainer: after its mask form), by "
        "the normalisation in the settings. minmax: stretched to [0, 1]; positive: negative values "
        "are 0, divided by the maximum; magnitude: absolute values divided by the largest; "
        "clipped: stretched from the 1 % to the 99 % quantile; ranks: replaced by their ranks, "
        "ties averaged, stretched to [0, 1]; as_given: clamped to [0, 1]. A "
        "method that brings another one than minmax keeps it. Then resized to the input by the "
        "upsampling in the settings, bilinear with align_corners=False; an own upsampling of an "
        "explainer comes first: with nearest, its masks have the input's size already",
        "detail": "how much of the photo's edges is mixed into masks at the input's size: (1 - d) "
        "mask + d Phi((s - mean s) / std s), s the Sobel filter's strength, stretched to the "
        "mask's own range again; of an explainer by its own setting, of others by that of the run",
        "photos": "in seeded random order; slow methods and measures are given the first "
        "slow_images, or as many as a limit of their own says, and measures that explain again are "
        "taken of slow methods on the first again_images, by default a fifth of slow_images",
        "marked": "photos with boxes or segmentation masks are squashed to the classifier's input, "
        "nothing is cropped; a pixel of the input is in a box or mask if its centre is",
        "pairs": "the middle halves of two photos in one picture, by turns side by side and one "
        "above the other, explained for the class of the first or the second by turns; two "
        "classes, each predicted with at least 50 % on its own photo and less on the other; at "
        "most 100 pictures, of the first 1,000 photos",
        "halves": "by the SHA-256 of the file name: even is choosing, odd is reporting",
        "passes": "of the classifier for the maps of one image, counted by hooks; changed copies "
        "that share a pass up to a layer count as one",
        "peak_memory": "most that PyTorch held at once for the map of one photo, beyond what it "
        "held",
    }
)
