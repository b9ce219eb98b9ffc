"""Each differentiable edit against the real one, its gradient against differences, and recipes' tables."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import photograph
from PIL import Image, ImageFilter
from torch import Tensor, nn

from slic_cli.attacks import Attack
from slic_cli.errors import UsageError
from slic_cli.training.edits import EDITS, Edit, make_edit
from slic_cli.training.edits.filters import gaussian_blur
from slic_cli.training.edits.geometry import affine, place, resize

Pixels = npt.NDArray[np.uint8]
NAMES = "none blur affine jpeg resize resample median shift lighten darken sharpen equalize webp noise turn codec chain"
CONSTANT = ("none", "equalize", "codec")  # these draw nothing
ROUNDING = ("none", "jpeg", "equalize", "webp", "chain")  # not smooth, or drawn from those that are not
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def network(_: str = "") -> nn.Module:
    torch.manual_seed(5)
    return nn.Conv2d(3, 3, 3, padding=1)


def tensor(*pictures: Pixels) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def levels(x: Tensor) -> npt.NDArray[np.float64]:
    """The first picture as 8-bit levels (h, w, 3)."""
    return np.asarray((x[0] * 255).round().permute(1, 2, 0), dtype=np.float64)


def edit(name: str, **values: Any) -> Edit:
    return make_edit({"name": name, **values}, network)


def fixed(name: str, pixels: Pixels, **values: Any) -> npt.NDArray[np.float64]:
    """What an edit makes of a picture."""
    return levels(edit(name, **values)(tensor(pixels), random.Random(1)))


def error(got: npt.NDArray[np.float64], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    difference: npt.NDArray[np.float64] = np.abs(got - expected.astype(np.float64))
    return difference


def test_all_edits_are_there() -> None:
    assert list(EDITS) == NAMES.split()
    assert all(EDITS[name].name == name for name in EDITS)


@pytest.mark.parametrize("name", EDITS)
def test_edits_keep_shape_and_range_and_let_gradients_through(name: str) -> None:
    x = tensor(photograph(32, 64), photograph(32, 64, 1), photograph(32, 64, 2))
    for seed in range(6):
        seen = x.clone(memory_format=torch.channels_last).requires_grad_()
        edited = edit(name)(seen, random.Random(seed))
        assert edited.shape == x.shape and edited.dtype == torch.float32
        assert edited.min() >= 0 and edited.max() <= 1
        (edited * torch.linspace(-1, 1, 64)).sum().backward()  # type: ignore[no-untyped-call]
        assert seen.grad is not None and seen.grad.isfinite().all()
        assert all((gradient != 0).float().mean() > 0.15 for gradient in seen.grad)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", EDITS)
def test_gradients_of_flat_pictures_are_finite(name: str, value: float) -> None:
    x = torch.full((1, 3, 48, 32), value, requires_grad=True)
    edit(name)(x, random.Random(0)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("name", EDITS)
def test_seeds_repeat_and_draws_differ(name: str) -> None:
    x = tensor(photograph(48, 48))

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return edit(name)(x, random.Random(seed))

    results = [run(seed) for seed in range(5)]
    assert all(torch.equal(result, run(seed)) for seed, result in enumerate(results))
    same = [torch.equal(result, results[0]) for result in results[1:]]
    assert not all(same) if name == "turn" else all(equal == (name in CONSTANT) for equal in same)  # it has 7 results


@pytest.mark.parametrize("name", [name for name in EDITS if name not in ROUNDING])
def test_gradient_is_the_slope(name: str) -> None:
    torch.manual_seed(0)
    x = 0.3 + 0.3 * tensor(photograph(32, 48)) + 0.1 * torch.rand(1, 3, 32, 48)  # inside [0, 1], and without ties
    x, step = (x.double(), 1e-7) if name == "median" else (x, 1e-3)  # a step must not change a neighbourhood's order
    along, weights = torch.randn_like(x), torch.randn_like(x)

    def value(moved: Tensor) -> Tensor:
        torch.manual_seed(1)
        return (edit(name)(moved, random.Random(3)).double() * weights).sum()

    seen = x.clone().requires_grad_()
    value(seen).backward()  # type: ignore[no-untyped-call]
    assert seen.grad is not None
    slope = (value(x + step * along) - value(x - step * along)) / (2 * step)
    assert float((seen.grad * along).sum()) == pytest.approx(float(slope), rel=0.03, abs=0.01 * x.numel() ** 0.5)


def test_blur_is_a_gaussian_of_that_variance() -> None:
    pixels = photograph(40, 56)
    weights = np.exp(-np.add.outer(np.arange(-1, 2) ** 2, np.arange(-1, 2) ** 2) / (2 * 0.4))
    real = Image.fromarray(pixels).filter(ImageFilter.Kernel((3, 3), weights.flatten().tolist()))
    got = fixed("blur", pixels, variance=[0.4, 0.4])
    assert error(got, np.asarray(real))[1:-1, 1:-1].max() <= 1


@pytest.mark.parametrize(("radius", "kernel"), [(1.0, 7), (2.0, 13)])
def test_wide_blur_is_near_the_real_one(radius: float, kernel: int) -> None:
    pixels = photograph(64, 64)
    real = Attack("blur", {"radius": radius}).apply(pixels)
    close = error(levels(gaussian_blur(tensor(pixels), radius**2, kernel)), real)[8:-8, 8:-8].mean()
    off = error(levels(gaussian_blur(tensor(pixels), 1.5 * radius**2, kernel)), real)[8:-8, 8:-8].mean()
    assert close < 0.5 and off > 1.4 * close


def test_affine_is_the_real_one() -> None:
    pixels = photograph(96, 128)
    real = Attack("affine", {"degrees": 10, "scale": 0.95, "shift": 10}).apply(pixels)
    off = error(levels(affine(tensor(pixels), 10, 0.95, 10 / 128, 0)), real).max(2)
    assert off[24:-24, 32:-32].max() <= 1 and (off > 1).mean() < 0.02  # Pillow does not fade at the picture's border
    assert error(levels(affine(tensor(pixels), -10, 0.95, 10 / 128, 0)), real).mean() > 10


def test_affine_moves_down_and_right() -> None:
    pixels = photograph(32, 64)
    moved = levels(affine(tensor(pixels), 0, 1, 4 / 64, 8 / 32))
    assert np.array_equal(moved[8:, 4:], pixels[:-8, :-4]) and not moved[:8].any() and not moved[:, :4].any()
    reflected = levels(affine(tensor(pixels), 0, 1, 4 / 64, 8 / 32, "reflect"))
    assert np.array_equal(reflected[:8, 4:], pixels[7::-1, :-4])


def test_affine_draws_each_of_its_ranges() -> None:
    pixels = photograph(64, 64)
    still: dict[str, Any] = {"degrees": [0, 0], "translation": [0, 0], "scale": [1, 1]}
    assert np.array_equal(fixed("affine", pixels, **still), pixels)
    turned = fixed("affine", pixels, **still | {"degrees": [7, 7]})
    assert np.array_equal(turned, levels(affine(tensor(pixels), 7, 1, 0, 0)))
    grown = fixed("affine", pixels, **still | {"scale": [1.1, 1.1]})
    assert np.array_equal(grown, levels(affine(tensor(pixels), 0, 1.1, 0, 0)))
    moves = {(right, down): affine(tensor(pixels), 0, 1, right, down) for right in (-0.1, 0.1) for down in (-0.1, 0.1)}
    seen = set()
    for seed in range(30):
        moved = edit("affine", **still | {"translation": [0.1, 0.1]})(tensor(pixels), random.Random(seed))
        seen |= {key for key, expected in moves.items() if torch.equal(moved, expected)}
    assert seen == set(moves)


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_jpeg_is_the_real_one(chroma: str) -> None:
    pixels = photograph(64, 96)
    settings = {"quality": [85, 85], "chroma": [chroma]}
    real = Attack("jpeg", {"quality": 85}).apply(pixels)
    assert (error(fixed("jpeg", pixels, **settings), real).mean() < 0.3) == (chroma == "4:2:0")
    straight, cubic = (fixed("jpeg", pixels, simulation=kind, **settings) for kind in ("straight-through", "cubic"))
    assert 0.2 < np.abs(straight - cubic).mean() < 1


@pytest.mark.parametrize("kernel", FILTERS)
@pytest.mark.parametrize("size", [(45, 70), (97, 130), (16, 32)])
def test_scaling_is_that_of_pillow(kernel: str, size: tuple[int, int]) -> None:
    pixels = photograph(64, 96)
    real = np.asarray(Image.fromarray(pixels).resize(size[::-1], FILTERS[kernel]))
    got = levels(resize(tensor(pixels), *size, kernel).clamp(0, 1))
    assert error(got, real).max() <= 1


def test_resize_leaves_a_small_picture_at_random_places() -> None:
    pixels = photograph(64, 96)
    real = Image.fromarray(pixels).resize((58, 38), Image.Resampling.BICUBIC)
    corners = set()
    for seed in range(8):
        got = levels(edit("resize", scale=[0.6, 0.6])(tensor(pixels), random.Random(seed)))
        found = [
            (top, left)
            for top in range(64 - 38 + 1)
            for left in range(96 - 58 + 1)
            if error(got[top : top + 38, left : left + 58], np.asarray(real)).max() <= 1
        ]
        assert len(found) == 1
        corners |= set(found)
    assert len({top for top, _ in corners}) > 4 and len({left for _, left in corners}) > 4


@pytest.mark.parametrize(("down", "right"), [(0, 0), (5, 9), (17, 23), (-6, 3)])
def test_place_fills_the_frame_by_reflection(down: int, right: int) -> None:
    pixels = photograph(20, 24)
    wide = np.pad(pixels, ((60, 60), (60, 60), (0, 0)), mode="reflect")
    got = levels(place(tensor(pixels), 40, 48, down, right))
    assert np.array_equal(got, wide[60 - down : 100 - down, 60 - right : 108 - right])


def test_resample_is_there_and_back() -> None:
    pixels = photograph(64, 96)
    small = Image.fromarray(pixels).resize((67, 45), Image.Resampling.LANCZOS)
    real = np.asarray(small.resize((96, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(real, Attack("resize", {"scale": 0.7, "back": 1}).apply(pixels))
    assert error(fixed("resample", pixels, scale=[0.7, 0.7], filters=["lanczos"]), real).max() <= 2


@pytest.mark.parametrize("size", [3, 5])
def test_median_is_the_real_one(size: int) -> None:
    pixels = photograph(32, 48)
    assert np.array_equal(fixed("median", pixels, size=[size]), Attack("median", {"size": size}).apply(pixels))


def test_shift_moves_both_ways_along_both_axes() -> None:
    pixels = photograph(48, 64)
    wide = np.pad(pixels, ((15, 15), (15, 15), (0, 0)), mode="reflect")
    windows = {(d, r): wide[15 - d : 63 - d, 15 - r : 79 - r] for d in (-15, 15) for r in (-15, 15)}
    seen = set()
    for seed in range(30):
        got = levels(edit("shift", pixels=[15, 15])(tensor(pixels), random.Random(seed)))
        seen |= {key for key, window in windows.items() if np.array_equal(got, window)}
    assert seen == set(windows)


@pytest.mark.parametrize(("name", "factor"), [("lighten", 1.5), ("lighten", 1.2), ("darken", 0.5)])
def test_lightness_is_scaled_as_really(name: str, factor: float) -> None:
    pixels = np.concatenate([photograph(32, 64), np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)])
    real = Attack(name, {"factor": factor}).apply(pixels)
    assert error(fixed(name, pixels, factor=[factor, factor]), real).max() <= 1


def test_sharpen_is_the_real_one() -> None:
    pixels = photograph(32, 48)
    real = Attack("sharpen").apply(pixels)
    assert error(fixed("sharpen", pixels, amount=[1, 1]), real)[1:-1, 1:-1].max() <= 1
    assert np.array_equal(fixed("sharpen", pixels, amount=[0, 0]), pixels)


def test_equalize_is_the_real_one_for_each_picture() -> None:
    dull = (90 + photograph(64, 64) // 8).astype(np.uint8)
    both = edit("equalize")(tensor(dull, photograph(64, 64)), random.Random(0))
    for index, pixels in enumerate((dull, photograph(64, 64))):
        assert error(levels(both[index:]), Attack("equalize").apply(pixels)).max() <= 1


def test_equalize_has_the_slope_of_its_table() -> None:
    dull = (90 + photograph(64, 64) // 8).astype(np.uint8)
    x = torch.nextafter(tensor(dull), torch.zeros(())).requires_grad_()  # as rounding may leave 8-bit levels
    edit("equalize")(x, random.Random(0)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    for channel in range(3):
        counts = np.bincount(dull[..., channel].ravel(), minlength=256)
        step = (64 * 64 - counts[dull[..., channel].max()]) // 255
        table = (np.cumsum(counts) / step)[dull[..., channel]]
        between = (table < 255) & (dull[..., channel] > dull[..., channel].min())  # neither black nor white
        expected = counts[dull[..., channel]] / step
        assert np.allclose(x.grad[0, channel].numpy()[between], expected[between], rtol=1e-3)
        assert between.mean() > 0.85


@pytest.mark.parametrize(("quality", "correlation"), [(60, 0.4), (80, 0.7), (95, 0.8)])
def test_webp_loses_about_what_webp_does(quality: int, correlation: float) -> None:
    pixels = photograph(128, 160)
    real = (Attack("webp", {"quality": quality}).apply(pixels) - pixels.astype(float)).ravel()
    simulated = (fixed("webp", pixels, quality=[quality, quality]) - pixels).ravel()
    assert np.corrcoef(real, simulated)[0, 1] > correlation
    assert 0.6 < simulated.std() / real.std() < 1.2
    assert np.sqrt(((simulated - real) ** 2).mean()) < 0.9 * real.std()


def test_webp_is_stronger_at_lower_quality() -> None:
    pixels = photograph(64, 64)
    lost = [error(fixed("webp", pixels, quality=[q, q]), pixels).mean() for q in (30, 60, 80, 95, 100)]
    assert lost == sorted(lost, reverse=True)


def test_webp_shows_what_libwebp_makes_with_the_gradient_of_the_stand_in() -> None:
    pixels = photograph(64, 64)
    gradients = {}
    for simulation in ("libwebp", "stand-in"):
        x = tensor(pixels).requires_grad_()
        edited = edit("webp", quality=[70, 70], simulation=simulation)(x, random.Random(1))
        (gradients[simulation],) = torch.autograd.grad(edited[..., ::3].sum(), x)
        exact = np.array_equal(levels(edited.detach()).round(), Attack("webp", {"quality": 70}).apply(pixels))
        assert exact == (simulation == "libwebp")
    differs = (gradients["libwebp"] - gradients["stand-in"]).abs() > 1e-3  # where one of the two is clipped
    assert float(differs.float().mean()) < 0.05
    assert float(gradients["libwebp"].std()) > 0.1


def test_noise_is_white_and_of_its_strength() -> None:
    x = torch.full((4, 3, 64, 64), 0.5)
    torch.manual_seed(0)
    noise = (edit("noise", levels=[3, 3])(x, random.Random(0)) - x) * 255
    assert float(noise.std()) == pytest.approx(3, rel=0.02) and abs(float(noise.mean())) < 0.05
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.1


def test_turn_makes_every_symmetry_of_a_square_but_the_identity() -> None:
    pixels = photograph(32, 32)
    x = tensor(pixels)
    turned = {edit("turn")(x, random.Random(seed)).numpy().tobytes() for seed in range(60)}
    by_quarters = [np.rot90(picture, quarters) for picture in (pixels, pixels[:, ::-1]) for quarters in range(4)]
    expected = {tensor(np.ascontiguousarray(picture)).numpy().tobytes() for picture in by_quarters[1:]}
    assert turned == expected


def test_turn_keeps_the_sides_of_other_pictures() -> None:
    x = tensor(photograph(32, 48))
    turned = {edit("turn")(x, random.Random(seed)) for seed in range(40)}
    assert {tuple(picture.shape) for picture in turned} == {tuple(x.shape)}
    assert {picture.numpy().tobytes() for picture in turned} == {
        picture.contiguous().numpy().tobytes() for picture in (x.flip(2, 3), x.flip(3), x.flip(2))
    }


def test_codec_passes_the_picture_through_a_frozen_network() -> None:
    asked: list[str] = []
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))

    def load(model: str) -> nn.Module:
        asked.append(model)
        return net

    made = make_edit({"name": "codec", "model": "vanilla"}, load)
    x = tensor(photograph(32, 32)).requires_grad_()
    edited = made(x, random.Random(0))
    edited.sum().backward()  # type: ignore[no-untyped-call]
    assert asked == ["vanilla"] and torch.equal(edited, net(x).clamp(0, 1))
    assert x.grad is not None and x.grad.any()
    assert not net.training and all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_autocast_leaves_pixels_exact() -> None:
    x = tensor(photograph(32, 48))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = edit("resample")(x, random.Random(0)), edit("codec")(x, random.Random(0))
    assert torch.equal(inside[0], edit("resample")(x, random.Random(0)))
    assert 0 < (inside[1] - edit("codec")(x, random.Random(0))).abs().max() < 0.02  # networks may do as they like


def test_chain_is_two_different_edits_by_weight() -> None:
    tables: list[dict[str, object]] = [
        {"name": "lighten", "factor": [1.2, 1.2]},
        {"name": "blur", "variance": [1, 1]},
        {"name": "shift", "weight": 0},
    ]
    pixels = photograph(32, 32)
    x = tensor(pixels)
    lighten, blur = (make_edit(table) for table in tables[:2])
    orders = [
        blur(lighten(x, random.Random(0)), random.Random(0)),
        lighten(blur(x, random.Random(0)), random.Random(0)),
    ]
    seen = set()
    for seed in range(12):
        chained = edit("chain", edits=tables)(x, random.Random(seed))
        seen |= {index for index, expected in enumerate(orders) if torch.equal(chained, expected)}
    assert seen == {0, 1} and not torch.equal(*orders)


def test_tables_of_recipes_become_edits() -> None:
    text = """
    [[edits]]
    name = "blur"
    weight = 2
    variance = [0.5, 0.5]
    kernel = 5
    [[edits]]
    name = "chain"
    edits = [{name = "none"}, {name = "median", size = [3]}]
    """
    blur, chain = (make_edit(table) for table in tomllib.loads(text)["edits"])
    assert blur.weight == 2 and chain.weight == 1 and blur == edit("blur", weight=2, variance=(0.5, 0.5), kernel=5)
    x = tensor(photograph(32, 32))
    assert torch.equal(blur(x, random.Random(0)), gaussian_blur(x, 0.5, 5).clamp(0, 1))
    assert torch.equal(chain(x, random.Random(0)), edit("median", size=[3])(x, random.Random(0)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"name: expected one of none, blur, .* got None"),
        ({"name": "blurr"}, r"name: expected one of none, blur, .* got 'blurr'"),
        ({"name": ["blur"]}, r"name: expected one of .* got \['blur'\]"),
        ({"name": "blur", "sigma": 1}, r"blur: expected the keys weight, variance, kernel, got 'sigma'"),
        ({"name": "codec", "network": 1}, r"codec: expected the keys weight, model, got 'network'"),
        ({"name": "blur", "variance": [1.5, 0.1]}, r"blur, variance: expected two numbers in order, .*\[1.5, 0.1\]"),
        ({"name": "blur", "variance": 1.5}, r"blur, variance: expected two numbers in order, 0.01 to 25, got 1.5"),
        ({"name": "blur", "variance": [0.1, 1, 2]}, r"blur, variance: expected two numbers"),
        ({"name": "blur", "variance": [0.1, "1"]}, r"blur, variance: expected two numbers"),
        ({"name": "blur", "variance": [0.1, float("nan")]}, r"blur, variance: expected two numbers"),
        ({"name": "blur", "variance": [0, 1]}, r"blur, variance: .* 0.01 to 25, got \[0, 1\]"),
        ({"name": "blur", "kernel": 4}, r"blur, kernel: expected one of 3, 5, .* got 4"),
        ({"name": "jpeg", "quality": [70.5, 90]}, r"jpeg, quality: expected two whole numbers .* got \[70.5, 90\]"),
        ({"name": "jpeg", "quality": [False, 90]}, r"jpeg, quality: expected two whole numbers"),
        ({"name": "jpeg", "quality": [70, 101]}, r"jpeg, quality: .* 1 to 100, got \[70, 101\]"),
        ({"name": "jpeg", "chroma": []}, r"jpeg, chroma: expected a list of some of '4:2:0', '4:4:4', got \[\]"),
        ({"name": "jpeg", "chroma": "4:2:0"}, r"jpeg, chroma: expected a list"),
        ({"name": "jpeg", "simulation": "exact"}, r"jpeg, simulation: expected one of .* got 'exact'"),
        ({"name": "jpeg", "simulation": "unet"}, r"jpeg, weights: expected the path of UNetJPEG's weights, got ''"),
        ({"name": "jpeg", "weights": "a"}, r"jpeg, weights: expected simulation = \"unet\" with it, got 'a'"),
        ({"name": "jpeg", "weights": 3}, r"jpeg, weights: expected text, got 3"),
        ({"name": "median", "size": [3, 4]}, r"median, size: expected a list of some of 3, 5, got \[3, 4\]"),
        ({"name": "noise", "weight": -1}, r"noise, weight: expected a number, 0 or more, got -1"),
        ({"name": "noise", "weight": float("inf")}, r"noise, weight: expected a number, 0 or more, got inf"),
        ({"name": "noise", "weight": "1"}, r"noise, weight: expected a number, 0 or more, got '1'"),
        ({"name": "codec", "model": "x"}, r"codec, model: expected a codec that can be loaded here, got 'x'"),
        ({"name": "chain", "edits": "blur"}, r"chain, edits: expected a list of tables, got 'blur'"),
        (
            {"name": "chain", "edits": [{"name": "blur"}]},
            r"chain, edits: expected two or more of positive weight, got 1",
        ),
        ({"name": "chain", "edits": [{"name": "blur", "kernel": 4}]}, r"blur, kernel: expected"),
    ],
)
def test_wrong_tables_are_refused(table: Mapping[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_edit(table)
