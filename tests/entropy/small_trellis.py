"""A small trellis, and tables that go with it, for models of any architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.entropy.latent_coder import OWN
from slic_cli.entropy.tables import TOTAL
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT
from slic_cli.trellis import make_transitions

Tensors = dict[str, npt.NDArray[Any]]

LEVELS = 4
OWN_CHANNEL, OWN_TABLE = 2, 7
SCALES = (100, 3000, 9000, 30000)  # fixed-point, one of each level


def bell(lowest: int, highest: int) -> list[int]:
    """Frequencies that fall on both sides of 0, from integers alone, and an escape."""
    weights = [1 << (16 - 16 * abs(symbol) // (1 + max(-lowest, highest))) for symbol in range(lowest, highest + 1)]
    spare = TOTAL - 256
    frequencies = [spare * weight // sum(weights) for weight in weights]
    frequencies[-lowest] += spare - sum(frequencies)
    return [*frequencies, 256]


def number(value: int) -> npt.NDArray[np.int32]:
    return np.array([value], np.int32)


def y_tensors(own: bool = True, unit: int = 43, steps: int = 256, channels: int = 12) -> Tensors:
    """Four scale levels, the last three with a second table, and one table of a channel of its own."""
    reaches = [(-1, 1), (-2, 2), (-4, 4), (-9, 9), (-3, 3), (-5, 5), (-10, 10), *([(-1, 4)] if own else [])]
    tables = [bell(*reach) for reach in reaches]
    tensors: Tensors = {
        "tables.y.frequencies": np.concatenate(tables).astype(np.int32),
        "tables.y.lengths": np.array([len(table) for table in tables], np.int32),
        "tables.y.lowest": np.array([lowest for lowest, _ in reaches], np.int32),
        "tables.y.thresholds": np.array(SCALES[1:], np.int32),
        PAIRED: np.array([-1, 4, 5, 6], np.int32),
        TRANSITIONS: make_transitions(8),
        STEPS: number(steps),
        UNIT: number(unit),
        "g_a.6.bias": np.zeros(channels, np.float16),
    }
    own_tables = np.full(channels, -1, np.int32)
    own_tables[OWN_CHANNEL] = OWN_TABLE
    return tensors | ({OWN: own_tables} if own else {})
