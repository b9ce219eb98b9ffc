"""Each edit against an expectation of its own, and the words that ask for edits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from slic_cli import attacks
from slic_cli.attacks import EDITS, Attack, describe, missing_format, parse_attack, parse_attacks
from slic_cli.errors import UsageError

Pixels = npt.NDArray[np.uint8]

PAPER = ["crop", "blur", "median", "lighten", "sharpen", "equalize", "affine", "jpeg"]
OTHERS = ["darken", "copy-border", "resize", "webp"]
FURTHER = ["avif", "jxl", "crop-grid", "rotate", "mirror", "turn", "grey", "noise", "screenshot", "splice", "inpaint"]
LOCAL = ["splice", "inpaint"]
HERE = [name for name in PAPER + OTHERS + FURTHER if not missing_format(name)]


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where an edit's file format cannot be written."""
    return pytest.mark.skipif(missing_format(name) is not None, reason=f"needs {missing_format(name)}")


DOCUMENT = Path(__file__).parents[1] / "docs" / "attacks.md"


def noise(height: int, width: int, low: int = 0, high: int = 256) -> Pixels:
    return np.random.default_rng(height * 1000 + width).integers(low, high, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """A picture with slow changes of moderate colours."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + x, 70 + y, 110 + (x - y) // 2], axis=2).astype(np.uint8)


def impulse(height: int, width: int, value: int, background: int = 0) -> Pixels:
    """One grey dot in the middle."""
    pixels = np.full((height, width, 3), background, np.uint8)
    pixels[height // 2, width // 2] = value
    return pixels


def test_all_is_every_edit_in_order() -> None:
    assert [attack.name for attack in parse_attacks(["all"])] == PAPER + OTHERS
    assert list(EDITS) == PAPER + OTHERS + FURTHER


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 17), (33, 31), (16, 16)])
@pytest.mark.parametrize("name", [*HERE, "resize:back=1", "median:size=9", "blur:radius=20"])
def test_every_edit_takes_every_size(name: str, shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    before = pixels.copy()
    pixels.setflags(write=False)
    attack = parse_attack(name)
    edited = attack.apply(pixels)
    assert edited.dtype == np.uint8 and edited.ndim == 3 and edited.shape[2] == 3 and edited.size
    assert edited.flags.c_contiguous and edited.flags.writeable and not np.shares_memory(edited, pixels)
    assert np.array_equal(pixels, before)
    assert np.array_equal(attack.apply(pixels), edited)


@pytest.mark.parametrize("name", [name for name in HERE if name not in LOCAL])
def test_every_edit_changes_a_picture(name: str) -> None:
    pixels = noise(40, 50)
    edited = Attack(name).apply(pixels)
    assert edited.shape != pixels.shape or np.mean(edited != pixels) > 0.3


def test_input_need_not_be_contiguous() -> None:
    wide = noise(20, 60)
    assert np.array_equal(Attack("blur").apply(wide[:, ::-2]), Attack("blur").apply(wide[:, ::-2].copy()))


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_only_rgb_bytes_are_edited(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Attack("blur").apply(pixels)


@pytest.mark.parametrize("length", range(1, 400, 7))
def test_crop_keeps_the_middle_off_the_grid(length: int) -> None:
    columns = np.broadcast_to(np.arange(length)[None, :, None], (1, length, 3))
    low, high = (columns % 256).astype(np.uint8), (columns // 256).astype(np.uint8)
    kept = [Attack("crop").apply(part)[0, :, 0].astype(int) for part in (low, high)]
    positions = kept[0] + 256 * kept[1]
    assert len(positions) == max(1, round(0.9 * length))
    assert np.array_equal(positions, np.arange(len(positions)) + positions[0])
    spare = length - len(positions)
    assert abs(positions[0] - spare / 2) <= 1
    assert spare == 0 or positions[0] % 16 != 0


def test_crop_of_everything_changes_nothing() -> None:
    assert np.array_equal(Attack("crop", {"fraction": 1}).apply(noise(9, 8)), noise(9, 8))


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_blur_spreads_a_dot_by_its_radius(radius: float) -> None:
    dot = impulse(41, 41, 255)
    dot[19:22, 19:22] = 255
    weights = Attack("blur", {"radius": radius}).apply(dot)[..., 1].astype(float)
    x = np.arange(41) - 20
    variance = (weights.sum(axis=0) * x**2).sum() / weights.sum()
    assert variance == pytest.approx(radius**2 + 2 / 3, rel=0.15)  # the square of dots has a variance of 2/3
    assert weights.sum() == pytest.approx(9 * 255, rel=0.1)


def test_median_removes_a_dot_and_keeps_an_edge() -> None:
    assert (Attack("median").apply(impulse(9, 9, 255, 40)) == 40).all()
    edge = np.zeros((9, 9, 3), np.uint8)
    edge[:, 5:] = 200
    assert np.array_equal(Attack("median").apply(edge), edge)


def test_median_is_the_middle_of_the_square() -> None:
    pixels = noise(7, 7)
    edited = Attack("median", {"size": 5}).apply(pixels)
    assert np.array_equal(edited[3, 3], np.median(pixels[1:6, 1:6].reshape(25, 3), axis=0))


def lightness(pixels: Pixels) -> npt.NDArray[np.float64]:
    """CIE L of sRGB pixels from 0 to 100, by the colour management in Pillow."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(pixels), *profiles, outputMode="LAB")
    assert lab is not None
    return np.asarray(lab)[..., 0] / 2.55


@pytest.mark.parametrize(("name", "factor"), [("lighten", 1.5), ("darken", 0.5)])
def test_lightness_is_multiplied(name: str, factor: float) -> None:
    pixels = smooth()
    expected = lightness(pixels) * factor
    assert expected.min() > 15 and expected.max() < 95  # moderate, so that nothing is clipped
    assert np.abs(lightness(Attack(name).apply(pixels)) - expected).max() < 1.5


def test_lightness_of_known_greys() -> None:
    """The greys 119 and 185 have L = 50.03 and 75.1, and 59 has L = 24.8."""
    grey = np.full((1, 1, 3), 119, np.uint8)
    assert (Attack("lighten").apply(grey) == 185).all()
    assert (Attack("darken").apply(grey) == 59).all()


def test_lighten_goes_no_further_than_white() -> None:
    assert (Attack("lighten").apply(np.full((2, 2, 3), 220, np.uint8)) == 255).all()
    assert (Attack("lighten").apply(np.zeros((2, 2, 3), np.uint8)) == 0).all()
    # L stops at 100 while b stays, so that a pale yellow keeps its tint.
    yellow = Attack("lighten").apply(np.full((1, 1, 3), (250, 245, 180), np.uint8))[0, 0]
    assert yellow[2] < 210 < yellow[0]


@pytest.mark.parametrize("name", ["lighten:factor=1", "darken:factor=1"])
def test_lightness_times_one_changes_nothing(name: str) -> None:
    """A way into LAB and back without loss, over more pixels than are converted at a time."""
    pixels = noise(700, 701)
    assert np.array_equal(parse_attack(name).apply(pixels), pixels)


def test_sharpen_of_a_dot() -> None:
    edited = Attack("sharpen").apply(impulse(7, 7, 110, 100))[..., 0]
    expected = np.full((7, 7), 100)
    expected[2:5, 2:5] = 90
    expected[3, 3] = 9 * 110 - 8 * 100
    assert np.array_equal(edited, expected)


def test_equalize_spreads_each_channel() -> None:
    pixels = noise(64, 64, 100, 140)
    edited = Attack("equalize").apply(pixels)
    for channel in range(3):
        assert edited[..., channel].min() < 10 and edited[..., channel].max() > 245
        counts = np.histogram(edited[..., channel], bins=4, range=(0, 256))[0]
        assert counts.min() > 0.8 * 1024 and counts.max() < 1.2 * 1024


def test_affine_keeps_the_middle_and_blackens_the_corners() -> None:
    edited = Attack("affine").apply(np.full((90, 120, 3), 200, np.uint8))
    assert edited.shape == (90, 120, 3)
    assert (edited[30:60, 40:100] == 200).all()
    for corner in (edited[0, 0], edited[-1, 0], edited[-1, -1]):
        assert (corner == 0).all()


def test_affine_rotation_is_that_of_pillow() -> None:
    pixels = smooth()
    edited = parse_attack("affine:scale=1,shift=0,degrees=25").apply(pixels)
    expected = np.asarray(Image.fromarray(pixels).rotate(25, Image.Resampling.BILINEAR))
    assert np.abs(edited.astype(int) - expected).max() <= 1


def test_affine_shift_and_scale() -> None:
    pixels = noise(20, 30)
    shifted = parse_attack("affine:degrees=0,scale=1,shift=7").apply(pixels)
    assert np.array_equal(shifted[:, 7:], pixels[:, :-7]) and not shifted[:, :7].any()
    halved = parse_attack("affine:degrees=0,scale=0.5,shift=0").apply(np.full((40, 40, 3), 90, np.uint8))
    assert (halved[10:30, 10:30] == 90).all() and halved.sum() == 90 * 20 * 20 * 3


@pytest.mark.parametrize(
    ("text", "file_format", "options"),
    [
        ("jpeg", "JPEG", {"quality": 85}),
        ("jpeg:quality=60", "JPEG", {"quality": 60}),
        ("webp", "WEBP", {"quality": 80}),
        pytest.param("avif", "AVIF", {"quality": 60}, marks=needs("avif")),
        pytest.param("jxl", "JXL", {"quality": 80}, marks=needs("jxl")),
    ],
)
def test_file_formats_are_round_trips(text: str, file_format: str, options: dict[str, int]) -> None:
    pixels = smooth(37, 53)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    assert np.array_equal(parse_attack(text).apply(pixels), np.asarray(Image.open(file)))


@pytest.mark.parametrize(("name", "width"), [("jpeg", 65501), ("webp", 16384)])
def test_file_formats_refuse_what_they_cannot_hold(name: str, width: int) -> None:
    with pytest.raises(UsageError, match=f"{width} x 1 picture as {name.upper()}"):
        Attack(name).apply(np.zeros((1, width, 3), np.uint8))


def test_copy_border_frames_the_picture() -> None:
    pixels = noise(30, 70)
    edited = Attack("copy-border").apply(pixels)
    assert edited.shape == (44, 84, 3)
    assert np.array_equal(edited[7:-7, 7:-7], pixels)
    assert edited.sum(dtype=int) == pixels.sum(dtype=int)


def test_resize_scales_and_can_scale_back() -> None:
    pixels = smooth(50, 80)
    assert Attack("resize").apply(pixels).shape == (35, 56, 3)
    back = Attack("resize", {"back": 1}).apply(pixels)
    assert back.shape == pixels.shape
    assert 0 < np.abs(back.astype(int) - pixels).max() <= 6


@pytest.mark.parametrize("name", ["avif", "jxl"])
def test_a_missing_format_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "missing_format", lambda _: "a certain package")
    with pytest.raises(UsageError, match=f"{name}: expected a certain package, got"):
        Attack(name).apply(noise(8, 8))


