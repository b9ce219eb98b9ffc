"""Conventional picture files in memory, for rate-distortion curves: what they weigh and what they give back."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from slic_cli.attacks import missing_format
from slic_cli.errors import UsageError

Pixels = npt.NDArray[np.uint8]

NAMES = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jxl": "JPEG XL"}
QUALITIES = {
    "jpeg": (20, 40, 60, 75, 85, 92, 96, 98),
    "webp": (20, 50, 75, 90, 100),
    "avif": (30, 50, 65, 80, 90, 96),
    "jxl": (30, 50, 70, 85, 92, 96),
}
_FULL_CHROMA_FROM = 85  # up to here files have half the chroma resolution, which is better at their rates


def coders() -> list[str]:
    """All settings that this installation can write, such as "jpeg:quality=75"."""
    return [f"{name}:quality={q}" for name, qs in QUALITIES.items() if not missing_format(name) for q in qs]


def name_of(coder: str) -> tuple[str, int]:
    """The format's name for people and the quality."""
    name, _, quality = coder.partition(":quality=")
    return NAMES[name], int(quality)


def compress(pixels: Pixels, coder: str) -> tuple[int, Pixels]:
    """Size of the file in bytes, and the picture it decodes to: uint8 (H, W, 3). Raises UsageError."""
    name, quality = coder.partition(":")[0], name_of(coder)[1]
    if name == "jxl":
        importlib.import_module("pillow_jxl")  # makes itself known to Pillow
    file = io.BytesIO()
    try:
        Image.fromarray(pixels).save(file, name.upper(), quality=quality, **_options(name, quality))
    except (OSError, ValueError) as error:
        raise UsageError(f"a {pixels.shape[1]} x {pixels.shape[0]} picture as {NAMES[name]}: {error}") from error
    with Image.open(file) as picture:
        return len(file.getvalue()), np.array(picture.convert("RGB"))


def _options(name: str, quality: int) -> dict[str, Any]:
    if name == "jpeg":
        return {"subsampling": "4:4:4" if quality >= _FULL_CHROMA_FROM else "4:2:0", "optimize": True}
    if name == "avif":
        return {"subsampling": "4:4:4" if quality >= _FULL_CHROMA_FROM else "4:2:0"}
    return {}
