"""The latents of a model with dependent quantisation (trellis.py), coded step by step along its paths.

Latents with scales large enough for it are put in the order of their tables and dealt out to lanes, each of which walks
through the trellis by itself: a step of all lanes is coded at once. All others are coded first, as without a trellis.
What is known at once, a strip or a front of it, is coded so. docs/format.md specifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.latent_coder import LATENT_UNITS, Indices, LatentCoder, Latents
from slic_cli.errors import BadModelFile
from slic_cli.quantisation import RateDistortionQuantiser
from slic_cli.trellis import TrellisQuantiser, check_transitions, reconstruct

TRANSITIONS, STEPS, UNIT, PAIRED = "trellis.transitions", "trellis.steps", "trellis.unit", "tables.y.paired"
MAX_LANES = 1024
_MAGNITUDES = 64  # of symbols whose bits an encoder weighs one by one

Places = npt.NDArray[np.int64]


def lanes_of(count: int, steps: int) -> int:
    """How many lanes so many latents are dealt out to: as many as leave each so many steps."""
    return max(1, min(MAX_LANES, count // steps))


def make_latent_coder(tensors: Tensors) -> LatentCoder:
    """The one that a model asks for. Raises BadModelFile, KeyError."""
    return TrellisLatentCoder(tensors) if TRANSITIONS in tensors else LatentCoder(tensors)


class TrellisLatentCoder(LatentCoder):
    """`write` and `read` of latents, of which those with a pair of tables are quantised dependently.

    The others are whole numbers where their channel has a table of its own, else even numbers of `unit` / 64.
    """

    def __init__(self, tensors: Tensors) -> None:
        """Raises BadModelFile, KeyError."""
        pairs = tensors[PAIRED]
        if pairs.ndim != 1 or pairs.dtype != np.int32:
            raise BadModelFile(f"expected a list of int32 in {PAIRED}, got {pairs.dtype} {pairs.shape}")
        super().__init__(tensors, int((pairs >= 0).sum()))
        if len(pairs) != self.levels or pairs.max() >= len(self.coder) or (pairs[pairs >= 0] < self.levels).any():
            raise BadModelFile(f"expected a second table for scale levels, or -1, in {PAIRED}, got others")
        check_transitions(tensors[TRANSITIONS])
        self._transitions = tensors[TRANSITIONS]
        self._steps, self._unit = _number(tensors, STEPS, 1 << 16), _number(tensors, UNIT, LATENT_UNITS)
        self._paired = np.zeros(256, bool)
        self._paired[: self.levels] = pairs >= 0
        self._table_pairs = np.stack([np.arange(self.levels), pairs], 1).astype(np.uint8)
        costs = self.tables.costs(_MAGNITUDES)
        paid = self.paid * (self._unit / LATENT_UNITS) ** 2
        self._search = TrellisQuantiser(self._transitions, np.stack([costs[: self.levels], costs[pairs]], 1), paid)
        self._round_even = RateDistortionQuantiser(costs, 4 * paid, meant=not len(self.own))

    def write(self, writer: SymbolWriter, y: torch.Tensor, indices: Indices) -> Latents:
        """Quantise latents and append them: what `read` will give."""
        flat, y_hat = y.float().cpu().flatten(), np.empty(indices.size, np.int32)
        for places, unit, quantise in self._single(indices):
            tables = indices.reshape(-1)[places]
            symbols = quantise(flat[places] * (LATENT_UNITS / unit), tables)
            self.encode(writer, symbols, tables)
            y_hat[places] = symbols.astype(np.int32) * unit
        places = self._dependent(indices)
        levels = indices.reshape(-1)[places]
        latents = flat[places] * (LATENT_UNITS / self._unit)
        symbols = self._search(latents, torch.from_numpy(levels.astype(np.int64)), lanes_of(len(levels), self._steps))

        def code(step: slice, tables: Indices) -> Symbols:
            self.encode(writer, symbols[step], tables)
            return symbols[step]

        y_hat[places] = self._walk(levels, code)
        return y_hat.reshape(indices.shape)

    def read(self, reader: SymbolReader, indices: Indices) -> Latents:
        """Latents in 64ths, int32 in the shape of `indices`. Raises BadSlicFile."""
        y_hat = np.empty(indices.size, np.int32)
        for places, unit, _ in self._single(indices):
            y_hat[places] = self.decode(reader, indices.reshape(-1)[places]).astype(np.int32) * unit
        places = self._dependent(indices)
        y_hat[places] = self._walk(indices.reshape(-1)[places], lambda _, tables: self.decode(reader, tables))
        return y_hat.reshape(indices.shape)

    def _single(self, indices: Indices) -> Iterator[tuple[Places, int, RateDistortionQuantiser]]:
        """Places of latents that are quantised each by itself, what a symbol of theirs stands for in 64ths, and how an
        encoder finds it."""
        own = indices.reshape(-1) >= self.levels
        yield np.flatnonzero(own), LATENT_UNITS, self.quantise
        yield np.flatnonzero(~own & ~self._paired[indices.reshape(-1)]), 2 * self._unit, self._round_even

    def _dependent(self, indices: Indices) -> Places:
        """Places of the others, in the order of their tables."""
        places = np.flatnonzero(self._paired[indices.reshape(-1)])
        return places[np.argsort(indices.reshape(-1)[places], kind="stable")]

    def _walk(self, levels: Indices, code: Callable[[slice, Indices], Symbols]) -> Latents:
        """The latents of all lanes; `code` writes or reads the symbols of a step, each with its table."""
        lanes, y_hat = lanes_of(len(levels), self._steps), np.empty(len(levels), np.int32)
        states = np.zeros(lanes, np.int32)
        for start in range(0, len(levels), lanes):
            step = slice(start, start + lanes)
            states = states[: len(levels[step])]  # the last step may not fill all lanes
            quantisers = (states & 1).astype(np.uint8)
            symbols = code(step, self._table_pairs[levels[step], quantisers])
            y_hat[step] = reconstruct(symbols, quantisers)
            states = self._transitions[states, symbols & 1]
        return y_hat * self._unit


def _number(tensors: Tensors, name: str, most: int) -> int:
    number = tensors[name]
    if number.shape != (1,) or number.dtype != np.int32 or not 1 <= number[0] <= most:
        raise BadModelFile(f"expected one int32 from 1 to {most} in {name}, got {number}")
    return int(number[0])
