"""What encoders leave out of a carrier's latents: all that sets off nothing, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.transform.alarm import (
    ANSWERS,
    CHANCE,
    CHANNELS,
    HARMLESS,
    LOUD,
    QUIET,
    Silence,
    alarm_of,
    evidence,
    silence_of,
)

PER_GROUP, SUMS, ROWS, COLUMNS = 3, 2, 12, 14
OWN = torch.tensor([1, 2, 3, 5, 6, 7])
Arrays = dict[str, npt.NDArray[Any]]
FAR = 6  # latents away from where something is


def kernels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + 0.2 * torch.randn(2, PER_GROUP, SUMS, 5, 5, generator=generator)


def latents(*awake: tuple[int, int, int, float]) -> Tensor:
    """A strip of 9 channels in which the others are no whole numbers, and these (channel, row, column, value)."""
    y = torch.full((9, ROWS, COLUMNS), 0.7)
    y[OWN] = 0.2
    for channel, row, column, value in awake:
        y[channel, row, column] = value
    return y


def silenced(y: Tensor, above: bool = False, below: bool = False, chance: float = 0.0) -> Tensor:
    return Silence(kernels(), OWN, chance)(y, above, below)


def test_an_alarm_takes_both_groups() -> None:
    y = latents((1, 5, 5, 3.0))[OWN].round()[None]
    assert evidence(y, kernels()).shape == (1, 2, 4 * ROWS, 4 * COLUMNS)
    assert alarm_of(y, kernels()).max() < QUIET
    y[0, 3, 5, 5] = 3.0
    assert alarm_of(y, kernels()).max() > QUIET


def test_what_sets_off_nothing_is_left_out() -> None:
    y = latents((1, 5, 5, 3.0))
    got = silenced(y)
    assert (got[OWN].round() == 0).all()
    others = [0, 4, 8]
    torch.testing.assert_close(got[others], y[others])


def test_what_sets_off_an_alarm_stays_with_all_that_adds_to_it() -> None:
    y = latents((1, 5, 5, 3.0), (5, 5, 6, 3.0), (2, 4, 4, 1.0), (2, 5, 5 + FAR, 1.0))
    got = silenced(y)
    near = (slice(None), slice(2, 9), slice(2, 9))
    torch.testing.assert_close(got[near], y[near])
    assert got[2, 5, 5 + FAR] == 0
    before, after = (alarm_of(part[OWN].round()[None], kernels()) for part in (y, got))
    torch.testing.assert_close(after[before >= QUIET], before[before >= QUIET])
    assert after[before < QUIET].max() < QUIET


def test_at_a_border_between_strips_everything_stays() -> None:
    y = latents((1, 0, 5, 3.0), (1, ROWS - 1, 5, 3.0))
    assert (silenced(y)[OWN].round() == 0).all()
    for above, below, row in ((True, False, 0), (False, True, ROWS - 1)):
        got = silenced(y, above, below)[OWN].round()
        assert got[0, row, 5] == 3 and got[0, ROWS - 1 - row, 5] == 0
        assert (silenced(y, above, below, 1.0)[OWN].round() == 0).all()


def share_of(y: Tensor, least: float) -> float:
    return (alarm_of(y[OWN].round()[None], kernels()) >= least).float().mean().item()


def test_an_alarm_that_stands_alone_is_chance() -> None:
    y = latents((1, 5, 5, 3.0), (5, 5, 6, 3.0))
    share = share_of(y, HARMLESS)
    assert 0 < share < 0.5 and share_of(y, LOUD) == 0
    assert (silenced(y, chance=1.1 * share)[OWN].round() == 0).all()
    torch.testing.assert_close(silenced(y, chance=0.9 * share), silenced(y))
    assert (silenced(y)[OWN].round() != 0).any()


def test_an_alarm_of_the_waves_own_loudness_stays_where_it_stands_alone() -> None:
    y = latents((1, 5, 5, 18.0), (5, 5, 6, 18.0), (1, 5, 5 + FAR, 3.0), (5, 5, 6 + FAR, 3.0))
    assert share_of(y, LOUD) > 0
    got = silenced(y, chance=1.0)
    assert got[1, 5, 5] == 18 and got[5, 5, 6] == 18
    assert got[1, 5, 5 + FAR] == 0


def tensors() -> Arrays:
    own = np.asarray(OWN, np.int32)
    return {ANSWERS: np.asarray(kernels()), CHANNELS: own, "g_a.6.bias": np.zeros(9, np.float16)}


def test_a_model_says_which_and_how() -> None:
    y, silence = latents((1, 5, 5, 3.0)), silence_of(tensors())
    assert silence is not None
    torch.testing.assert_close(silence(y, False, False), silenced(y))
    assert silence_of({"g_a.6.bias": np.zeros(9, np.float16)}) is None
    strict = silence_of(tensors() | {CHANCE: np.array([0.7], np.float32)})
    assert strict is not None
    y = latents((1, 5, 5, 3.0), (5, 5, 6, 3.0))
    torch.testing.assert_close(strict(y, False, False), silenced(y, chance=0.7))


@pytest.mark.parametrize(
    "change",
    [
        {ANSWERS: None},
        {CHANNELS: None},
        {ANSWERS: np.full((2, PER_GROUP, SUMS, 5, 5), np.nan, np.float32)},
        {ANSWERS: np.ones((2, PER_GROUP, SUMS, 3, 3), np.float32)},
        {ANSWERS: np.ones((1, 2 * PER_GROUP, SUMS, 5, 5), np.float32)},
        {ANSWERS: np.ones((2, PER_GROUP, 0, 5, 5), np.float32)},
        {CHANNELS: np.arange(5, dtype=np.int32)},
        {CHANNELS: np.arange(6, dtype=np.int64)},
        {CHANNELS: np.arange(4, 10, dtype=np.int32)},
        {CHANNELS: np.arange(-1, 5, dtype=np.int32)},
        {CHANCE: np.array([1.5], np.float32)},
        {CHANCE: np.array([np.nan], np.float32)},
        {CHANCE: np.zeros(2, np.float32)},
    ],
)
def test_damaged_ones_are_refused(change: dict[str, npt.NDArray[Any] | None]) -> None:
    damaged = {name: array for name, array in (tensors() | change).items() if array is not None}
    with pytest.raises(BadModelFile, match=ANSWERS):
        silence_of(damaged)
