"""Edits of one part of a picture: a box that is painted over, or filled from elsewhere, without a seam.

Both solve Laplace's equation in the box with the pixels around it as the border: inpainting takes the solution itself,
splicing adds it to the pasted pixels as a correction (Perez et al., "Poisson Image Editing", 2003, eq. 4 in its
correction form). On a rectangle the solution is exact and takes four matrix products for a channel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are outside


def centre_box(height: int, width: int, share: float) -> Box:
    """The middle `share` of each side of a picture, at least one pixel of it."""
    rows, columns = (max(1, round(length * share)) for length in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return top, left, top + rows, left + columns


def inpaint_box(pixels: Pixels, box: Box) -> Pixels:
    """A copy of uint8 (H, W, 3) whose box is the smoothest surface that its surroundings span."""
    return _fill(pixels, box, np.zeros((box[2] - box[0], box[3] - box[1], 3)))


def splice_box(pixels: Pixels, box: Box) -> Pixels:
    """A copy of uint8 (H, W, 3) whose box shows the mirrored upper left corner, its colours fitted to the border."""
    rows, columns = box[2] - box[0], box[3] - box[1]
    return _fill(pixels, box, pixels[:rows, :columns][:, ::-1].astype(np.float64))


def _fill(pixels: Pixels, box: Box, texture: Plane) -> Pixels:
    """The box becomes `texture` plus the harmonic surface that closes the gap to the pixels around it."""
    top, left, bottom, right = box
    around = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")[top : bottom + 2, left : right + 2]
    gap = around.astype(np.float64) - np.pad(texture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    surface = np.stack([_harmonic(gap[..., channel]) for channel in range(3)], axis=2)
    result = pixels.copy()
    result[top:bottom, left:right] = np.clip(np.rint(texture + surface), 0, 255).astype(np.uint8)
    return result


def _harmonic(frame: Plane) -> Plane:
    """The inside (h, w) of a (h + 2, w + 2) plane, each value the mean of its four neighbours; the rim is given."""
    load = np.zeros((frame.shape[0] - 2, frame.shape[1] - 2))
    load[0] += frame[0, 1:-1]
    load[-1] += frame[-1, 1:-1]
    load[:, 0] += frame[1:-1, 0]
    load[:, -1] += frame[1:-1, -1]
    (rows, row_values), (columns, column_values) = (_sines(length) for length in load.shape)
    solution: Plane = rows @ ((rows @ load @ columns) / (row_values[:, None] + column_values)) @ columns
    return solution


def _sines(length: int) -> tuple[Plane, Plane]:
    """Eigenvectors (a symmetric orthogonal matrix) and eigenvalues of the second difference -1, 2, -1."""
    angles = np.pi / (length + 1) * np.arange(1, length + 1)
    vectors = np.sqrt(2 / (length + 1)) * np.sin(angles[:, None] * np.arange(1, length + 1))
    return vectors, 2 - 2 * np.cos(angles)
