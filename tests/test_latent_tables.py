"""Tables of y: what is expected, and what is made of what an encoder wrote."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from slic_cli.entropy.latent_coder import OWN, LatentCoder
from slic_cli.entropy.tables import TOTAL, build_tables
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT, TrellisLatentCoder
from slic_cli.latent_tables import (
    SCALE_LEVELS,
    STATES,
    LatentTables,
    expected_tables,
    fitted_tables,
    gaussian_tables,
    scale_levels,
)
from slic_cli.trellis import make_transitions

REACH = 2048
OWN_KINDS = np.array([-1, 0, 1, -1, 0], np.int32)

every_kind = pytest.mark.parametrize("steps", [0, 32, 256])


def no_counts(tables: LatentTables) -> npt.NDArray[np.int64]:
    return np.zeros((len(tables.distributions), 2 * REACH + 1), np.int64)


def deviation(distribution: tuple[int, npt.NDArray[np.float64]], quantiser: int | None = None) -> float:
    """Of symbols, or of what they stand for in steps of a trellis."""
    lowest, shares = distribution
    symbols = np.arange(len(shares)) + lowest
    values = symbols if quantiser is None else 2 * symbols - np.sign(symbols) * quantiser
    return float((shares @ np.square(values)) ** 0.5)


@every_kind
def test_tables_are_sound_and_a_coder_takes_them(steps: int) -> None:
    tensors = expected_tables(OWN_KINDS, steps).tensors()
    lengths = tensors["tables.y.lengths"]
    sums = np.add.reduceat(tensors["tables.y.frequencies"], np.cumsum(lengths) - lengths)
    assert (sums == TOTAL).all()
    coder = (TrellisLatentCoder if steps else LatentCoder)(tensors | {"g_a.6.bias": np.zeros(5, np.float16)})
    assert coder.levels == SCALE_LEVELS
    assert coder.own.tolist() == [1, 2, 4]


@every_kind
def test_tables_of_scale_levels_are_symmetric(steps: int) -> None:
    tables = expected_tables(OWN_KINDS, steps)
    for lowest, shares in tables.distributions:
        assert len(shares) == 1 - 2 * lowest
        np.testing.assert_allclose(shares, shares[::-1], rtol=1e-9)
        assert (shares > 0).all()


def test_eight_kinds_of_channels_leave_room_for_a_trellis() -> None:
    """A table has a number of 8 bits."""
    tables = expected_tables(np.arange(-1, 8, dtype=np.int32), steps=256)
    assert len(tables.distributions) - tables.shared == 8
    assert len(tables.distributions) <= 256
    assert tables.own.tolist() == [-1, *range(tables.shared, tables.shared + 8)]


def test_plain_tables_are_those_of_before() -> None:
    tables = expected_tables()
    assert set(tables.tensors()) == {f"tables.y.{part}" for part in ("frequencies", "lengths", "lowest", "thresholds")}
    np.testing.assert_array_equal(tables.tensors()["tables.y.frequencies"], gaussian_tables().frequencies)
    unused = expected_tables(np.full(5, -1, np.int32)).tensors()
    assert OWN not in unused and len(unused["tables.y.lengths"]) == SCALE_LEVELS


def test_what_a_trellis_adds() -> None:
    """Latents with scales from half a unit on have second tables, one after another, with the cells of odd numbers."""
    tables = expected_tables(steps=32)
    tensors = tables.tensors()
    assert tensors[UNIT].dtype == tensors[STEPS].dtype == np.dtype(np.int32)
    assert (tensors[UNIT].tolist(), tensors[STEPS].tolist()) == ([43], [32])
    levels, pairs = scale_levels() * 64 / 43, tensors[PAIRED]
    assert ((pairs >= 0) == (levels >= 0.5)).all()
    assert pairs[pairs >= 0].tolist() == list(range(SCALE_LEVELS, tables.shared))
    assert tables.shared == len(tables.distributions)
    np.testing.assert_array_equal(tensors[TRANSITIONS], make_transitions(STATES))
    for level in np.flatnonzero((levels > 4) & (levels < 40)):
        even, odd = (tables.distributions[number] for number in (level, pairs[level]))
        assert [deviation(even, 0), deviation(odd, 1)] == pytest.approx([levels[level]] * 2, rel=0.03)
        assert odd[1][-odd[0]] < even[1][-even[0]]  # of 0: 1 unit wide, not 2


def test_scales_name_the_same_levels_with_a_trellis_and_without() -> None:
    """Thresholds are in steps of latents: networks need not know of units."""
    plain, dependent = (expected_tables(steps=steps).tensors()["tables.y.thresholds"] for steps in (0, 256))
    np.testing.assert_array_equal(plain, dependent)


@pytest.mark.parametrize(("scale", "even", "odd"), [(1.0, 0.682689, 0.382925), (4.0, 0.197413, 0.099476)])
def test_the_cell_of_0(scale: float, even: float, odd: float) -> None:
    """P(|x| < 1) and P(|x| < 1 / 2) of Gaussians, in units, from a table of the error function."""
    tables, levels = expected_tables(steps=256), scale_levels() * 64 / 43
    level = int(np.abs(levels - scale).argmin())
    exact = [float(tables.distributions[number][1][-tables.distributions[number][0]]) for number in
             (level, int(tables.pairs[level]))]  # fmt: skip
    assert exact == pytest.approx([even, odd], rel=0.04)


# --- fits -----------------------------------------------------------------------------------------------


@every_kind
def test_nothing_seen_changes_nothing(steps: int) -> None:
    tables = expected_tables(OWN_KINDS, steps)
    fitted = fitted_tables(tables, no_counts(tables))
    for (lowest, shares), (before, expected) in zip(fitted.distributions, tables.distributions, strict=True):
        assert lowest == before
        np.testing.assert_allclose(shares, expected, rtol=1e-12)
    for name, tensor in tables.tensors().items():
        np.testing.assert_array_equal(fitted.tensors()[name], tensor, err_msg=name)


@every_kind
def test_tables_move_towards_what_was_seen(steps: int) -> None:
    """The more so the more was seen, and no other table."""
    tables, number = expected_tables(OWN_KINDS, steps), 60
    lowest, before = tables.distributions[number]
    shares = np.zeros_like(before)
    shares[-lowest - 1 : -lowest + 2] = 0.2, 0.5, 0.3
    distances = []
    for seen in (0, 10, 1000, 100_000):
        counts = no_counts(tables)
        counts[number, REACH - 1 : REACH + 2] = np.rint(seen * np.array([0.2, 0.5, 0.3]))
        fitted = fitted_tables(tables, counts)
        after = fitted.distributions[number][1]
        assert after.sum() == pytest.approx(before.sum(), abs=1e-6)
        assert (after > 0).all()
        distances.append(float(abs(after - (shares + shares[::-1]) / 2).sum()))
        for other in (0, number - 1, number + 1, tables.shared):
            np.testing.assert_allclose(fitted.distributions[other][1], tables.distributions[other][1], rtol=1e-9)
    assert sorted(distances, reverse=True) == distances
    assert distances[-1] < 0.01 < 0.5 * distances[0]


def test_tables_of_scale_levels_stay_symmetric_and_those_of_channels_need_not() -> None:
    tables = expected_tables(OWN_KINDS, steps=256)
    counts = no_counts(tables)
    counts[:, REACH + 1] = 10_000
    fitted = fitted_tables(tables, counts).distributions
    for _, shares in fitted[: tables.shared]:
        np.testing.assert_allclose(shares, shares[::-1], rtol=1e-9)
    for lowest, shares in fitted[tables.shared :]:
        assert shares[1 - lowest] > 0.99
        assert shares[-1 - lowest] < 0.01


def test_symbols_beyond_a_table_are_left_to_its_escape() -> None:
    tables = expected_tables(OWN_KINDS)
    counts = no_counts(tables)
    counts[:, 0] = counts[:, -1] = 10**6
    fitted = fitted_tables(tables, counts)
    for (_, shares), (_, before) in zip(fitted.distributions, tables.distributions, strict=True):
        np.testing.assert_allclose(shares, before, rtol=1e-9)


def test_a_fit_costs_fewer_bits_than_what_was_expected() -> None:
    """Of Laplacian symbols, which no Gaussian fits."""
    tables, number = expected_tables(), 70
    random = np.random.default_rng(0)
    symbols = np.rint(random.laplace(0, deviation(tables.distributions[number]) / 2**0.5, 20_000)).astype(int)
    counts = no_counts(tables)
    np.add.at(counts[number], symbols + REACH, 1)
    lowest = tables.distributions[number][0]
    inside = symbols[abs(symbols) <= -lowest] - lowest
    bits = []
    for each in (tables, fitted_tables(tables, counts)):
        frequencies = build_tables([each.distributions[number]]).frequencies
        bits.append(float((24 - np.log2(frequencies[inside])).sum()))
    assert bits[1] < 0.985 * bits[0]
