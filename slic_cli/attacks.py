"""Edits an attacker might make to a decoded picture before it is compressed again.

The first eight are those of Huang & Wu 2025; darken and copy-border come from its reference code, resize and
webp from everyday sharing. These twelve are what "all" stands for; those after them are asked for by name. Each is
declared once, by an @_edit that parser, labels and help go by.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps, features

from slic_cli.errors import UsageError
from slic_cli.local_edits import Box, centre_box, inpaint_box, splice_box

Pixels = npt.NDArray[np.uint8]
Picture = Image.Image


@dataclass(frozen=True)
class Parameter:
    """A strength of an edit. `step` 0 allows any number of the range, 1 whole numbers, 2 odd ones."""

    name: str
    default: float
    minimum: float
    maximum: float
    meaning: str
    shown: str  # how a label shows the value; 0 always means "not done" and is left out of labels
    step: int = 0

    @property
    def range_text(self) -> str:
        """The values allowed, in words."""
        return f"{('', 'whole, ', 'odd, ')[self.step]}{self.minimum:g} to {self.maximum:g}"

    def allows(self, value: float) -> bool:
        """Whether `value` is in the range and on a step; false for NaN."""
        on_step = not self.step or (value - self.minimum) % self.step == 0
        return self.minimum <= value <= self.maximum and on_step


@dataclass(frozen=True)
class Edit:
    """A kind of edit: `run(picture, **values)` gives the edited RGB picture, a new one.

    `common` edits are those of "all". An edit of a part of the picture has `area(height, width, **values)`, the box
    outside which no pixel changes.
    """

    summary: str
    parameters: dict[str, Parameter]
    run: Callable[..., Picture]
    common: bool = True
    area: Callable[..., Box] | None = None


EDITS: dict[str, Edit] = {}  # by name, in the order in which "all" applies the common ones


@dataclass(frozen=True)
class Attack:
    """One edit at one strength, else at its default; UsageError for unknown names and values out of range."""

    name: str
    parameters: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.name not in EDITS:
            raise UsageError(f"unknown edit {self.name!r}: expected one of {', '.join(EDITS)}")
        known = EDITS[self.name].parameters
        for key, value in self.parameters.items():
            if key not in known:
                raise UsageError(f"{self.name} has no {key!r}, expected: {', '.join(known) or 'nothing'}")
            if not known[key].allows(value):
                raise UsageError(f"{self.name} {key}: expected {known[key].range_text}, got {value!r}")
        complete = {key: float(self.parameters.get(key, known[key].default)) for key in known}
        object.__setattr__(self, "parameters", complete)

    @property
    def label(self) -> str:
        """A short name for people, such as "jpeg 85" or "blur r=1"; distinct attacks have distinct labels."""
        strengths = zip(EDITS[self.name].parameters.values(), self.parameters.values(), strict=True)
        return " ".join([self.name, *(p.shown.format(f"{value:.15g}") for p, value in strengths if value)])

    @property
    def text(self) -> str:
        """What parse_attack reads as this attack, every strength given, such as "jpeg:quality=85"."""
        settings = ",".join(f"{key}={value:.15g}" for key, value in self.parameters.items())
        return f"{self.name}:{settings}" if settings else self.name

    @property
    def slug(self) -> str:
        """The label as part of a file name, such as "jpeg-85" or "affine-10deg-x0.95-10px"."""
        return self.label.replace(" ", "-")

    def apply(self, pixels: Pixels) -> Pixels:
        """The edited picture: uint8 (h, w, 3), contiguous; `pixels`, sRGB uint8 (H, W, 3), is left as it is.

        Any size from 1 x 1 will do. UsageError if a file format cannot hold it, ValueError if not uint8 RGB.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"expected uint8 (H, W, 3) pixels, got {pixels.dtype} {pixels.shape}")
        return np.array(EDITS[self.name].run(Image.fromarray(pixels), **self.parameters))

    def area(self, height: int, width: int) -> Box | None:
        """Of an edit of a part, the box that it changes in a picture of that size; None where all may change."""
        area = EDITS[self.name].area
        return area(height, width, **self.parameters) if area else None


