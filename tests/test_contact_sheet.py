"""The page: its size, and that the pictures are in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slic_cli.contact_sheet import CELL, ROW_LABELS, Column, contact_sheet

Pixels = npt.NDArray[np.uint8]


def noise(seed: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def column(index: int, height: int = 30, width: int = 40) -> Column:
    return Column(f"edit {index}", noise(2 * index, height, width), noise(2 * index + 1, height, width), "6.1 dB")


def places_of(part: Pixels, page: Pixels) -> list[tuple[int, int]]:
    """Every (top, left) at which `part` lies in `page`."""
    height, width = part.shape[:2]
    rows, columns = np.nonzero((page == part[0, 0]).all(axis=2))
    found = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(y, x) for y, x in found if np.array_equal(page[y : y + height, x : x + width], part)]


def only_place_of(part: Pixels, page: Pixels) -> tuple[int, int]:
    (place,) = places_of(part, page)
    return place


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def test_page_is_a_white_picture() -> None:
    page = contact_sheet([column(0)], "title")
    assert page.dtype == np.uint8 and page.ndim == 3 and page.shape[2] == 3
    assert (page[:8] == 255).all() and (page[-8:] == 255).all() and (page[:, :8] == 255).all()


def test_pictures_stand_one_below_the_other_column_by_column() -> None:
    columns = [column(index) for index in range(3)]
    page = contact_sheet(columns, "title")
    tops = [only_place_of(enlarged(each.top, 8), page) for each in columns]
    bottoms = [only_place_of(enlarged(each.bottom, 8), page) for each in columns]
    assert len({y for y, _ in tops}) == len({y for y, _ in bottoms}) == 1
    assert [x for _, x in tops] == [x for _, x in bottoms]
    assert tops[0][0] + 240 < bottoms[0][0]
    steps = np.diff([x for _, x in tops])
    assert steps[0] == steps[1] > CELL


@pytest.mark.parametrize(("count", "across", "bands"), [(1, 1, 1), (6, 6, 1), (7, 4, 2), (12, 6, 2), (13, 5, 3)])
def test_columns_wrap_into_even_bands(count: int, across: int, bands: int) -> None:
    columns = [column(index) for index in range(count)]
    page = contact_sheet(columns, "title")
    places = [only_place_of(enlarged(each.top, 8), page) for each in columns]
    assert len({x for _, x in places}) == across
    assert len({y for y, _ in places}) == bands
    assert places == sorted(places)


def test_large_pictures_become_thumbnails() -> None:
    each = column(0, 400, 640)
    page = contact_sheet([each], "title")
    thumbnail = np.asarray(Image.fromarray(each.top).resize((320, 200), Image.Resampling.LANCZOS))
    only_place_of(thumbnail, page)


def test_zoom_shows_the_middle_pixel_for_pixel() -> None:
    each = column(0, 401, 640)
    page = contact_sheet([each], "title", zoom=True)
    only_place_of(each.top[40:360, 160:480], page)
    only_place_of(each.bottom[40:360, 160:480], page)


def test_zoom_does_not_scale_small_pictures() -> None:
    each = column(0, 20, 50)
    only_place_of(each.top, contact_sheet([each], "title", zoom=True))


def test_pictures_of_differing_sizes_share_a_page() -> None:
    """A tall one, a wide one and a single pixel, each whole and in the middle of its cell."""
    shapes = [(40, 10), (10, 40), (1, 1)]
    columns = [column(index, *shape) for index, shape in enumerate(shapes)]
    page = contact_sheet(columns, "title")
    middles = []
    for each, factor in zip(columns, (8, 8, 320), strict=True):
        part = enlarged(each.bottom, factor)
        y, x = places_of(part, page)[0]
        middles.append((y + part.shape[0] // 2, x + part.shape[1] // 2))
    assert len({y for y, _ in middles}) == 1
    assert middles[1][1] - middles[0][1] == middles[2][1] - middles[1][1]


def test_very_long_pictures_keep_a_pixel_of_height() -> None:
    contact_sheet([Column("thin", noise(0, 1, 5000), noise(1, 5000, 1), "")], "title")


def test_words_appear_where_they_belong() -> None:
    """Each text alone changes the page, and only above or below the pictures it belongs to."""
    each = column(0)
    plain = contact_sheet([Column("", each.top, each.bottom, "")], "")
    top, bottom = (only_place_of(enlarged(part, 8), plain)[0] for part in (each.top, each.bottom))

    def changed_rows(label: str, caption: str, title: str) -> tuple[int, int]:
        page = contact_sheet([Column(label, each.top, each.bottom, caption)], title)
        rows = np.nonzero((page != plain).any(axis=(1, 2)))[0]
        return int(rows.min()), int(rows.max())

    title_rows, label_rows = changed_rows("", "", "Title"), changed_rows("label", "", "")
    caption_rows = changed_rows("", "caption", "")
    assert title_rows[1] < label_rows[0] and label_rows[1] < top
    assert caption_rows[0] >= bottom + 240


def test_row_labels_stand_left_of_the_pictures() -> None:
    each = column(0)
    page = contact_sheet([Column("", each.top, each.bottom, "")], "")
    for part in (each.top, each.bottom):
        y, x = only_place_of(enlarged(part, 8), page)
        assert (page[y : y + 240, : x - 1] < 128).any()


def test_rows_have_the_names_they_are_given() -> None:
    each = column(0)
    usual, others, nameless = (contact_sheet([each], "", rows=rows) for rows in (ROW_LABELS, ("a", "b"), ("", "")))
    assert np.array_equal(usual, contact_sheet([each], ""))
    assert not np.array_equal(usual, others)
    _, x = only_place_of(enlarged(each.top, 8), nameless)
    assert (nameless[:, : x - 1] == 255).all()


def test_long_words_stay_in_their_column() -> None:
    first, second = column(0), column(1)
    long = "an edit with a name that goes on and on " * 5
    plain = contact_sheet([Column("", first.top, first.bottom, ""), second], "title")
    page = contact_sheet([Column(long, first.top, first.bottom, long), second], "title")
    _, left = only_place_of(enlarged(first.top, 8), plain)
    changed = np.nonzero((page != plain).any(axis=(0, 2)))[0]
    assert left <= changed.min() and changed.max() < left + CELL


def test_a_line_break_in_a_title_is_a_space() -> None:
    assert np.array_equal(contact_sheet([column(0)], "two\nwords"), contact_sheet([column(0)], "two words"))


def test_no_columns_make_no_page() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet([], "title")