@pytest.mark.parametrize("length", range(1, 400, 7))
def test_crop_on_the_grid(length: int) -> None:
    columns = np.broadcast_to(np.arange(length)[None, :, None], (1, length, 3))
    low, high = (columns % 256).astype(np.uint8), (columns // 256).astype(np.uint8)
    kept = [Attack("crop-grid").apply(part)[0, :, 0].astype(int) for part in (low, high)]
    positions = kept[0] + 256 * kept[1]
    assert np.array_equal(positions, np.arange(max(1, round(0.9 * length))) + positions[0])
    assert positions[0] % 16 == 0 and 0 <= (length - len(positions)) // 2 - positions[0] < 16


@pytest.mark.parametrize("degrees", [-45, -10, -1, 0.1, 5, 10, 30, 45])
@pytest.mark.parametrize("shape", [(90, 120), (120, 90), (101, 100)])
def test_rotate_leaves_no_gaps_and_wastes_little(degrees: float, shape: tuple[int, int]) -> None:
    edited = Attack("rotate", {"degrees": degrees}).apply(np.full((*shape, 3), 200, np.uint8))
    assert edited[2:-2, 2:-2].min() == 200  # bicubic sampling may reach over the rim
    assert edited.shape[1] / edited.shape[0] == pytest.approx(shape[1] / shape[0], rel=0.03)
    angle = np.radians(abs(degrees))
    reach = (
        0.5 * (edited.shape[1] * np.cos(angle) + edited.shape[0] * np.sin(angle)),
        0.5 * (edited.shape[1] * np.sin(angle) + edited.shape[0] * np.cos(angle)),
    )
    spare = shape[1] / 2 - reach[0], shape[0] / 2 - reach[1]
    assert -0.01 <= min(spare) < 1.5  # the corners just touch the border of the picture that was rotated


def test_rotate_turns_as_affine_does() -> None:
    pixels = smooth(90, 120)
    turned = Attack("rotate", {"degrees": 10}).apply(pixels)
    other = parse_attack("affine:scale=1,shift=0").apply(pixels)
    top, left = (90 - turned.shape[0]) // 2, (120 - turned.shape[1]) // 2
    inside = other[top : top + turned.shape[0], left : left + turned.shape[1]].astype(int)
    assert np.abs(inside - turned)[2:-2, 2:-2].max() <= 1


def test_mirror_turn_and_grey() -> None:
    pixels = noise(6, 9)
    assert np.array_equal(Attack("mirror").apply(pixels), pixels[:, ::-1])
    assert np.array_equal(Attack("turn").apply(pixels), np.rot90(pixels))
    assert np.array_equal(Attack("turn", {"quarters": 3}).apply(pixels), np.rot90(pixels, 3))
    grey = Attack("grey").apply(pixels)
    assert (grey == grey[..., :1]).all() and grey[..., 0].std() > 0


def test_noise_has_its_deviation_and_its_seed() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    added = parse_attack("noise:sigma=5").apply(grey).astype(float) - 128
    assert added.std() == pytest.approx(5, rel=0.02)
    assert abs(added.mean()) < 0.1
    other = parse_attack("noise:sigma=5,seed=1").apply(grey).astype(float) - 128
    assert abs((added * other).mean()) < 0.5
    assert np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1] < 0.05