def parse_attack(text: str) -> Attack:
    """The attack that "NAME[:key=value,...]" asks for, such as "jpeg:quality=75"; else raises UsageError."""
    name, colon, settings = text.strip().partition(":")
    values: dict[str, float] = {}
    for setting in settings.split(",") if colon else ():
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not key or not equals or key in values:
            raise UsageError(f"expected NAME:key=value,... with each key once, got {text!r}")
        try:
            values[key] = float(value)
        except ValueError:
            raise UsageError(f"{name} {key}: expected a number, got {value!r}") from None
    return Attack(name, values)


def parse_attacks(texts: Sequence[str]) -> list[Attack]:
    """As parse_attack for each, in order and without repeats; "all" is every common edit at its default strength."""
    common = [name for name, edit in EDITS.items() if edit.common]
    groups = (map(Attack, common) if text.strip() == "all" else [parse_attack(text)] for text in texts)
    return list(dict.fromkeys(attack for group in groups for attack in group))


def describe() -> str:
    """The edits, each followed by its parameters, as plain text for the command's help."""
    lines = []
    for name, edit in EDITS.items():
        lines.append(f"{name}: {edit.summary}")
        for p in edit.parameters.values():
            lines.append(f"  {p.name}={p.default:g}: {p.meaning} ({p.range_text})")
    return "\n".join(lines)


def missing_format(name: str) -> str | None:
    """The package without which an edit cannot be made here, or None where it can."""
    if name in ("webp", "avif"):
        return None if features.check(name) else f"a Pillow with {name.upper()}"
    if name == "jxl":
        return None if importlib.util.find_spec("pillow_jxl") else "pillow-jxl-plugin"
    return None


def _edit(
    summary: str, *parameters: Parameter, common: bool = True, area: Callable[..., Box] | None = None
) -> Callable[[Callable[..., Picture]], Callable[..., Picture]]:
    """Declares the function below it as an edit of the same name."""

    def register(run: Callable[..., Picture]) -> Callable[..., Picture]:
        name = run.__name__[1:].replace("_", "-")
        EDITS[name] = Edit(summary, {p.name: p for p in parameters}, run, common, area)
        return run

    return register


