"""Dependent quantisation: trellises, the search for the best path, and what it is good for."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slic_cli.errors import BadModelFile
from slic_cli.trellis import TrellisQuantiser, check_transitions, make_transitions, reconstruct

Array = npt.NDArray[np.float64]
Symbols = npt.NDArray[np.int16]

ALL_STATES = (4, 8, 16, 32, 64, 128, 256)
REACH = 3  # of the symbols that are tried one and all


def numbers(values: list[int]) -> Symbols:
    return np.array(values, np.int16)


def gaussian_costs(deviation: float, magnitudes: int = 64) -> Array:
    """Bits of the symbols 0, 1, ... of both quantisers at one scale level, from a density: (1, 2, magnitudes)."""
    costs = []
    for quantiser in range(2):
        latents = reconstruct(np.arange(-magnitudes, magnitudes + 1, dtype=np.int16), np.array([quantiser], np.uint8))
        weights = np.exp(-np.square(latents / deviation) / 2) + 1e-12
        costs.append(-np.log2(weights / weights.sum())[magnitudes:-1])
    return np.array(costs)[None]


def walk(transitions: npt.NDArray[np.int32], symbols: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The quantiser of each symbol of paths (paths, steps) that start in state 0."""
    states, quantisers = np.zeros(len(symbols), np.int64), []
    for column in symbols.T:
        quantisers.append(states % 2)
        states = transitions[states, column % 2].astype(np.int64)
    return np.stack(quantisers, 1)


def price(
    symbols: npt.NDArray[np.int64],
    latents: Array,
    levels: list[int],
    costs: Array,
    transitions: npt.NDArray[np.int32],
    paid: float,
) -> Array:
    """Bits + `paid` x squared error of paths (paths, steps)."""
    quantisers = walk(transitions, symbols)
    error = latents - (2 * symbols - np.sign(symbols) * quantisers)
    return (costs[levels, quantisers, abs(symbols)] + paid * np.square(error)).sum(1)


# --- trellises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("states", ALL_STATES)
def test_two_ways_lead_into_each_state_and_all_are_reached(states: int) -> None:
    transitions = make_transitions(states)
    check_transitions(transitions)
    assert (transitions[:, 0] != transitions[:, 1]).all()
    reached = {0}
    for _ in range(states.bit_length() - 1):
        reached = {int(after) for state in reached for after in transitions[state]}
    assert reached == set(range(states))


def test_transitions_of_eight_states_are_these() -> None:
    """Models hold them: the codes must not change under encoders that were tuned with them."""
    assert make_transitions(8).tolist() == [[0, 2], [5, 7], [1, 3], [4, 6], [2, 0], [7, 5], [3, 1], [6, 4]]


@pytest.mark.parametrize(
    "transitions",
    [
        *[np.zeros((4, 2), np.int32), make_transitions(4).astype(np.int64), make_transitions(4)[:, :1]],
        *[make_transitions(4) + np.int32(1), make_transitions(4)[:3], make_transitions(4).ravel()],
        *[np.empty((0, 2), np.int32), np.array([[0, 0]], np.int32), np.array([[0, -1], [1, 1]], np.int32)],
        *[np.repeat(np.arange(257, dtype=np.int32), 2).reshape(257, 2), np.int32(3)],
    ],
    ids=[
        *["one way in", "int64", "one column", "too high", "too short", "flat"],
        *["none", "one state", "negative", "too many", "a number"],
    ],
)
def test_other_transitions_are_refused(transitions: npt.NDArray[np.generic]) -> None:
    with pytest.raises(BadModelFile, match="expected a trellis of 2 to 256 states, two ways into each"):
        check_transitions(np.asarray(transitions))


def test_what_symbols_stand_for() -> None:
    symbols = numbers([-3, -2, -1, 0, 1, 2, 3])
    assert reconstruct(symbols, np.zeros(7, np.uint8)).tolist() == [-6, -4, -2, 0, 2, 4, 6]
    latents = reconstruct(symbols, np.ones(7, np.uint8))
    assert latents.tolist() == [-5, -3, -1, 0, 1, 3, 5]
    assert latents.dtype == np.int16


