import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import ttame
from ttame.errors import InputError
from ttame.images.reading import read_image
from ttame.metrics import imputation
from ttame.metrics.imputation import NOISE, add_noise, impute
from ttame.metrics.multigrid import Holes

pytest.importorskip("scipy")
from references.slow_road import slow_imputation


@pytest.fixture(params=["numba", "torch"])
def solver(request, monkeypatch):
    """Everything that asks for it is tested with both solvers."""
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(imputation, "_compiled_fill", lambda: None)
    assert imputation.solver("cpu") == request.param


def smooth(count, size, seed=0, coarse=6):
    values = torch.rand(count, 1, coarse, coarse, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(values, size=size, mode="bicubic")[:, 0]


def photos(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(count, 3, *size, generator=generator)
    return (0.5 * fine + 0.5 * smooth(3 * count, size, seed).view(count, 3, *size)).clamp(0, 1)


def top(values, share):
    """Remove the top share of each map, exactly."""
    flat = values.flatten(1)
    order = flat.argsort(dim=1, descending=True)[:, : round(share * flat.shape[1])]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).view(values.shape)


def masks(kind, count, size, share):
    if kind == "random":
        return top(torch.rand(count, *size, generator=torch.Generator().manual_seed(1)), share)
    if kind == "blobs":
        return top(smooth(count, size, 2), share)
    rows = torch.arange(size[0]).flip(0)[:, None].expand(size).float()
    return top(rows.expand(count, -1, -1), share)


def no_noise(images, removed, **options):
    return impute(images, removed, [0] * len(images), noise=0, **options)


@pytest.mark.parametrize("kind", ["random", "blobs", "half plane"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(32, 48), (97, 64)])
@pytest.mark.usefixtures("solver")
def test_equals_the_exact_sparse_solution(kind, share, size):
    images = photos(3, size)
    removed = masks(kind, 3, size, share)
    filled = no_noise(images, removed)
    for image, gone, ours in zip(images, removed, filled, strict=True):
        exact = slow_imputation(image.numpy(), gone.numpy())
        assert np.abs(ours.numpy() - exact).max() < 5e-4


@pytest.mark.parametrize(("kind", "share"), [("blobs", 0.1), ("half plane", 0.9)])
@pytest.mark.usefixtures("solver")
def test_a_real_photo_at_224_pixels(kind, share):
    image = np.array(read_image(ttame.sample_photos()[0]).resize((224, 224)))
    images = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    removed = masks(kind, 1, (224, 224), share)
    exact = slow_imputation(images[0].numpy(), removed[0].numpy())
    assert np.abs(no_noise(images, removed)[0].numpy() - exact).max() < 5e-4
    assert np.abs(no_noise(images, removed, tolerance=1e-6)[0].numpy() - exact).max() < 1e-5


@pytest.mark.usefixtures("solver")
def test_a_single_known_pixel_fills_the_image_with_its_value():
    images = photos(1, (70, 90))
    removed = torch.ones(1, 70, 90, dtype=torch.bool)
    removed[0, 3, 80] = False
    expected = images[:, :, 3, 80][:, :, None, None].expand_as(images)
    torch.testing.assert_close(no_noise(images, removed), expected, atol=1e-3, rtol=0)
    close = no_noise(images, removed, tolerance=1e-5)
    torch.testing.assert_close(close, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("solver")
def test_hand_computed_border_weights():
    image = torch.tensor([[[[0.0, 0.6, 0.2], [0.8, 0.4, 0.9]]]])
    removed = torch.tensor([[[True, False, False], [False, False, False]]])
    # Right and below weigh 1/6, the diagonal one 1/12; the five outside are left out.
    expected = (0.6 / 6 + 0.8 / 6 + 0.4 / 12) / (1 / 6 + 1 / 6 + 1 / 12)
    assert no_noise(image, removed)[0, 0, 0, 0].item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(2, 40),
    share=st.floats(0.0, 0.99),
    seed=st.integers(0, 1000),
)
def test_any_mask_stays_within_the_known_values_and_keeps_them(height, width, share, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, height, width, generator=generator)
    removed = torch.rand(2, height, width, generator=generator) < share
    removed[:, 0, 0] = False
    filled = no_noise(images, removed)
    kept = ~removed[:, None].expand_as(images)
    assert torch.equal(filled[kept], images[kept])
    low = images.masked_fill(~kept, 2).amin(dim=(2, 3), keepdim=True)
    high = images.masked_fill(~kept, -1).amax(dim=(2, 3), keepdim=True)
    assert ((filled >= low - 1e-3) & (filled <= high + 1e-3)).all()


@pytest.mark.usefixtures("solver")
def test_an_image_does_not_depend_on_the_others():
    images = photos(19, (45, 64))
    removed = torch.cat([masks("blobs", 9, (45, 64), 0.5), masks("random", 10, (45, 64), 0.1)])
    removed[3] = True
    removed[4] = False
    seeds = list(range(19))
    whole = impute(images, removed, seeds)
    for part in (slice(0, 1), slice(3, 5), slice(2, 19), slice(17, 19)):
        again = impute(images[part], removed[part], seeds[part])
        torch.testing.assert_close(again, whole[part], atol=1e-6, rtol=0)


@pytest.mark.usefixtures("solver")
def test_everything_removed_gives_the_mean_colour_and_nothing_removed_the_image():
    images = photos(2, (20, 30))
    removed = torch.stack([torch.ones(20, 30), torch.zeros(20, 30)]).bool()
    filled = no_noise(images, removed)
    mean = images[0].mean(dim=(1, 2), keepdim=True).expand(-1, 20, 30)
    torch.testing.assert_close(filled[0], mean)
    assert torch.equal(filled[1], images[1])


@pytest.mark.usefixtures("solver")
def test_noise_is_on_removed_pixels_only_and_seeded_per_image():
    images = photos(2, (64, 64))[:1].repeat(3, 1, 1, 1)
    removed = masks("blobs", 1, (64, 64), 0.5).repeat(3, 1, 1)
    filled = impute(images, removed, [5, 6, 5], noise=0.01)
    torch.testing.assert_close(filled[0], filled[2], atol=1e-6, rtol=0)
    assert (filled[0] - filled[1]).abs().max() > 0.01
    noise = (filled - no_noise(images, removed))[0]
    assert not noise[:, ~removed[0]].any()
    drawn = noise[:, removed[0]]
    assert drawn.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(drawn.mean().item()) < 5e-4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("solver")
def test_noise_is_what_the_seed_draws_row_by_row(threads):
    images = photos(4, (40, 48))
    removed = masks("blobs", 4, (40, 48), 0.3)
    removed[1], removed[2] = True, False
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        filled, without = impute(images, removed, [7, 8, 9, 10], 0.05), no_noise(images, removed)
    finally:
        torch.set_num_threads(before)
    for number, gone in enumerate(removed):
        generator = torch.Generator().manual_seed(7 + number)
        expected = without[number].clone()
        drawn = torch.randn((3, int(gone.count_nonzero())), generator=generator)
        expected[:, gone] += 0.05 * drawn
        torch.testing.assert_close(filled[number], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.usefixtures("solver")
def test_equals_grad_cam(share):
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    images, relevance = photos(2, (48, 40)), smooth(2, (48, 40), 3)
    remove = pytest.importorskip(
        "pytorch_grad_cam.metrics.perturbation_confidence"
    ).RemoveMostRelevantFirst
    # Its percentile p keeps the p % least relevant pixels.
    theirs = remove(100 - 100 * share, road.NoisyLinearImputer(noise=0))
    removed = top(relevance, share)
    ours = no_noise(images, removed)
    for image, mask, filled in zip(images, relevance, ours, strict=True):
        torch.testing.assert_close(theirs(image, mask), filled, atol=5e-4, rtol=0)


@pytest.mark.usefixtures("solver")
def test_equals_quantus_on_one_channel():
    perturb = pytest.importorskip("quantus.functions.perturb_func")
    image = photos(1, (30, 44))[:, :1]
    removed = masks("blobs", 1, (30, 44), 0.4)
    indices = np.flatnonzero(removed[0].numpy())
    theirs = perturb.noisy_linear_imputation(arr=image[0].numpy(), indices=indices, noise=0.0)
    ours = no_noise(image, removed)[0].numpy()
    assert np.abs(ours - np.asarray(theirs).reshape(ours.shape)).max() < 5e-4


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_solvers_agree(share, monkeypatch):
    pytest.importorskip("numba")
    images = photos(2, (60, 70))
    removed = torch.cat([masks("blobs", 1, (60, 70), share), masks("random", 1, (60, 70), share)])
    compiled = impute(images, removed, [1, 2])
    monkeypatch.setattr(imputation, "_compiled_fill", lambda: None)
    torch.testing.assert_close(impute(images, removed, [1, 2]), compiled, atol=1e-3, rtol=0)


def test_without_numba_torch_solves(monkeypatch):
    for name in ("numba", "ttame.metrics.compiled.compiling"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("fill", "kernels"):
        monkeypatch.delitem(sys.modules, f"ttame.metrics.compiled.{name}", raising=False)
    imputation._compiled_fill.cache_clear()
    try:
        assert imputation.solver("cpu") == "torch"
    finally:
        imputation._compiled_fill.cache_clear()


@pytest.mark.usefixtures("solver")
def test_noise_is_the_same_under_another_default_type():
    images, removed = photos(1, (20, 24)), masks("blobs", 1, (20, 24), 0.4)
    usual = impute(images, removed, [3])
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(impute(images, removed, [3]), usual)
    finally:
        torch.set_default_dtype(torch.float32)


def test_wrong_shapes_and_noise_are_refused():
    images = photos(2, (8, 8))
    for noise in (-0.01, float("nan"), float("inf")):
        with pytest.raises(InputError, match="noise of at least 0"):
            impute(images, torch.ones(2, 8, 8, dtype=torch.bool), [0, 1], noise)
    with pytest.raises(InputError, match="boolean mask"):
        impute(images, torch.ones(2, 8, 8), [0, 1])
    with pytest.raises(InputError, match="boolean mask"):
        impute(images, torch.ones(2, 8, 9, dtype=torch.bool), [0, 1])
    with pytest.raises(InputError, match="got 1 for 2"):
        impute(images, torch.ones(2, 8, 8, dtype=torch.bool), [0])


def test_the_solver_needs_few_steps_at_any_size():
    for size in ((64, 64), (224, 224)):
        removed = masks("half plane", 1, size, 0.9)
        image = photos(1, size)[:, 0]
        rough = Holes(removed).fill(image, tolerance=0, steps=8)
        exact = Holes(removed).fill(image, tolerance=1e-7, steps=40)
        assert (rough - exact).abs().max() < 1e-3


def test_noise_without_counting_stays_on_removed_pixels_and_is_each_image_s_own():
    filled, removed = photos(3, (64, 48)), masks("blobs", 3, (64, 48), 0.5)
    removed[1] = True
    noisy = filled.clone()
    add_noise(noisy, removed, [7, 8, 9], 0.01)
    gone = removed[:, None].expand_as(filled)
    assert torch.equal(noisy[~gone], filled[~gone])
    drawn = (noisy - filled)[gone]
    assert drawn.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(drawn.mean().item()) < 0.001
    last = filled[2:].clone()
    add_noise(last, removed[2:], [9], 0.01)
    assert torch.equal(last, noisy[2:])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_on_a_gpu_it_stays_there_and_gives_the_exact_solution(share, gpu):
    images, removed = photos(4, (64, 48)).to(gpu), masks("blobs", 4, (64, 48), share).to(gpu)
    filled = no_noise(images, removed)
    assert filled.is_cuda
    for image, gone, found in zip(images.cpu(), removed.cpu(), filled.cpu(), strict=True):
        exact = torch.from_numpy(slow_imputation(image.numpy(), gone.numpy()))
        assert (found - exact).abs().max() <= 1e-3
    removed[1] = True
    filled = no_noise(images, removed)
    noisy, known = impute(images, removed, range(4)), ~removed[:, None].expand_as(images)
    assert noisy.is_cuda
    assert torch.equal(noisy[known], images[known])
    drawn = (noisy - filled)[~known]
    assert drawn.std().item() == pytest.approx(NOISE, rel=0.1)
    assert abs(drawn.mean().item()) < NOISE / 10
    # An image's noise comes from its own seed.
    torch.testing.assert_close(
        impute(images[1:3], removed[1:3], [1, 2]), noisy[1:3], atol=1e-4, rtol=0
    )
