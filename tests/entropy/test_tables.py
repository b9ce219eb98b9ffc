"""Integer probability tables: made right, and checked when they are read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slic_cli.entropy.tables import ESCAPE_FREQUENCY, TOTAL, FrequencyTables, build_tables, quantise_probabilities
from slic_cli.latent_tables import gaussian_tables, scale_levels

probabilities = st.lists(st.floats(0, 1e6), min_size=1, max_size=300).filter(lambda values: sum(values) > 1e-9)


def tables(frequencies: list[int], lengths: list[int], lowest: list[int]) -> FrequencyTables:
    return FrequencyTables(np.array(frequencies, np.int32), np.array(lengths, np.int32), np.array(lowest, np.int32))


SOUND = tables([TOTAL - 1, 1, 5, TOTAL - 10, 5], [2, 3], [0, -4])


@settings(deadline=None)
@given(probabilities)
def test_frequencies_sum_to_the_total_and_none_is_zero(values: list[float]) -> None:
    frequencies = quantise_probabilities(np.array(values))
    assert frequencies.dtype == np.int32
    assert int(frequencies.astype(np.int64).sum()) == TOTAL
    assert frequencies.min() >= 1
    assert frequencies[-1] == ESCAPE_FREQUENCY


@settings(deadline=None)
@given(probabilities)
def test_frequencies_follow_the_probabilities(values: list[float]) -> None:
    frequencies = quantise_probabilities(np.array(values))[:-1]
    exact = np.array(values) / sum(values) * (TOTAL - ESCAPE_FREQUENCY - len(values)) + 1
    assert np.abs(frequencies - exact).max() <= 1


def test_remainders_go_to_the_largest_fractions_and_then_to_the_first() -> None:
    each, over = divmod(TOTAL - ESCAPE_FREQUENCY - 999, 999)
    assert 100 < over < 900
    expected = [each + 2] * over + [each + 1] * (999 - over) + [ESCAPE_FREQUENCY]
    assert quantise_probabilities(np.ones(999)).tolist() == expected
    large = quantise_probabilities(np.array([0.5, 0.5 - 1e-9, 1e-9]))
    assert large[2] == 1  # its fraction is the smallest


@pytest.mark.parametrize("values", [[1e-300], [0.0, 0.0, 1e-300, 0.0], [1.0] * 4000])
def test_extreme_but_valid_probabilities(values: list[float]) -> None:
    assert tables(quantise_probabilities(np.array(values)).tolist(), [len(values) + 1], [0]).problem() is None


@pytest.mark.parametrize("values", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [-1.0, 3.0], []])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_distribution_never_makes_a_sound_table(values: list[float]) -> None:
    assert build_tables([(0, np.array(values))]).problem() is not None


def test_tables_are_concatenated() -> None:
    built = build_tables([(-1, np.ones(3)), (7, np.ones(1))])
    assert built.problem() is None
    assert (built.lengths.tolist(), built.lowest.tolist(), built.starts().tolist()) == ([4, 2], [-1, 7], [0, 4])


def test_sound_tables_have_no_problem() -> None:
    assert SOUND.problem() is None


@pytest.mark.parametrize(
    ("faulty", "problem"),
    [
        (replace(SOUND, lowest=np.array([0], np.int32)), "offsets"),
        (tables([], [], []), "offsets"),
        (replace(SOUND, lengths=np.array([2, 2], np.int32)), "at least two"),
        (replace(SOUND, lengths=np.array([4, 1], np.int32)), "at least two"),
        (replace(SOUND, lengths=np.array([6, -1], np.int32)), "at least two"),
        (replace(SOUND, lengths=np.array([2**31 - 1] * 2, np.int32)), "at least two"),
        (tables([TOTAL], [1], [0]), "at least two"),
        (tables([TOTAL, 0], [2], [0]), "positive"),
        (tables([TOTAL + 1, -1], [2], [0]), "positive"),
        (tables([TOTAL - 1, 2], [2], [0]), "sum to"),
        (tables([TOTAL - 2, 1], [2], [0]), "sum to"),
        (tables([TOTAL, 1, 5, TOTAL - 11, 5], [2, 3], [0, -4]), "sum to"),  # right only on average
        (tables([2**31 - 1] * 2 + [2 + TOTAL], [3], [0]), "sum to"),  # right only modulo 2^32
        (replace(SOUND, lowest=np.array([0, -(2**31)], np.int32)), "16 bits"),
        (replace(SOUND, lowest=np.array([40000, 0], np.int32)), "16 bits"),
    ],
)
def test_each_fault_is_found(faulty: FrequencyTables, problem: str) -> None:
    assert problem in (faulty.problem() or "")


@pytest.mark.parametrize(("length", "lowest"), [(2, 1 << 15), (4, 32766)])
def test_an_alphabet_beyond_16_bits_is_found(length: int, lowest: int) -> None:
    faulty = tables([TOTAL - length + 1] + [1] * (length - 1), [length], [lowest])
    assert "16 bits" in (faulty.problem() or "")


def test_gaussian_tables_are_sound_and_symmetric() -> None:
    gaussians = gaussian_tables()
    assert gaussians.problem() is None
    assert len(gaussians.lengths) == len(scale_levels())
    for start, length, low in zip(gaussians.starts(), gaussians.lengths, gaussians.lowest, strict=True):
        letters = gaussians.frequencies[start : start + length - 1]
        assert len(letters) == 2 * -low + 1
        assert np.abs(letters - letters[::-1]).max() <= 1  # a remainder may fall on one side


def test_gaussian_tables_follow_the_gaussian() -> None:
    """The divergence from the true distribution, in bits a symbol: what the tables' rounding and escapes cost."""
    gaussians = gaussian_tables()
    for scale, start, length, low in zip(
        scale_levels(), gaussians.starts(), gaussians.lengths, gaussians.lowest, strict=True
    ):
        coded = gaussians.frequencies[start : start + length - 1] / TOTAL
        edges = np.arange(low, -low + 2) - 0.5
        cumulative = np.array([0.5 * math.erfc(-edge / scale / math.sqrt(2)) for edge in edges])
        true = np.diff(cumulative)
        likely = true > 1e-12  # what is lost by cancellation beyond that weighs nothing
        excess_bits = (true[likely] * np.log2(true[likely] / coded[likely])).sum()
        assert -1e-6 < excess_bits < 1e-3
