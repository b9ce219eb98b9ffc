"""What a model's encoder pays for exactness and the tables it writes with, found with real files of photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slic_cli.codec import Codec, Pixels, RealLatents, strip_rows_for
from slic_cli.container import serialise
from slic_cli.export import export_model
from slic_cli.latent_tables import USUAL_UNIT, LatentTables, expected_tables, fitted_tables
from slic_cli.metrics import bits_per_pixel
from slic_cli.registry import read_spec
from slic_cli.training.hyperprior import Array, Arrays

# Bits that the encoder may pay for an error of a squared step.
TRADEOFFS = (8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 32.0)
USUAL = 16.0  # tables hardly depend on it: those fitted for one tradeoff do to choose among all
STEPS = 256  # of a path through the trellis: longer ones find more, and leave less to do at once
_FRONT_STEPS = 64  # under a context model, which takes latents front by front
_MOST_KINDS = 8
_LAST = {"bmshj2018-hyperprior": "h_s.4", "mbt2018": "entropy_parameters.4", "cheng2020-anchor": "entropy_parameters.4"}
_FITS = 3  # of tables and of what is written with them, in turn


@dataclass(frozen=True)
class Leaving:
    """A codec on its way out: plain weights and metadata, and what goes with them as long as it is looked for."""

    path: Path
    arrays: Arrays
    metadata: Mapping[str, str]
    expected: LatentTables
    device: str

    def write(
        self, path: Path, tradeoff: float, tables: LatentTables, figures: Mapping[str, str] | None = None
    ) -> None:
        """The model file."""
        export_model(path, self.arrays, {**self.metadata, **(figures or {})}, True, tradeoff, tables)

    def codec(self, tradeoff: float, tables: LatentTables) -> Codec:
        """The codec that these would make."""
        self.write(self.path, tradeoff, tables)
        return Codec(read_spec(self.path), self.device)

    def analyse(self, pictures: Sequence[Pixels]) -> list[RealLatents]:
        """Their latents, which do not depend on what is looked for."""
        codec = self.codec(USUAL, self.expected)
        return [strip for pixels in pictures for strip in codec.analyse(pixels, strip_rows_for(pixels.shape[1]))]

    def fit(self, tradeoff: float, strips: Sequence[RealLatents]) -> LatentTables:
        """Tables of what is written for `strips` with tables so fitted."""
        tables = self.expected
        for _ in range(_FITS):
            tables = fitted_tables(self.expected, self.codec(tradeoff, tables).count_symbols(strips))
        return tables


def prepare(path: Path, arrays: Arrays, metadata: Mapping[str, str], device: str, unit: int = USUAL_UNIT) -> Leaving:
    """For plain weights of the architecture in `metadata`; drafts are written to `path`."""
    architecture = metadata["architecture"]
    steps = STEPS if architecture == "bmshj2018-hyperprior" else _FRONT_STEPS
    tables = expected_tables(own_kinds(arrays, architecture), steps, unit)
    return Leaving(path, arrays, metadata, tables, device)


def choose(
    leaving: Leaving, seen: Sequence[Pixels], held_out: Sequence[Pixels], rate_weight: float
) -> tuple[float, LatentTables]:
    """The bits paid for exactness that give the least R + lambda D on `held_out`, with tables fitted to `seen`."""
    strips = leaving.analyse(seen)
    tables = leaving.fit(USUAL, strips)
    best = min(TRADEOFFS, key=lambda bits: loss(leaving.codec(bits, tables), held_out, rate_weight))
    return best, tables if best == USUAL else leaving.fit(best, strips)


def loss(codec: Codec, pictures: Sequence[Pixels], rate_weight: float) -> float:
    """R + lambda 255^2 MSE of real files and their decodes, mean."""
    losses = []
    for pixels in pictures:
        file = codec.encode(pixels)
        error = np.square(codec.decode(file).astype(np.float64) - pixels).mean()
        losses.append(bits_per_pixel(len(serialise(file)), *pixels.shape[:2]) + rate_weight * error)
    return float(np.mean(losses))


def own_kinds(arrays: Mapping[str, Array], architecture: str) -> npt.NDArray[np.int32] | None:
    """Which latents (M) the entropy model expects to be the same everywhere, a carrier's among them: numbered from 0 by
    the scale that it gives them, -1 for all others. None where there are no such latents."""
    channels = len(arrays["g_a.6.bias"])
    weight, bias = (arrays[f"{_LAST[architecture]}.{part}"][:channels] for part in ("weight", "bias"))
    constant = ~weight.any((1, 2, 3))
    scales, kinds = np.unique(bias[constant], return_inverse=True)
    if not 0 < len(scales) <= _MOST_KINDS:
        return None
    numbers = np.full(channels, -1, np.int32)
    numbers[constant] = kinds
    return numbers
