"""One page that shows what edits did to a picture, in the manner of Fig. 5 of Huang & Wu 2025.

Each column is one edit: its name, the edited picture, below it the same after being compressed and decoded
again, and a caption; or whatever else makes pairs of pictures. Many columns wrap into several bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]

CELL = 320  # longest side of a picture on the page, in pixels
COLUMNS_PER_BAND = 6
ROW_LABELS = ("edited", "re-compressed")

_SMALLEST_CELL = 160  # so that labels have room beside small pictures
_SMALLEST_PAGE = 640  # so that the title has room above a single column
_MARGIN = 32
_GAP = 16  # between cells; twice that between bands
_LINE = 40  # height of a line of labels or captions
_SIDE = 44  # width of the row labels, which run upwards
_TITLE_SIZE, _TEXT_SIZE, _SMALLEST_TEXT = 30, 21, 13
_PAPER, _INK, _FAINT, _FRAME = "#ffffff", "#1a1a1a", "#666666", "#b8b8b8"


@dataclass(frozen=True)
class Column:
    """One edit: `label` above, the pictures uint8 (H, W, 3) of any sizes, `caption` below."""

    label: str
    top: Pixels
    bottom: Pixels
    caption: str


@dataclass(frozen=True)
class _Layout:
    """Where things lie, for `count` columns whose cells measure `width` x `height` pixels."""

    count: int
    width: int
    height: int

    @property
    def bands(self) -> int:
        return math.ceil(self.count / COLUMNS_PER_BAND)

    @property
    def across(self) -> int:
        """Columns of a full band; bands are as even as can be, so eight columns make two bands of four."""
        return math.ceil(self.count / self.bands)

    @property
    def band_height(self) -> int:
        return 2 * _LINE + 2 * self.height + _GAP

    @property
    def block_width(self) -> int:
        """Row labels and columns together."""
        return _SIDE + self.across * (self.width + _GAP) - _GAP

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the page."""
        height = 2 * _MARGIN + _LINE + self.bands * (self.band_height + 2 * _GAP) - 2 * _GAP
        return max(self.block_width + 2 * _MARGIN, _SMALLEST_PAGE), height

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of column `index`, where its label begins."""
        band, place = divmod(index, self.across)
        left = (self.size[0] - self.block_width) // 2 + _SIDE + place * (self.width + _GAP)
        return left, _MARGIN + _LINE + band * (self.band_height + 2 * _GAP)


def contact_sheet(
    columns: Sequence[Column], title: str, *, zoom: bool = False, rows: tuple[str, str] = ROW_LABELS
) -> Pixels:
    """The page, uint8 (H, W, 3), with `rows` beside the upper and the lower pictures.

    Every picture is scaled to fit a cell, which may hide damage to single pixels; with `zoom` the page shows
    the middle of each instead, pixel for pixel. Raises ValueError if there are no columns.
    """
    if not columns:
        raise ValueError("expected at least one column, got none")
    pairs = [(_cell(column.top, zoom), _cell(column.bottom, zoom)) for column in columns]
    width = max(_SMALLEST_CELL, *(picture.width for pair in pairs for picture in pair))
    height = max(_SMALLEST_CELL, *(picture.height for pair in pairs for picture in pair))
    layout = _Layout(len(columns), width, height)
    page = Image.new("RGB", layout.size, _PAPER)
    middle = (layout.size[0] // 2, _MARGIN + _LINE // 4)
    _write(page, title, middle, layout.size[0] - 2 * _MARGIN, _TITLE_SIZE, _INK)
    for index, (column, pair) in enumerate(zip(columns, pairs, strict=True)):
        _draw_column(page, layout, index, column, pair, rows)
    return np.array(page)


def _cell(pixels: Pixels, zoom: bool) -> Image.Image:
    """The picture as the page shows it; a small one is enlarged by a whole factor, its pixels kept sharp."""
    picture = Image.fromarray(pixels)
    if zoom:
        width, height = (min(side, CELL) for side in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + width, top + height))
    scale = CELL / max(picture.size)
    if scale >= 1:
        return picture.resize([side * int(scale) for side in picture.size], Image.Resampling.NEAREST)
    return picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)


def _draw_column(
    page: Image.Image,
    layout: _Layout,
    index: int,
    column: Column,
    pair: tuple[Image.Image, Image.Image],
    rows: tuple[str, str],
) -> None:
    left, top = layout.corner(index)
    middle = left + layout.width // 2
    _write(page, column.label, (middle, top + _LINE // 2), layout.width, _TEXT_SIZE, _INK)
    for row, picture in enumerate(pair):
        cell_top = top + _LINE + row * (layout.height + _GAP)
        if index % layout.across == 0:
            _write_upwards(page, rows[row], (left - _SIDE, cell_top), layout.height)
        x, y = left + (layout.width - picture.width) // 2, cell_top + (layout.height - picture.height) // 2
        page.paste(picture, (x, y))
        # Around the picture rather than over it: white corners stay visible and no pixel is lost.
        ImageDraw.Draw(page).rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=_FRAME)
    below = top + layout.band_height - _LINE // 2
    _write(page, column.caption, (middle, below), layout.width, _TEXT_SIZE, _FAINT)


def _write(page: Image.Image, text: str, middle: tuple[int, int], width: int, size: int, colour: str) -> None:
    """Writes one line centred on `middle`, in smaller type or cut short if it is wider than `width`."""
    text = " ".join(text.split())
    font = ImageFont.load_default(size)
    while font.getlength(text) > width and size > _SMALLEST_TEXT:
        size -= 1
        font = ImageFont.load_default(size)
    shown = text
    while font.getlength(shown) > width and len(text) > 1:
        text = text[:-1]
        shown = text.rstrip() + "..."
    ImageDraw.Draw(page).text(middle, shown, fill=colour, font=font, anchor="mm")


def _write_upwards(page: Image.Image, text: str, corner: tuple[int, int], height: int) -> None:
    """Writes a row label from bottom to top, in the strip `_SIDE` wide at `corner`."""
    strip = Image.new("RGB", (height, _SIDE), _PAPER)
    _write(strip, text, (height // 2, _SIDE // 3), height, _TEXT_SIZE, _FAINT)
    page.paste(strip.transpose(Image.Transpose.ROTATE_90), corner)
