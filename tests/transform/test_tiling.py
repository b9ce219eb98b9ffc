"""Spans cover an axis once, with windows inside it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slic_cli.transform.tiling import Span, spans


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 100), st.integers(1, 70), st.integers(0, 9))
def test_cores_cover_once_and_windows_hold_the_halo(start: int, extent: int, beyond: int, size: int, halo: int) -> None:
    stop, length = start + extent, start + extent + beyond
    cut = list(spans(start, stop, length, size, halo))
    assert [i for span in cut for i in range(span.start, span.stop)] == list(range(start, stop))
    for span in cut:
        assert 0 < span.stop - span.start <= size
        # All of the halo that there is: less than that only at the axis's own ends.
        assert span.window_start == max(0, span.start - halo)
        assert span.window_stop == min(length, span.stop + halo)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.integers(1, 16))
def test_slices_agree_on_a_plane(length: int, size: int, halo: int, unit: int) -> None:
    plane = list(range(length * unit))
    for span in spans(0, length, length, size, halo):
        window = plane[span.window(unit)]
        assert window[span.core_in_window(unit)] == plane[span.core(unit)]
        assert len(plane[span.core(unit)]) == (span.stop - span.start) * unit


def test_nothing_to_cut() -> None:
    assert list(spans(3, 3, 10, 4, 2)) == []


def test_example() -> None:
    assert list(spans(2, 9, 10, 4, 2)) == [Span(2, 6, 0, 8), Span(6, 9, 4, 10)]
