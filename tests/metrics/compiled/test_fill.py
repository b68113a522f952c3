"""The compiled solver against the exact sparse solution, over hole shapes that are hard."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("numba")
from references.slow_road import slow_imputation
from ttame.metrics.compiled import compiling
from ttame.metrics.compiled.fill import fill
from ttame.metrics.compiled.kernels import COLOURS, fill_one, image_links


def lattice(height, width, step):
    """Everything but single pixels, many fine pixels apart: the hardest for coarse grids."""
    mask = np.ones((height, width), bool)
    mask[::step, ::step] = False
    return mask


def stripes(height, width, thickness):
    mask = (np.arange(height)[:, None] + np.arange(width)) % (thickness + 1) > 0
    mask[0, 0] = False
    return mask


def corners(height, width):
    mask = np.zeros((height, width), bool)
    mask[: height // 3, : width // 3] = mask[-(height // 4) :, -(width // 4) :] = True
    mask[0, -1] = mask[-1, 0] = True
    return mask


def but_one(height, width, row, column):
    mask = np.ones((height, width), bool)
    mask[row, column] = False
    return mask


def blobs(height, width, share, seed):
    values = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(values, size=(height, width), mode="bicubic")[0, 0]
    mask = (fine > fine.flatten().quantile(1 - share)).numpy()
    mask[0, 0] = False
    return mask


def half(height, width):
    return np.broadcast_to(np.arange(height)[:, None] >= height // 2, (height, width)).copy()


SHAPES = {
    "one known in a corner": but_one(64, 64, 0, 0),
    "one known in the middle": but_one(65, 50, 32, 32),
    "one known at the border": but_one(47, 80, 46, 33),
    **{f"lattice of {step}": lattice(66, 63, step) for step in (2, 3, 4, 8, 16, 32)},
    **{f"stripes of {thickness}": stripes(60, 61, thickness) for thickness in (1, 2, 3, 5)},
    "corners": corners(60, 50),
    "half": half(64, 63),
    "all but a row": half(60, 40) | (np.arange(60) > 0)[:, None],
    "blobs, 10 %": blobs(80, 70, 0.1, 0),
    "blobs, 50 %": blobs(80, 70, 0.5, 1),
    "blobs, 99 %": blobs(80, 70, 0.99, 2),
    "one row": but_one(1, 300, 0, 7),
    "one column": but_one(150, 1, 149, 0),
    "two rows": but_one(2, 130, 1, 60),
    "two pixels": but_one(1, 2, 0, 1),
    "nothing": np.zeros((9, 9), bool),
}


def photo(shape, colours=3, seed=0):
    """Noise on a slope, so that what is far away differs."""
    noise = torch.rand(colours, *shape, generator=torch.Generator().manual_seed(seed))
    return 0.5 * noise + 0.5 * torch.linspace(0, 1, shape[1])


def off(image, mask, tolerance):
    filled = fill(image[None], torch.from_numpy(mask)[None], tolerance)[0].numpy()
    exact = slow_imputation(image.numpy(), mask) if mask.any() else image.numpy()
    return np.abs(filled - exact).max()


@pytest.mark.parametrize("name", SHAPES)
def test_no_pixel_is_off_by_more_than_half_the_tolerance(name):
    mask = SHAPES[name]
    image = photo(mask.shape)
    for tolerance in (0.1, 1e-2, 1e-3, 1e-5):
        assert off(image, mask, tolerance) <= tolerance / 2


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(2, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_mask(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[seed % height, seed % width] = False
    assert off(photo((height, width), seed=seed), mask, 1e-3) <= 5e-4


def test_a_constant_image_stays_constant():
    image = torch.full((3, 40, 30), 0.3)
    assert off(image, but_one(40, 30, 20, 20), 1e-3) < 5e-4


def cycles(image, mask, tolerance=1e-3):
    links = image_links(*mask.shape)
    x, rest = np.zeros((COLOURS, links.shape[1])), np.zeros((COLOURS, links.shape[1]))
    unknown = np.zeros(links.shape[1], np.uint8)
    noise = np.empty((len(image), 0), np.float32)
    return fill_one(image, mask, noise, np.empty_like(image), links, x, rest, unknown, tolerance)


def test_few_cycles_also_where_nothing_is_left_to_do():
    # Changes that are rounding noise do not shrink, and must not be waited for.
    random = np.random.default_rng(0)
    scattered = random.random((96, 96)) < 0.2
    scattered[0, 0] = False
    flat = np.full((3, 96, 96), 0.7, np.float32)
    assert cycles(flat, scattered) == 1
    assert cycles(flat, but_one(96, 96, 0, 0)) <= 2
    framed = random.random((3, 96, 96)).astype(np.float32)
    framed[:, :30] = framed[:, -30:] = 0
    assert cycles(framed, scattered & (framed[0] == 0)) <= 4
    noise = random.random((3, 96, 96)).astype(np.float32)
    assert cycles(noise, scattered) <= 4
    assert max(cycles(noise, mask) for mask in (half(96, 96), blobs(96, 96, 0.5, 0))) <= 6
    assert cycles(noise, np.zeros((96, 96), bool)) == 0


@pytest.mark.parametrize("colours", [1, 2, 4, 7])
def test_any_number_of_colours_each_on_its_own(colours):
    images, mask = photo((30, 40), colours)[None], torch.from_numpy(blobs(30, 40, 0.4, 3))[None]
    together = fill(images, mask)
    for colour in range(colours):
        alone = fill(images[:, colour : colour + 1], mask)
        torch.testing.assert_close(together[:, colour : colour + 1], alone, atol=1e-5, rtol=0)


def test_same_bits_whatever_the_batch_and_the_number_of_threads():
    masks = [SHAPES[name][:47, :50] for name in ("half", "corners", "blobs, 50 %", "stripes of 3")]
    unknown = torch.from_numpy(np.stack(masks * 2))
    images = torch.stack([photo((47, 50), 4, seed) for seed in range(8)])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = fill(images, unknown)
        torch.set_num_threads(3)
        assert torch.equal(fill(images, unknown), whole)
        assert torch.equal(fill(images.flip(0), unknown.flip(0)).flip(0), whole)
        assert torch.equal(fill(images[3:5], unknown[3:5]), whole[3:5])
    finally:
        torch.set_num_threads(threads)


def test_the_known_pixels_and_the_given_images_are_not_touched():
    image, mask = photo((20, 30)), torch.from_numpy(blobs(20, 30, 0.5, 0))
    before = image.clone()
    filled = fill(image[None], mask[None])[0]
    assert torch.equal(image, before)
    assert torch.equal(filled[:, ~mask], image[:, ~mask])


def test_compiles_without_a_place_for_the_cache(monkeypatch):
    calls = []

    def njit(**options):
        calls.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", njit)
    assert compiling.compiled(lambda a: a + 1)(1) == 2
    assert calls == [True, False]
