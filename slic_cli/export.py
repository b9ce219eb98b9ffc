"""From a trained state dict to a model file: keep the weights in half precision, make the probability tables.

Probabilities are computed in floating point here and in latent_tables.py alone, once; every machine reads the integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.architectures import find_architecture
from slic_cli.entropy.latent_coder import TRADEOFF
from slic_cli.entropy.tables import FrequencyTables, build_tables
from slic_cli.errors import BadModelFile
from slic_cli.latent_tables import LatentTables, expected_tables, table_tensors
from slic_cli.model_file import save_model
from slic_cli.shapes import check_shapes
from slic_cli.transform.edges import COLOUR, FILTER
from slic_cli.transform.minnen2018 import MAGNITUDES
from slic_cli.transform.pattern import PATTERN, pattern_of
from slic_cli.transform.verdict import ANSWERS, CHANCE, CHANNELS, COHERENCE, verdict_of

Array = npt.NDArray[np.float64]

_WEIGHTS = ("g_a.", "g_s.", "h_a.", "h_s.", "entropy_bottleneck.", "context_prediction.", "entropy_parameters.")
_FOR_ENCODERS = {  # tensors of a model file, and what a state has them as
    FILTER: "edge_filter",
    COLOUR: "edge_colour",
    MAGNITUDES: "hyper_magnitudes",
    ANSWERS: "answers",
    CHANNELS: "answering",
    CHANCE: "chance",
    COHERENCE: "coherence",
    PATTERN: "pattern",
}
_DERIVED = ("bound", "pedestal", "target", "_offset", "_quantized_cdf", "_cdf_length", ".mask")
_Z_REACH = 1 << 10
_Z_TAIL = 2.0**-30


def export_model(
    path: Path,
    state: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str],
    force: bool,
    bits_per_squared_step: float | None = None,
    tables: LatentTables | None = None,
) -> None:
    """Write a model file from CompressAI's state dict of one of our architectures.

    `metadata` needs architecture, quality ("1" to "8") and metric; `bits_per_squared_step` is for the encoder
    (`RateDistortionQuantiser`), `tables` are Gaussians unless given. Raises BadModelFile, OutputError.
    """
    architecture = find_architecture(metadata["architecture"])
    tensors: dict[str, npt.NDArray[Any]] = {
        name: _half(name, state[name]) for name in sorted(state) if _is_weight(name)
    }
    check_shapes(tensors, architecture.shapes)
    tensors |= architecture.as_read(tensors)
    tensors |= table_tensors("z", factorised_tables(tensors)) | (tables or expected_tables()).tensors()
    if "spread" in state:  # the latents' deviations, with which training can go on in normalised units
        tensors["training.spread"] = state["spread"].astype(np.float32)
    for name, key in _FOR_ENCODERS.items():
        if key in state:
            tensors[name] = state[key].astype(np.int32 if name == CHANNELS else np.float32)
    if bits_per_squared_step is not None:
        tensors[TRADEOFF] = np.array([bits_per_squared_step], np.float32)
    architecture.coder(tensors)  # refuses what could not be coded exactly
    verdict_of(tensors)
    pattern_of(tensors)
    save_model(path, tensors, metadata, force)


def _is_weight(name: str) -> bool:
    """Constants that CompressAI derives again are left out: some of its bounds even vanish in half precision."""
    return name.startswith(_WEIGHTS) and not name.endswith(_DERIVED)


def _half(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadModelFile(f"expected finite half-precision weights, got others in {name}")
    return half


def factorised_tables(tensors: Mapping[str, npt.NDArray[Any]]) -> FrequencyTables:
    """One table a channel of z: the fully factorised prior at its median plus integers (Balle et al. 2018, 6.1)."""
    medians = tensors["entropy_bottleneck.quantiles"][:, 0, 1].astype(np.float64)
    cells = np.arange(-_Z_REACH, _Z_REACH + 1)
    edges = medians[:, None] + np.append(cells - 0.5, _Z_REACH + 0.5)
    cumulative = _sigmoid(_cumulative_logits(tensors, edges))
    probabilities = np.diff(cumulative, axis=1)
    distributions = []
    for row in probabilities:
        used = np.flatnonzero(row > _Z_TAIL)
        if not len(used):
            raise BadModelFile("expected a factorised prior with its mass near the median, got none there")
        distributions.append((int(cells[used[0]]), row[used[0] : used[-1] + 1]))
    return build_tables(distributions)


def _cumulative_logits(tensors: Mapping[str, npt.NDArray[Any]], points: Array) -> Array:
    """The prior's monotone network at (channels, points), in double precision."""
    x = points[:, None, :]
    depth = sum(name.startswith("entropy_bottleneck.matrices.") for name in tensors)
    for i in range(depth):
        matrix = tensors[f"entropy_bottleneck.matrices.{i}"].astype(np.float64)
        x = np.logaddexp(0.0, matrix) @ x + tensors[f"entropy_bottleneck.biases.{i}"].astype(np.float64)
        if i < depth - 1:
            x = x + np.tanh(tensors[f"entropy_bottleneck.factors.{i}"].astype(np.float64)) * np.tanh(x)
    return x[:, 0, :]


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))