# --- the search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("states", [4, 8, 16])
@pytest.mark.parametrize("paid", [0.2, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_path_is_better_than_the_one_found(states: int, paid: float, seed: int) -> None:
    """Against all 7^5 paths of symbols up to 3; latents of exactly 0 and ties between symbols are among them."""
    random, transitions = np.random.default_rng(seed), make_transitions(states)
    latents = random.normal(0, 1.5, 5).clip(-4, 4)
    latents[seed % 5], latents[(seed + 2) % 5] = 0.0, -1.0
    costs = np.concatenate([gaussian_costs(0.8), gaussian_costs(2.0)])
    levels = random.integers(0, 2, 5).tolist()
    found = TrellisQuantiser(transitions, costs, paid)(torch.tensor(latents), torch.tensor(levels), 1)
    everything = np.array(list(product(range(-REACH, REACH + 1), repeat=5)))
    best = price(everything, latents, levels, costs, transitions, paid).min()
    own = price(found[None].astype(np.int64), latents, levels, costs, transitions, paid)[0]
    assert found.dtype == np.int16
    assert own == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_lanes_are_paths_of_their_own(count: int) -> None:
    """Every third latent belongs to one path, also where the last step leaves lanes without one."""
    latents = torch.from_numpy(np.random.default_rng(5).normal(0, 3, count).astype(np.float32))
    levels, quantiser = (
        torch.zeros(count, dtype=torch.int64),
        TrellisQuantiser(make_transitions(8), gaussian_costs(3.0), 4.0),
    )
    together = quantiser(latents, levels, 3)
    for lane in range(min(3, count)):
        np.testing.assert_array_equal(together[lane::3], quantiser(latents[lane::3], levels[lane::3], 1))


def test_zeros_do_not_break_a_path() -> None:
    """A latent of 0 may be given an odd symbol for the sake of those after it; then that must be odd."""
    transitions, latents = make_transitions(8), np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    latents[::4] = 0
    symbols = TrellisQuantiser(transitions, gaussian_costs(3.0), 1000.0)(
        torch.from_numpy(latents), torch.zeros(1000, dtype=torch.int64), 1
    )
    quantisers = walk(transitions, symbols[None].astype(np.int64))[0]
    assert (symbols[::4] % 2 == 1).any()
    assert np.square(latents - reconstruct(symbols, quantisers.astype(np.uint8))).mean() < 0.22


def test_huge_latents_stay_within_16_bits() -> None:
    latents = torch.tensor([1e9, -1e9, float("inf"), -float("inf")])
    transitions = make_transitions(4)
    symbols = TrellisQuantiser(transitions, gaussian_costs(3.0), 1.0)(latents, torch.zeros(4, dtype=torch.int64), 4)
    np.testing.assert_array_equal(np.sign(symbols), [1, -1, 1, -1])
    assert (abs(symbols.astype(int)) * 2 < 1 << 15).all() and (abs(symbols) > 15990).all()


# --- what it is good for --------------------------------------------------------------------------------


def entropy_bits(symbols: npt.NDArray[np.generic]) -> float:
    _, counts = np.unique(symbols, return_counts=True)
    return float((counts * np.log2(len(symbols) / counts)).sum())


def scalar_error(latents: Array, bits: float) -> float:
    """The mean squared error of rounding to multiples of the step that takes so many bits."""
    low, high = 0.1, 20.0
    for _ in range(30):
        step = (low * high) ** 0.5
        low, high = (step, high) if entropy_bits(np.rint(latents / step)) > bits else (low, step)
    return float(np.square(latents - np.rint(latents / low) * low).mean())


def gain_db(states: int) -> float:
    """What a trellis saves of the squared error of Gaussians, against plain rounding at the same entropy."""
    count, deviation, transitions = 1 << 15, 6.0, make_transitions(states)
    latents = np.random.default_rng(1).normal(0, deviation, count)
    lanes = 128
    symbols = TrellisQuantiser(transitions, gaussian_costs(deviation), 3.0)(
        torch.from_numpy(latents).float(), torch.zeros(count, dtype=torch.int64), lanes
    )
    quantisers = walk(transitions, symbols.reshape(-1, lanes).T.astype(np.int64)).T.ravel()
    error = np.square(latents - reconstruct(symbols, quantisers.astype(np.uint8))).mean()
    bits = sum(entropy_bits(symbols[quantisers == quantiser]) for quantiser in range(2))
    return float(10 * np.log10(scalar_error(latents, bits) / error))


def test_a_trellis_packs_better_than_rounding_and_a_longer_one_better_still() -> None:
    """Ungerboeck's codes are known to give 0.99 dB with 8 states, of 1.53 dB that there are (at high rates)."""
    gains = [gain_db(states) for states in (4, 8, 32, 128)]
    assert gains[0] > 0.6
    assert gains[1] > gains[0] + 0.05
    assert gains[2] > gains[1] + 0.05
    assert gains[3] > gains[2] + 0.05
    assert gains[3] < 1.53
