"""What encoders make of a carrier's latents: what sets off nothing is left out, what agrees is written in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.transform.alarm import HARMLESS, RUIN, alarm_of
from slic_cli.transform.verdict import ANSWERS, CHANCE, CHANNELS, COHERENCE, LOUD, QUIET, Verdict, verdict_of

PER_GROUP, SUMS, ROWS, COLUMNS = 4, 2, 12, 14
OWN = torch.tensor([1, 2, 3, 4, 6, 7, 8, 9])
Arrays = dict[str, npt.NDArray[Any]]
FAR = 6  # latents away from where something is


def kernels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + 0.2 * torch.randn(2, PER_GROUP, SUMS, 5, 5, generator=generator)


def latents(*awake: tuple[int, int, int, float]) -> Tensor:
    """A strip of 11 channels in which the others are no whole numbers, and these (channel, row, column, value)."""
    y = torch.full((11, ROWS, COLUMNS), 0.7)
    y[OWN] = 0.2
    for channel, row, column, value in awake:
        y[channel, row, column] = value
    return y


def left(y: Tensor, above: bool = False, below: bool = False, chance: float = 0.0) -> Tensor:
    return Verdict(kernels(), OWN, chance)(y, above, below)


def test_what_sets_off_nothing_is_left_out() -> None:
    y = latents((1, 5, 5, 3.0))
    got = left(y)
    assert (got[OWN].round() == 0).all()
    others = [0, 5, 10]
    torch.testing.assert_close(got[others], y[others])


def test_what_sets_off_an_alarm_stays_with_all_that_adds_to_it() -> None:
    y = latents((1, 5, 5, 3.0), (6, 5, 6, 3.0), (2, 4, 4, 1.0), (2, 5, 5 + FAR, 1.0))
    got = left(y)
    near = (slice(None), slice(2, 9), slice(2, 9))
    torch.testing.assert_close(got[near], y[near])
    assert got[2, 5, 5 + FAR] == 0
    before, after = (alarm_of(part[OWN].round()[None], kernels()) for part in (y, got))
    torch.testing.assert_close(after[before >= QUIET], before[before >= QUIET])
    assert after[before < QUIET].max() < QUIET


def test_at_a_border_between_strips_everything_stays() -> None:
    y = latents((1, 0, 5, 3.0), (1, ROWS - 1, 5, 3.0))
    assert (left(y)[OWN].round() == 0).all()
    for above, below, row in ((True, False, 0), (False, True, ROWS - 1)):
        got = left(y, above, below)[OWN].round()
        assert got[0, row, 5] == 3 and got[0, ROWS - 1 - row, 5] == 0
        assert (left(y, above, below, 1.0)[OWN].round() == 0).all()


def share_of(y: Tensor, least: float) -> float:
    return (alarm_of(y[OWN].round()[None], kernels()) >= least).float().mean().item()


def test_an_alarm_that_stands_alone_is_chance() -> None:
    y = latents((1, 5, 5, 3.0), (6, 5, 6, 3.0))
    share = share_of(y, HARMLESS)
    assert 0 < share < 0.5 and share_of(y, LOUD) == 0
    assert (left(y, chance=1.1 * share)[OWN].round() == 0).all()
    torch.testing.assert_close(left(y, chance=0.9 * share), left(y))
    assert (left(y)[OWN].round() != 0).any()


def test_an_alarm_of_the_waves_own_loudness_stays_where_it_stands_alone() -> None:
    y = latents((1, 5, 5, 18.0), (6, 5, 6, 18.0), (1, 5, 5 + FAR, 3.0), (6, 5, 6 + FAR, 3.0))
    assert share_of(y, LOUD) > 0
    got = left(y, chance=1.0)
    assert got[1, 5, 5] == 18 and got[6, 5, 6] == 18
    assert got[1, 5, 5 + FAR] == 0


def tensors() -> Arrays:
    own = np.asarray(OWN, np.int32)
    return {ANSWERS: np.asarray(kernels()), CHANNELS: own, "g_a.6.bias": np.zeros(11, np.float16)}


def test_a_model_says_which_and_how() -> None:
    y, verdict = latents((1, 5, 5, 3.0)), verdict_of(tensors())
    assert verdict is not None
    torch.testing.assert_close(verdict(y, False, False), left(y))
    assert verdict_of({"g_a.6.bias": np.zeros(11, np.float16)}) is None
    strict = verdict_of(tensors() | {CHANCE: np.array([0.7], np.float32)})
    assert strict is not None
    y = latents((1, 5, 5, 3.0), (6, 5, 6, 3.0))
    torch.testing.assert_close(strict(y, False, False), left(y, chance=0.7))


def rippled(share: float, period: float = 1e9) -> Tensor:
    """A strip whose answers, in that share of its places, have a phase that comes back every `period` rows."""
    y, draw = latents(), torch.Generator().manual_seed(1)
    there = torch.rand(ROWS, COLUMNS, generator=draw) < share
    phase = 2 * torch.pi / period * torch.arange(ROWS)[:, None]
    y[OWN[0::2]], y[OWN[1::2]] = (torch.where(there, 2 * part, 0.0) for part in (phase.cos(), phase.sin()))
    return y


@pytest.mark.parametrize("period", [1e9, 7.3])
def test_answers_that_agree_are_written_in_full(period: float) -> None:
    y, agreeing = rippled(0.4, period), Verdict(kernels(), OWN, agreement=0.2)
    got = agreeing(y, False, False)
    inside = alarm_of(got[OWN][None], kernels())[..., 8:-8, 8:-8]
    assert inside.min() > 10 * RUIN
    others = [0, 5, 10]
    torch.testing.assert_close(got[others], y[others])
    assert [(got[part] != 0).any((1, 2)).sum() for part in OWN.chunk(2)] == [1, 1]  # one latent of each group


def test_answers_that_agree_less_than_a_model_says_are_as_before() -> None:
    y = rippled(0.4)
    torch.testing.assert_close(Verdict(kernels(), OWN, agreement=0.9)(y, False, False), left(y))
    torch.testing.assert_close(Verdict(kernels(), OWN)(rippled(1.0), False, False), left(rippled(1.0)))


def test_agreement_goes_before_chance() -> None:
    y = 0.5 * rippled(0.2)
    assert share_of(y, HARMLESS) > 0 and (left(y, chance=1.0)[OWN].round() == 0).all()
    assert (Verdict(kernels(), OWN, chance=1.0, agreement=0.1)(y, False, False)[OWN] != 0).any()


@pytest.mark.parametrize(("size", "expected"), [(1.0, [0.0, 0.5]), (2.0, [0.0, 0.5, 0.9])])
def test_other_views_count_as_far_as_it_takes(size: float, expected: list[float]) -> None:
    """Twice as much at other sizes."""
    y, agreeing = latents(), Verdict(kernels(), OWN, agreement=0.2)
    asked = []

    def views() -> Iterator[tuple[float, Tensor]]:
        for share in (0.0, 0.5, 0.9, 0.0):
            asked.append(share)
            yield size, rippled(share)[OWN]

    torch.testing.assert_close(agreeing(y, False, False, views()), agreeing(rippled(0.9), False, False))
    assert asked == expected
    torch.testing.assert_close(Verdict(kernels(), OWN)(y, False, False, views()), left(y))
    assert asked == expected


def test_a_strip_with_the_pattern_is_a_first_decode_s() -> None:
    """Asked only where the strip's own answers do not agree, and before other views."""
    asked = []

    def say(answer: bool) -> bool:
        asked.append(answer)
        return answer

    full = Verdict(kernels(), OWN, agreement=0.2)(rippled(0.9), False, False)
    for agreement in (None, 0.2):
        verdict = Verdict(kernels(), OWN, agreement=agreement)
        y = latents()
        torch.testing.assert_close(verdict(y, False, False, patterned=lambda: say(True)), full)
        torch.testing.assert_close(verdict(y, False, False, patterned=lambda: say(False)), left(y))
    assert asked == [True, False, True, False]
    verdict(rippled(0.9), False, False, patterned=lambda: say(True))
    assert len(asked) == 4