@_edit("keeps the central part", Parameter("fraction", 0.9, 0.01, 1, "share of each side that is kept", "{}"))
def _crop(picture: Picture, fraction: float) -> Picture:
    width, height = (max(1, round(length * fraction)) for length in picture.size)
    spare = (picture.width - width, picture.height - height)
    # Odd offsets, for a cut between two of the codec's blocks of 16 pixels would move none of them.
    left, top = (min(length // 2 | 1, length) for length in spare)
    return picture.crop((left, top, left + width, top + height))


@_edit("blurs with a Gaussian", Parameter("radius", 1, 0.1, 50, "standard deviation in pixels", "r={}"))
def _blur(picture: Picture, radius: float) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(radius))


@_edit("median of a square, by channel", Parameter("size", 3, 3, 9, "side in pixels", "{}", step=2))
def _median(picture: Picture, size: float) -> Picture:
    return picture.filter(ImageFilter.MedianFilter(int(size)))


@_edit("raises lightness in CIE LAB", Parameter("factor", 1.5, 1, 4, "multiplies L, up to 100", "x{}"))
def _lighten(picture: Picture, factor: float) -> Picture:
    pixels = np.array(picture)
    for rows in np.array_split(pixels, -(-pixels.size // 2**20)):  # floats take many times a picture's memory
        rows[:] = _scale_lightness(rows, factor)
    return Image.fromarray(pixels)


# Linear sRGB to CIE XYZ (IEC 61966-2-1), each row divided by its sum so that white, D65, is (1, 1, 1).
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_XYZ /= _XYZ.sum(axis=1, keepdims=True)
_KNEE = 6 / 29  # where CIE LAB passes from a straight line to a cube root


def _scale_lightness(pixels: Pixels, factor: float) -> Pixels:
    """Scales L and keeps a and b; what leaves the sRGB gamut is clipped channel by channel."""
    srgb: npt.NDArray[np.float64] = pixels / 255
    xyz = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ _XYZ.T
    f = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    # L is 116 f(Y) - 16, and a and b are differences of two f: to change L alone, move all three f alike.
    lightness = 116 * f[..., 1:2] - 16
    f += (np.minimum(lightness * factor, 100) - lightness) / 116
    xyz = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = np.clip(xyz @ np.linalg.inv(_XYZ).T, 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)


@_edit("sharpens with a 3 x 3 kernel: centre 9, neighbours -1")
def _sharpen(picture: Picture) -> Picture:
    return picture.filter(ImageFilter.Kernel((3, 3), (-1, -1, -1, -1, 9, -1, -1, -1, -1), scale=1))


@_edit("equalizes the histogram, by channel")
def _equalize(picture: Picture) -> Picture:
    return ImageOps.equalize(picture)


@_edit(
    "rotates and scales about the centre, then shifts; bilinear, size kept, gaps black",
    Parameter("degrees", 10, -180, 180, "rotation, anticlockwise", "{}deg"),
    Parameter("scale", 0.95, 0.1, 4, "magnification", "x{}"),
    Parameter("shift", 10, -1000, 1000, "pixels to the right", "{}px"),
)
def _affine(picture: Picture, degrees: float, scale: float, shift: float) -> Picture:
    x, y = picture.width / 2, picture.height / 2
    a, b = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    # Pillow wants the way back, from a place in the output to its origin.
    back = (a, -b, x - a * (x + shift) + b * y, b, a, y - b * (x + shift) - a * y)
    return picture.transform(picture.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


@_edit("JPEG file, chroma 4:2:0", Parameter("quality", 85, 1, 100, "encoder setting", "{}", step=1))
def _jpeg(picture: Picture, quality: float) -> Picture:
    return _through_file(picture, "JPEG", quality=int(quality), subsampling="4:2:0")


def _through_file(picture: Picture, file_format: str, **options: Any) -> Picture:
    file = io.BytesIO()
    try:
        picture.save(file, file_format, **options)
    except (OSError, ValueError) as error:
        raise UsageError(f"a {picture.width} x {picture.height} picture as {file_format}: {error}") from error
    return Image.open(file)


@_edit("lowers lightness in CIE LAB", Parameter("factor", 0.5, 0.05, 1, "multiplies L", "x{}"))
def _darken(picture: Picture, factor: float) -> Picture:
    return _lighten(picture, factor)


@_edit("adds a black border", Parameter("fraction", 0.1, 0.01, 1, "width, of the longer side", "{}"))
def _copy_border(picture: Picture, fraction: float) -> Picture:
    return ImageOps.expand(picture, max(1, round(max(picture.size) * fraction)))


@_edit(
    "scales the picture (Lanczos) and keeps the new size",
    Parameter("scale", 0.7, 0.05, 2, "magnification", "x{}"),
    Parameter("back", 0, 0, 1, "1 to scale back to the first size", "and back", step=1),
)
def _resize(picture: Picture, scale: float, back: float) -> Picture:
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    scaled = picture.resize(size, Image.Resampling.LANCZOS)
    return scaled.resize(picture.size, Image.Resampling.LANCZOS) if back else scaled


@_edit("WebP file, lossy", Parameter("quality", 80, 1, 100, "encoder setting", "{}", step=1))
def _webp(picture: Picture, quality: float) -> Picture:
    return _through_file(picture, "WEBP", quality=int(quality))


def _quality(default: float) -> Parameter:
    return Parameter("quality", default, 1, 100, "encoder setting", "{}", step=1)


@_edit("AVIF file, lossy", _quality(60), common=False)
def _avif(picture: Picture, quality: float) -> Picture:
    return _through_installed(picture, "AVIF", quality=int(quality))


@_edit("JPEG XL file, lossy", _quality(80), common=False)
def _jxl(picture: Picture, quality: float) -> Picture:
    return _through_installed(picture, "JXL", quality=int(quality))


def _through_installed(picture: Picture, file_format: str, **options: Any) -> Picture:
    """As _through_file, for a format that not every installation can write. Raises UsageError."""
    missing = missing_format(file_format.lower())
    if missing:
        raise UsageError(f"{file_format.lower()}: expected {missing}, got an installation without it")
    if file_format == "JXL":
        importlib.import_module("pillow_jxl")  # makes itself known to Pillow
    return _through_file(picture, file_format, **options)


@_edit(
    "keeps the central part, cut on the codec's grid of 16 pixels",
    Parameter("fraction", 0.9, 0.01, 1, "share of each side that is kept", "{}"),
    common=False,
)
def _crop_grid(picture: Picture, fraction: float) -> Picture:
    width, height = (max(1, round(length * fraction)) for length in picture.size)
    left, top = ((length - kept) // 2 // 16 * 16 for length, kept in zip(picture.size, (width, height), strict=True))
    return picture.crop((left, top, left + width, top + height))


@_edit(
    "rotates about the centre (bicubic) and cuts off what is not covered",
    Parameter("degrees", 5, -45, 45, "rotation, anticlockwise", "{}deg"),
    common=False,
)
def _rotate(picture: Picture, degrees: float) -> Picture:
    cos, sin = math.cos(math.radians(abs(degrees))), math.sin(math.radians(abs(degrees)))
    width, height = picture.size
    # The largest upright part of the picture's own shape that lies inside the rotated picture.
    share = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    kept = [max(1, math.floor(length * share + 1e-9)) for length in picture.size]
    left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((left, top, left + kept[0], top + kept[1]))


@_edit("mirrors left and right", common=False)
def _mirror(picture: Picture) -> Picture:
    return ImageOps.mirror(picture)


@_edit("turns by quarters", Parameter("quarters", 1, 1, 3, "anticlockwise", "{}", step=1), common=False)
def _turn(picture: Picture, quarters: float) -> Picture:
    return picture.rotate(90 * int(quarters), expand=True)


@_edit("takes the colour out", common=False)
def _grey(picture: Picture) -> Picture:
    return picture.convert("L").convert("RGB")


@_edit(
    "adds Gaussian noise",
    Parameter("sigma", 2, 0.1, 100, "standard deviation, of 255", "s={}"),
    Parameter("seed", 0, 0, 9999, "of the random numbers", "seed={}", step=1),
    common=False,
)
def _noise(picture: Picture, sigma: float, seed: float) -> Picture:
    pixels = np.array(picture)
    added = np.random.default_rng(int(seed)).normal(0, sigma, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + added), 0, 255).astype(np.uint8))


@_edit(
    "as a screenshot: scaled (bilinear), with another gamma",
    Parameter("scale", 0.9, 0.05, 2, "magnification", "x{}"),
    Parameter("gamma", 1.1, 0.2, 5, "above 1 brightens", "gamma={}"),
    common=False,
)
def _screenshot(picture: Picture, scale: float, gamma: float) -> Picture:
    size = [max(1, round(length * scale)) for length in picture.size]
    curve = [round(255 * (value / 255) ** (1 / gamma)) for value in range(256)]
    return picture.resize(size, Image.Resampling.BILINEAR).point(curve * 3)


_SHARE = Parameter("share", 0.25, 0.02, 0.9, "of each side that the changed part takes", "{}")


@_edit("puts another part of the picture, mirrored, seamlessly into its middle", _SHARE, common=False, area=centre_box)
def _splice(picture: Picture, share: float) -> Picture:
    return Image.fromarray(splice_box(np.array(picture), centre_box(picture.height, picture.width, share)))


@_edit("removes the middle and fills it smoothly from its border", _SHARE, common=False, area=centre_box)
def _inpaint(picture: Picture, share: float) -> Picture:
    return Image.fromarray(inpaint_box(np.array(picture), centre_box(picture.height, picture.width, share)))