def test_screenshot_scales_and_brightens() -> None:
    assert Attack("screenshot").apply(smooth(50, 80)).shape == (45, 72, 3)
    edited = parse_attack("screenshot:gamma=2,scale=0.5").apply(np.full((8, 8, 3), 64, np.uint8))
    assert (edited == round(255 * (64 / 255) ** 0.5)).all()
    same = parse_attack("screenshot:gamma=1,scale=1").apply(smooth())
    assert np.array_equal(same, smooth())


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("shape", [(40, 60), (33, 31), (1, 1), (3, 200)])
@pytest.mark.parametrize("share", [0.02, 0.25, 0.9])
def test_local_edits_stay_in_their_area(name: str, shape: tuple[int, int], share: float) -> None:
    pixels = noise(*shape)
    attack = Attack(name, {"share": share})
    area = attack.area(*shape)
    assert area is not None
    top, left, bottom, right = area
    changed = (attack.apply(pixels) != pixels).any(axis=2)
    assert changed.any() or shape == (1, 1)
    changed[top:bottom, left:right] = False
    assert not changed.any()
    assert (bottom - top, right - left) == tuple(max(1, round(share * side)) for side in shape)


def test_other_edits_have_no_area() -> None:
    assert all(Attack(name).area(20, 30) is None for name in EDITS if name not in LOCAL)


