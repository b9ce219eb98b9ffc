"""A pattern of lightness: found after edits at any place, size and right angle, and in no picture that has none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import photograph
from torch import Tensor

from slic_cli.attacks import parse_attack
from slic_cli.errors import BadModelFile
from slic_cli.transform.pattern import PATTERN, PERIOD, SURE, Pattern, pattern_of

HALF = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (3, 3)]
WAVES = torch.tensor(
    [
        (sign * across, down, phase)
        for sign, phases in ((1, (-1.3, 1.0, 2.5, 2.6, 1.0, 2.5)), (-1, (2.3, 0.9, 0.9, -0.2, 0.4, 0.8)))
        for (across, down), phase in zip(HALF, phases, strict=True)
    ]
)
Pixels = npt.NDArray[np.uint8]


def drawn(waves: Tensor, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Their sum (rows, columns), of root mean square 1."""
    down, across = np.mgrid[:rows, :columns] * (2 * math.pi / PERIOD)
    total = sum(np.cos(across * a + down * d + phase) for a, d, phase in waves.tolist())
    return np.asarray(total / np.sqrt(np.square(total).mean()))


def marked(pixels: Pixels, levels: float = 0.8, waves: Tensor = WAVES) -> Pixels:
    """With so many levels of it, rounded as from a fine picture."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, pixels.shape)
    sum_ = pixels + noise + levels * drawn(waves, *pixels.shape[:2])[:, :, None]
    return np.asarray(np.clip(np.rint(sum_), 0, 255).astype(np.uint8))


def score(pixels: Pixels) -> float:
    return Pattern(WAVES).score(torch.from_numpy(np.ascontiguousarray(pixels)))


EDITS = ["crop", "grey", "jpeg:quality=75", "resize:scale=0.5", "resize", "turn", "mirror", "affine", "equalize"]


@pytest.mark.parametrize("edit", EDITS)
def test_it_is_found_after_an_edit(edit: str) -> None:
    attack, plain = parse_attack(edit), photograph(384, 512, 3)
    assert score(attack.apply(marked(plain))) > SURE
    assert score(attack.apply(plain)) < SURE


def test_the_middle_of_a_large_picture_says_it() -> None:
    pixels = np.tile(photograph(512, 512, 1), (3, 4, 1))
    part = slice(256, 1280)
    pixels[part, 512:1536] = marked(pixels)[part, 512:1536]
    assert score(pixels) > SURE
    assert Pattern(WAVES).found(torch.from_numpy(pixels))


def test_more_of_it_is_surer() -> None:
    scores = [score(marked(photograph(256, 256, 2), levels)) for levels in (0.0, 0.3, 0.6, 1.2)]
    assert scores == sorted(scores)


@pytest.mark.parametrize("seed", range(4))
def test_other_phases_are_not_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    others = WAVES.clone()
    others[:, 2] = 2 * math.pi * torch.rand(len(WAVES), generator=generator)
    plain = photograph(384, 512, 3)
    assert score(marked(plain, 3.0, others)) < SURE < score(marked(plain, 3.0))


def stripes(rows: int, columns: int) -> Pixels:
    return np.asarray(
        np.broadcast_to(np.where(np.arange(columns) % 16 < 8, 90, 160)[None, :, None], (rows, columns, 3))
    )


def blocks(rows: int, columns: int) -> Pixels:
    """Edges every 8 pixels, as of a codec."""
    down, across = np.mgrid[:rows, :columns]
    return np.where((down % 8 == 0) | (across % 8 == 0), 120, 130)[:, :, None].repeat(3, 2)


def chequered(rows: int, columns: int) -> Pixels:
    down, across = np.mgrid[:rows, :columns]
    return np.where((down // 8 + across // 8) % 2 == 0, 40, 200)[:, :, None].repeat(3, 2)


@pytest.mark.parametrize("draw", [stripes, blocks, chequered, lambda *size: np.full((*size, 3), 77)])
def test_periodic_and_flat_pictures_have_none(draw: Any) -> None:
    pixels = draw(256, 320).astype(np.uint8)
    assert score(pixels) < SURE
    noise = np.random.default_rng(1).normal(0, 3, pixels.shape)
    assert score(np.clip(pixels + noise, 0, 255).astype(np.uint8)) < SURE


def test_of_small_pictures_nothing_is_said() -> None:
    assert score(marked(photograph(64, 256, 2), 20.0)) == 0
    assert score(marked(photograph(128, 256, 2), 20.0)) > SURE


def test_a_model_says_which() -> None:
    assert pattern_of({}) is None
    pattern = pattern_of({PATTERN: WAVES.numpy()})
    assert pattern is not None
    torch.testing.assert_close(pattern.waves, WAVES)


@pytest.mark.parametrize(
    "waves",
    [
        np.zeros((0, 3), np.float32),
        WAVES.numpy().astype(np.float64),
        WAVES.numpy()[:, :2],
        WAVES.numpy()[:7],  # turned, the last is none of them
        np.array([[1, 1, np.nan], [-1, 1, 0]], np.float32),
        np.array([[1.5, 1.5, 0], [-1.5, 1.5, 0]], np.float32),
        np.array([[0, 1, 0], [1, 0, 0]], np.float32),
        np.array([[9, 9, 0], [-9, 9, 0]], np.float32),
        np.array([[1, -1, 0], [-1, -1, 0]], np.float32),
    ],
)
def test_damaged_ones_are_refused(waves: npt.NDArray[Any]) -> None:
    with pytest.raises(BadModelFile, match=PATTERN):
        pattern_of({PATTERN: waves})


def dots(period: int, side: int) -> Pixels:
    """Discs of random brightness on a square grid: something at each of very many sizes."""
    number = side // period + 1
    brightness = np.random.default_rng(period).integers(90, 250, (number, number))
    down, across = np.mgrid[:side, :side]
    inside = np.hypot(down % period - period / 2, across % period - period / 2) < 0.48 * period
    grey = np.where(inside, brightness[down // period, across // period], 60).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


@pytest.mark.parametrize(("period", "side"), [(20, 768), (21, 1024), (31, 1024), (43, 1024), (85, 1024)])
def test_a_grid_of_dots_is_not_it(period: int, side: int) -> None:
    assert score(dots(period, side)) < SURE


@pytest.mark.parametrize("period", [9, 12, 14])
def test_a_mesh_is_not_it(period: int) -> None:
    """A few loud waves are in phase by chance, as three can be whatever their phases are."""
    down, across = np.mgrid[:512, :512]
    mesh = photograph(512, 512, 4).astype(int)
    for phase, (a, b) in enumerate([(1, 1), (1, -1), (2, 1), (1, 2)]):
        mesh += np.rint(12 * np.cos(2 * math.pi / period * (a * across + b * down) + phase))[:, :, None].astype(int)
    assert score(np.clip(mesh, 0, 255).astype(np.uint8)) < SURE


def test_two_first_decodes_in_one_picture_are_found() -> None:
    plain = photograph(512, 512, 3)
    small = parse_attack("resize").apply(marked(photograph(512, 512, 5)))
    beside = np.concatenate([marked(plain)[: len(small)], small], axis=1)
    assert score(beside) > SURE
