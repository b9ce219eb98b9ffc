"""How much answers agree: all of a plane wave's, few of many without one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slic_cli.transform.coherence import coherence, least_coherence

ROWS, COLUMNS = 24, 30


def answers(phase: Tensor, magnitude: float = 2.0) -> Tensor:
    """Two pairs with that phase (rows, columns), rounded."""
    pair = torch.stack([magnitude * phase.cos(), magnitude * phase.sin()])
    return torch.cat([pair, -pair]).round()


def wave(by_row: float, by_column: float) -> Tensor:
    return by_row * torch.arange(ROWS)[:, None] + by_column * torch.arange(COLUMNS)


@pytest.mark.parametrize(("by_row", "by_column"), [(0.0, 0.0), (0.8, 0.0), (-0.37, 1.9)])
def test_a_wave_agrees_with_itself(by_row: float, by_column: float) -> None:
    assert coherence(answers(wave(by_row, by_column) + 0.3)) > 0.8


def test_it_does_not_count_how_loud_answers_are() -> None:
    quiet, loud = (coherence(answers(wave(0.8, 0.0), magnitude)) for magnitude in (4.0, 40.0))
    assert quiet == pytest.approx(loud, abs=0.02)


def test_it_falls_with_the_share_of_places_that_answer() -> None:
    few = answers(wave(0.0, 0.0))
    few[:, :, 6:] = 0
    assert coherence(few) == pytest.approx(6 / COLUMNS)
    assert coherence(torch.zeros(4, ROWS, COLUMNS)) == 0


def test_random_phases_hardly_agree() -> None:
    phases = 2 * math.pi * torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    assert 0 < coherence(answers(phases)) < 4 / math.sqrt(ROWS * COLUMNS)


def test_small_strips_need_more() -> None:
    assert least_coherence(0.05, 1536) == 0.05
    assert least_coherence(0.05, 120) == pytest.approx(0.1)
    assert least_coherence(0.2, 120) == pytest.approx(0.4)