def test_text_is_parsed_again() -> None:
    for text in [*EDITS, "affine:degrees=-7.25,scale=0.333", "noise:seed=9999", "crop:fraction=0.1"]:
        attack = parse_attack(text)
        assert parse_attack(attack.text) == attack
    assert (Attack("jpeg").text, Attack("sharpen").text) == ("jpeg:quality=85", "sharpen")


def test_parse_fills_in_defaults() -> None:
    assert parse_attack(" jpeg ") == parse_attack("jpeg:quality=85") == Attack("jpeg", {"quality": 85.0})
    attack = parse_attack("affine: degrees = -5 , shift=0")
    assert attack.parameters == {"degrees": -5, "scale": 0.95, "shift": 0}


def test_parse_removes_repeats_and_keeps_order() -> None:
    attacks = parse_attacks(["jpeg:quality=75", "blur", "jpeg:quality=75.0", "all", "blur:radius=1", "blur:radius=2"])
    labels = [attack.label for attack in attacks]
    assert labels[:3] == ["jpeg 75", "blur r=1", "crop 0.9"] and labels[-1] == "blur r=2"
    assert len(labels) == len(set(labels)) == 14
    assert parse_attacks([]) == []


@pytest.mark.parametrize(
    ("text", "label", "slug"),
    [
        ("jpeg", "jpeg 85", "jpeg-85"),
        ("blur", "blur r=1", "blur-r=1"),
        ("equalize", "equalize", "equalize"),
        ("affine", "affine 10deg x0.95 10px", "affine-10deg-x0.95-10px"),
        ("affine:shift=0", "affine 10deg x0.95", "affine-10deg-x0.95"),
        ("resize:back=1", "resize x0.7 and back", "resize-x0.7-and-back"),
        ("blur:radius=1.0000001", "blur r=1.0000001", "blur-r=1.0000001"),
    ],
)
def test_labels(text: str, label: str, slug: str) -> None:
    assert (parse_attack(text).label, parse_attack(text).slug) == (label, slug)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr", "unknown edit 'blurr': expected one of crop, blur, "),
        ("", "unknown edit ''"),
        ("all:quality=3", "unknown edit 'all'"),
        ("blur:sigma=1", "blur has no 'sigma', expected: radius"),
        ("equalize:bins=3", "equalize has no 'bins', expected: nothing"),
        ("blur:radius=0", "blur radius: expected 0.1 to 50, got 0.0"),
        ("blur:radius=nan", "blur radius: expected 0.1 to 50, got nan"),
        ("blur:radius=inf", "blur radius: expected 0.1 to 50, got inf"),
        ("median:size=4", "median size: expected odd, 3 to 9, got 4.0"),
        ("median:size=nan", "median size: expected odd, 3 to 9, got nan"),
        ("jpeg:quality=75.5", "jpeg quality: expected whole, 1 to 100, got 75.5"),
        ("jpeg:quality=good", "jpeg quality: expected a number, got 'good'"),
        ("jpeg:quality=", "jpeg quality: expected a number, got ''"),
        ("jpeg:", "expected NAME:key=value"),
        ("jpeg:75", "expected NAME:key=value"),
        ("jpeg:=75", "expected NAME:key=value"),
        ("jpeg:quality=75,", "expected NAME:key=value"),
        ("jpeg:quality=75,quality=85", "each key once"),
    ],
)
def test_parse_refuses_with_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_attacks(["blur", text])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_ends_of_every_range_work() -> None:
    for name in HERE:
        for parameter in EDITS[name].parameters.values():
            assert parameter.allows(parameter.default)
            for value in (parameter.minimum, parameter.maximum):
                Attack(name, {parameter.name: value}).apply(noise(11, 12))


def test_description_names_everything() -> None:
    text = describe()
    for name, edit in EDITS.items():
        assert f"{name}: {edit.summary}" in text
        assert all(f"  {parameter.name}={parameter.default:g}: " in text for parameter in edit.parameters.values())


def test_documentation_lists_every_edit_and_parameter() -> None:
    """All columns but the last, which says where a default comes from, must be what the code says."""
    expected = []
    for name, edit in EDITS.items():
        start = [f"`{name}`", edit.summary]
        for p in edit.parameters.values():
            expected.append([*start, f"`{p.name}`: {p.meaning}", f"{p.default:g}", p.range_text])
            start = ["", ""]
        if not edit.parameters:
            expected.append([*start, "none", "", ""])
    lines = DOCUMENT.read_text(encoding="utf-8").split("| edit | what it does |")[1].splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:] if line.startswith("|")]
    assert [row[:-1] for row in table] == expected
    assert all(row[-1] for row in table)