def test_a_model_says_from_which_coherence_on() -> None:
    y = rippled(0.4)
    for least, full in ((0.2, True), (0.9, False)):
        verdict = verdict_of(tensors() | {COHERENCE: np.array([least], np.float32)})
        assert verdict is not None
        expected = Verdict(kernels(), OWN, agreement=0.2)(y, False, False) if full else left(y)
        torch.testing.assert_close(verdict(y, False, False), expected)


def test_coherence_needs_pairs() -> None:
    odd = {ANSWERS: np.asarray(kernels())[:, :3], CHANNELS: np.arange(6, dtype=np.int32)}
    assert verdict_of(tensors() | odd) is not None
    with pytest.raises(BadModelFile, match="even n"):
        verdict_of(tensors() | odd | {COHERENCE: np.array([0.1], np.float32)})


@pytest.mark.parametrize(
    "change",
    [
        {ANSWERS: None},
        {CHANNELS: None},
        {ANSWERS: np.full((2, PER_GROUP, SUMS, 5, 5), np.nan, np.float32)},
        {ANSWERS: np.ones((2, PER_GROUP, SUMS, 3, 3), np.float32)},
        {ANSWERS: np.ones((1, 2 * PER_GROUP, SUMS, 5, 5), np.float32)},
        {ANSWERS: np.ones((2, PER_GROUP, 0, 5, 5), np.float32)},
        {CHANNELS: np.arange(7, dtype=np.int32)},
        {CHANNELS: np.arange(8, dtype=np.int64)},
        {CHANNELS: np.arange(4, 12, dtype=np.int32)},
        {CHANNELS: np.arange(-1, 7, dtype=np.int32)},
        {CHANCE: np.array([1.5], np.float32)},
        {CHANCE: np.array([np.nan], np.float32)},
        {CHANCE: np.zeros(2, np.float32)},
        {COHERENCE: np.array([-0.1], np.float32)},
        {COHERENCE: np.array([0.1], np.float64)},
    ],
)
def test_damaged_ones_are_refused(change: dict[str, npt.NDArray[Any] | None]) -> None:
    damaged = {name: array for name, array in (tensors() | change).items() if array is not None}
    with pytest.raises(BadModelFile, match=ANSWERS):
        verdict_of(damaged)
