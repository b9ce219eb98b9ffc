"""Filling a box: what Laplace's equation promises, checked on what comes out."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import photograph

from slic_cli import local_edits
from slic_cli.local_edits import centre_box, inpaint_box, splice_box


def test_centre_box() -> None:
    assert centre_box(512, 768, 0.25) == (192, 288, 320, 480)
    assert centre_box(1, 1, 0.02) == (0, 0, 1, 1)
    assert centre_box(5, 4, 0.9) == (0, 0, 4, 4)


def test_every_filled_value_is_the_mean_of_its_neighbours() -> None:
    frame = np.random.default_rng(0).normal(0, 50, (14, 23))
    filled = frame.copy()
    filled[1:-1, 1:-1] = local_edits._harmonic(frame)
    means = (filled[:-2, 1:-1] + filled[2:, 1:-1] + filled[1:-1, :-2] + filled[1:-1, 2:]) / 4
    assert filled[1:-1, 1:-1] == pytest.approx(means, abs=1e-9)


def test_inpainting_restores_a_ramp() -> None:
    """A plane is its own smoothest surface."""
    y, x = np.mgrid[:40, :60]
    ramp = np.stack([20 + 2 * y + x, 200 - x - y, 3 * y + 10], axis=2).astype(np.uint8)
    hole = ramp.copy()
    hole[9:30, 14:50] = 255
    assert np.array_equal(inpaint_box(hole, (9, 14, 30, 50)), ramp)


def test_splicing_keeps_the_pasted_texture_and_meets_the_border() -> None:
    pixels = (photograph(60, 90, 3) // 2 + 60).astype(np.uint8)  # no value is clipped
    box = (25, 40, 45, 70)
    top, left, bottom, right = box
    result = splice_box(pixels, box).astype(float)
    added = result[top:bottom, left:right] - pixels[:20, :30][:, ::-1]
    curvature = added[:-2, 1:-1] + added[2:, 1:-1] + added[1:-1, :-2] + added[1:-1, 2:] - 4 * added[1:-1, 1:-1]
    assert np.abs(curvature).max() <= 4  # harmonic but for rounding: the texture is the pasted one
    assert np.abs(added).max() > 5  # and its level is not


def test_splicing_a_flat_picture_changes_nothing() -> None:
    flat = np.full((30, 40, 3), 77, np.uint8)
    assert np.array_equal(splice_box(flat, (10, 10, 20, 25)), flat)


def test_the_picture_given_is_left_as_it_is() -> None:
    pixels = photograph(30, 40)
    before = pixels.copy()
    inpaint_box(pixels, (5, 5, 20, 20))
    splice_box(pixels, (5, 5, 20, 20))
    assert np.array_equal(pixels, before)
