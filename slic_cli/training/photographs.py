"""A folder of photographs as uint8 tensors on the training device, and seeded crops of them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from slic_cli.errors import BadInput
from slic_cli.training.recipe import DataTable

SUFFIXES = frozenset(f".{kind}" for kind in ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "ppm", "avif"])
_SHRUNK_FROM = 400  # pixels of the shorter side
_VALIDATION_SIZE = (384, 512)
_READERS = 8


@dataclass(frozen=True)
class Place:
    """A pixel of a training photograph, and how often it is drawn."""

    photograph: int
    row: int
    column: int
    weight: float


@dataclass(frozen=True)
class Photographs:
    """`train`: uint8 (3, h, w), one per photograph; `validation`: uint8 (3, h, w), h and w multiples of 64, <= 512.

    `unreadable` and `too_small` count the files that were left out.
    """

    train: Sequence[Tensor]
    validation: Sequence[Tensor]
    unreadable: int
    too_small: int

    def crops(self, draw: random.Random, count: int, size: int) -> Tensor:
        """`count` random crops, half of them mirrored: float32 (count, 3, size, size) in [0, 1]."""
        chosen = draw.choices(range(len(self.train)), self._pixels(), k=count)
        crops = torch.stack([_crop(self.train[index], draw, size) for index in chosen])
        return crops.float() / 255

    def crops_around(self, places: Sequence[Place], draw: random.Random, count: int, size: int) -> Tensor:
        """`count` crops that hold one of `places` each, drawn by weight; else as `crops`."""
        chosen = draw.choices(places, [place.weight for place in places], k=count) if count else []
        crops = [_crop_around(self.train[place.photograph], place, draw, size) for place in chosen]
        return torch.stack(crops).float() / 255 if crops else torch.empty(0, 3, size, size)

    def _pixels(self) -> list[int]:
        return [photo.shape[1] * photo.shape[2] for photo in self.train]


def _crop(photo: Tensor, draw: random.Random, size: int) -> Tensor:
    top, left = draw.randint(0, photo.shape[1] - size), draw.randint(0, photo.shape[2] - size)
    return _cut(photo, top, left, draw, size)


def _crop_around(photo: Tensor, place: Place, draw: random.Random, size: int) -> Tensor:
    corner = (place.row - draw.randrange(size), place.column - draw.randrange(size))
    top, left = (min(max(0, at), side - size) for at, side in zip(corner, photo.shape[1:], strict=True))
    return _cut(photo, top, left, draw, size)


def _cut(photo: Tensor, top: int, left: int, draw: random.Random, size: int) -> Tensor:
    crop = photo[:, top : top + size, left : left + size]
    return crop.flip(2) if draw.random() < 0.5 else crop


def read_photographs(directory: Path, table: DataTable, device: torch.device) -> Photographs:
    """Read every photograph below `directory`; the same files and seed always give the same split and windows.

    Files that cannot be read or are smaller than a crop are counted and left out. Raises BadInput where fewer than one
    photograph is left besides those held out.
    """
    paths = list(_find(directory))
    random.Random(f"{table.seed} order").shuffle(paths)
    limit = max(table.patch**2, int(table.memory_gib * 2**30 / 3 / max(1, len(paths))))
    with ThreadPoolExecutor(_READERS) as pool:
        pixels = list(pool.map(partial(_read, table=table, limit=limit), enumerate(paths)))
    kept = [photo for photo in pixels if photo is not None and min(photo.shape[1:]) >= table.patch]
    unreadable = sum(photo is None for photo in pixels)
    too_small = len(pixels) - unreadable - len(kept)
    if len(kept) <= table.validation:
        raise BadInput(
            f"{directory}: expected more than {table.validation} photographs of at least {table.patch} x "
            f"{table.patch} pixels, got {len(kept)} ({unreadable} unreadable, {too_small} too small)"
        )
    validation = [_centre(photo).to(device) for photo in kept[: table.validation]]
    train = [photo.to(device) for photo in kept[table.validation :]]
    return Photographs(train, validation, unreadable, too_small)


def _find(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        raise BadInput(
            f"{directory}: expected a folder of photographs, got {'a file' if directory.exists() else 'none'}"
        )
    found = (path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return iter(sorted(found))


def _read(numbered: tuple[int, Path], table: DataTable, limit: int) -> Tensor | None:
    """One photograph, upright, perhaps scaled, and cut to a window of `limit` pixels."""
    number, path = numbered
    draw = random.Random(f"{table.seed} photograph {number}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    scale = draw.choice(table.scales)
    if scale > 1 or (scale < 1 and min(picture.size) >= max(_SHRUNK_FROM, table.patch / scale)):
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(_window(picture, draw, limit, table.patch))).permute(2, 0, 1).contiguous()


def _window(picture: Image.Image, draw: random.Random, limit: int, patch: int) -> Image.Image:
    width, height = picture.size
    if width * height <= limit:
        return picture
    shrink = (limit / (width * height)) ** 0.5
    width, height = max(min(patch, width), int(width * shrink)), max(min(patch, height), int(height * shrink))
    left, top = draw.randint(0, picture.width - width), draw.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))


def _centre(photo: Tensor) -> Tensor:
    """The middle of a photograph, at most _VALIDATION_SIZE, in whole multiples of 64."""
    limits = _VALIDATION_SIZE[::-1] if photo.shape[1] > photo.shape[2] else _VALIDATION_SIZE
    height, width = (min(limit, side // 64 * 64) for limit, side in zip(limits, photo.shape[1:], strict=True))
    top, left = (photo.shape[1] - height) // 2, (photo.shape[2] - width) // 2
    return photo[:, top : top + height, left : left + width].contiguous()
