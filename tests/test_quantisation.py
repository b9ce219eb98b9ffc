"""Rounding of latents, and the choice of a probability table at its borders."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slic_cli.errors import BadModelFile
from slic_cli.latent_tables import scale_thresholds
from slic_cli.quantisation import (
    MAX_THRESHOLD,
    SYMBOL_MAX,
    SYMBOL_MIN,
    RateDistortionQuantiser,
    ScaleTable,
    quantise,
)

rising = st.sets(st.integers(1, 5000), min_size=1, max_size=255).map(sorted)


@pytest.mark.parametrize(
    ("latent", "symbol"),
    [
        *[(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (2.4999, 2), (1e9, SYMBOL_MAX), (-1e9, SYMBOL_MIN)],
        *[(float("inf"), SYMBOL_MAX), (float("-inf"), SYMBOL_MIN), (32766.6, SYMBOL_MAX), (-32768.4, SYMBOL_MIN)],
    ],
)
def test_rounds_ties_to_even_and_clips(latent: float, symbol: int) -> None:
    result = quantise(torch.tensor([latent]))
    assert result.dtype == np.int16
    assert result.tolist() == [symbol]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rounds_what_other_precisions_hold(dtype: torch.dtype) -> None:
    latents = torch.tensor([[-2.5, 3.5], [100.0, -0.25]], dtype=dtype)
    np.testing.assert_array_equal(quantise(latents), [[-2, 4], [100, 0]])


def costs(scale: float) -> npt.NDArray[np.float64]:
    """Bits of 0, 1, 2, 3 under a Gaussian of that deviation, integrated over unit cells."""
    edges = [0.5 * math.erfc((k - 0.5) / (scale * math.sqrt(2))) for k in range(5)]
    return -np.log2(-np.diff(edges))


@pytest.mark.parametrize("scale", [0.3, 0.6, 2.0, 40.0])
def test_rounds_towards_0_where_bits_are_worth_more_than_the_error(scale: float) -> None:
    """Against the sum of both, for either candidate."""
    bits = costs(scale)
    latents = np.linspace(-3.2, 3.2, 641)
    expected = []
    for y in np.abs(latents):
        nearest = int(np.rint(y))
        spent = {k: 12 * (y - k) ** 2 + bits[k] for k in (nearest, max(0, nearest - 1))}
        expected.append(min(spent, key=lambda k: spent[k]))
    quantiser = RateDistortionQuantiser(np.stack([costs(0.9), bits]))
    symbols = quantiser(torch.from_numpy(latents), np.full(latents.shape, 1, np.uint8))
    assert symbols.dtype == np.int16
    np.testing.assert_array_equal(symbols, np.sign(latents) * expected)


def test_what_is_too_unlikely_to_be_chance_is_only_rounded() -> None:
    latents = torch.tensor([[0.51, -0.9], [1.4, 2.6]])
    symbols = RateDistortionQuantiser(costs(0.12)[None])(latents, np.zeros((2, 2), np.uint8))
    np.testing.assert_array_equal(symbols, [[1, -1], [1, 3]])


def test_large_and_infinite_latents_are_clipped_as_by_rounding() -> None:
    latents = torch.tensor([1e9, -1e9, float("inf"), 700.4, 0.0])
    symbols = RateDistortionQuantiser(costs(1.0)[None])(latents, np.zeros(5, np.uint8))
    assert symbols.tolist() == [SYMBOL_MAX, SYMBOL_MIN, SYMBOL_MAX, 700, 0]


@pytest.mark.parametrize(
    "thresholds", [scale_thresholds().tolist(), [1], [1, 2, 3], [MAX_THRESHOLD], list(range(7, 7 + 255))]
)
def test_table_at_every_border(thresholds: list[int]) -> None:
    table = ScaleTable(np.array(thresholds, np.int32))
    for index, threshold in enumerate(thresholds):
        below, at = table(np.array([threshold - 1.0, threshold]))
        assert (below, at) == (index, index + 1)
    assert table(np.array([0.0, 1e15])).tolist() == [0, len(thresholds)]


@settings(deadline=None)
@given(rising, st.lists(st.integers(0, 6000), max_size=50))
def test_table_is_a_search(thresholds: list[int], scales: list[int]) -> None:
    borders = np.array(thresholds, np.int32)
    indices = ScaleTable(borders)(np.array(scales, np.float64))
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices, np.searchsorted(borders, scales, side="right"))


def test_table_keeps_the_shape() -> None:
    table = ScaleTable(np.array([10, 20], np.int32))
    np.testing.assert_array_equal(table(np.array([[[9.0, 10.0], [19.0, 20.0]]])), [[[0, 1], [1, 2]]])


@pytest.mark.parametrize(
    "thresholds",
    [[0], [-3, 5], [5, 5], [5, 4], [3, MAX_THRESHOLD + 1], [2**31 - 1, -(2**31)]],
    ids=["zero", "negative", "equal", "falling", "too large", "wraps around"],
)
def test_wrong_thresholds_are_refused(thresholds: list[int]) -> None:
    with pytest.raises(BadModelFile, match="rising scale thresholds"):
        ScaleTable(np.array(thresholds, np.int32))


@pytest.mark.parametrize(
    "thresholds",
    [
        *[np.empty(0, np.int32), np.arange(1, 257, dtype=np.int32), np.ones((2, 2), np.int32)],
        *[np.array([1.5, 2.5], np.float32), np.array([1, 2], np.uint64), np.int32(3)],
    ],
    ids=["none", "too many", "a plane", "not integers", "unsigned", "a number"],
)
def test_thresholds_that_are_no_list_of_integers_are_refused(thresholds: npt.NDArray[np.int32]) -> None:
    with pytest.raises(BadModelFile, match="1 to 255 int32"):
        ScaleTable(np.asarray(thresholds))
