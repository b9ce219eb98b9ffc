"""Dependent quantisation: two coarse quantisers that interleave, and a trellis that says which of them comes next.

Quantiser 0 reconstructs even numbers of units, quantiser 1 odd ones and 0. Which one a latent gets follows from the
parities of the symbols before it, so the decoder knows it, and an encoder that looks ahead (Viterbi's algorithm) has
nearly the choice of both at the rate of one: space is packed more densely than by rounding each latent by itself.
After trellis-coded quantisation (Marcellin and Fischer 1990) as in VVC (Schwarz et al., DCC 2019).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile

MAX_STATES = 256
# Parity checks h0 and h1 of Ungerboeck's codes for amplitude modulation (IEEE Trans. IT-28, 1982, table I), by states.
_CODES = {
    4: (0o5, 0o2),
    8: (0o13, 0o4),
    16: (0o23, 0o4),
    32: (0o45, 0o10),
    64: (0o103, 0o24),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
_LARGEST = 32000.0  # units of what is quantised: symbols, and what they stand for, have 16 bits
_NEVER = 1e30

Transitions = npt.NDArray[np.int32]


def make_transitions(states: int) -> Transitions:
    """The state after each, for even and odd symbols: (states, 2). The lowest bit of a state is its quantiser."""
    checks = _CODES[states]
    bits = states.bit_length() - 1
    following = np.zeros((states, 2), np.int32)
    for state, parity in product(range(states), range(2)):
        for place in range(1, bits + 1):
            feedback = (checks[0] >> place & 1) * (state & 1)
            bit = (state >> place & 1) ^ feedback ^ (checks[1] >> place & 1) * parity
            following[state, parity] |= bit << (place - 1)
    return following


def check_transitions(transitions: npt.NDArray[np.generic]) -> None:
    """Raises BadModelFile where they are not what a trellis needs: two ways into each state."""
    states = len(transitions) if transitions.ndim == 2 else 0
    fitting = transitions.dtype == np.int32 and transitions.shape == (states, 2) and 2 <= states <= MAX_STATES
    if not fitting or not np.array_equal(np.sort(transitions, axis=None), np.repeat(np.arange(states), 2)):
        raise BadModelFile(f"expected a trellis of 2 to {MAX_STATES} states, two ways into each, got another")


def reconstruct(symbols: npt.NDArray[np.int16], quantisers: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """What symbols of quantiser 0 or 1 stand for, in units."""
    latents: npt.NDArray[np.int16] = 2 * symbols - np.sign(symbols) * quantisers.astype(np.int16)
    return latents


class TrellisQuantiser:
    """Finds the symbols with the least bits + `bits_per_squared_unit` x squared error.

    `costs` are bits, float (levels, 2, magnitudes): of the symbols 0, 1, ... at each scale level, of both quantisers.
    """

    def __init__(self, transitions: Transitions, costs: npt.NDArray[np.float64], bits_per_squared_unit: float) -> None:
        self._costs = torch.from_numpy(costs.astype(np.float32))
        self._paid = bits_per_squared_unit
        self._states = len(transitions)
        ways = sorted(product(range(self._states), range(2)), key=lambda way: int(transitions[way]))
        ordered = [*ways[::2], *ways[1::2]]  # one way into each state, then the other
        self._from = np.array([state for state, _ in ordered])
        self._choice = np.array([2 * (state & 1) + parity for state, parity in ordered])

    def __call__(self, latents: Tensor, levels: Tensor, lanes: int) -> npt.NDArray[np.int16]:
        """Symbols (n,) of latents (n,) in units, with their scale levels; every `lanes`-th belongs to one path."""
        metrics, symbols = self._choices(latents, levels)
        count, steps = len(latents), -(-len(latents) // lanes)
        padded = np.zeros((4, steps * lanes), np.float32)
        padded[:, :count] = metrics
        chosen = self._best_paths(np.ascontiguousarray(padded.reshape(4, steps, lanes).transpose(1, 0, 2)))
        best: npt.NDArray[np.int16] = symbols[chosen.reshape(-1)[:count], np.arange(count)]
        return best

    def _choices(self, latents: Tensor, levels: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
        """For each latent the best even and the best odd symbol of both quantisers: what they cost, and which they are,
        (4, n), quantiser by quantiser."""
        size = latents.abs().clamp(max=_LARGEST)
        metrics, symbols = torch.empty(4, len(latents)), torch.empty(4, len(latents))
        for quantiser, parity in product(range(2), range(2)):
            nearest = (torch.floor((size + quantiser - 2 * parity) / 4 + 0.5) * 2 + parity).clamp_(min=parity)
            inner = (nearest - 2).clamp_(min=parity)
            costs = [self._cost(size, levels, symbol, quantiser) for symbol in (nearest, inner)]
            row = 2 * quantiser + parity
            metrics[row] = torch.minimum(*costs)
            symbols[row] = torch.where(costs[1] < costs[0], inner, nearest).copysign(latents)
        return metrics.numpy(), symbols.to(torch.int16).numpy()

    def _cost(self, size: Tensor, levels: Tensor, magnitude: Tensor, quantiser: int) -> Tensor:
        error = size - (2 * magnitude - quantiser * (magnitude > 0))
        _, _, magnitudes = self._costs.shape
        place = (2 * levels + quantiser) * magnitudes + magnitude.clamp(max=magnitudes - 1).long()
        return self._costs.flatten()[place] + self._paid * error.square_()

    def _best_paths(self, metrics: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The choices, 0 to 3, of each lane's cheapest path from state 0: (steps, lanes), from (steps, 4, lanes)."""
        steps, _, lanes = metrics.shape
        cost = np.full((self._states, lanes), _NEVER, np.float32)
        cost[0] = 0
        second = np.empty((steps, self._states, lanes), bool)
        ways, added = (np.empty((2 * self._states, lanes), np.float32) for _ in range(2))
        for step in range(steps):
            np.take(cost, self._from, 0, ways)
            np.take(metrics[step], self._choice, 0, added)
            ways += added
            np.less(ways[self._states :], ways[: self._states], second[step])
            np.minimum(ways[: self._states], ways[self._states :], cost)
        return self._trace_back(cost.argmin(0), second)

    def _trace_back(self, state: npt.NDArray[np.int64], second: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        steps, _, lanes = second.shape
        chosen, lane = np.empty((steps, lanes), np.uint8), np.arange(lanes)
        for step in range(steps - 1, -1, -1):
            way = state + self._states * second[step, state, lane]
            chosen[step] = self._choice[way]
            state = self._from[way]
        return chosen
