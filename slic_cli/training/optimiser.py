"""What changes the weights, step by step: Adam, or SOAP."""

from __future__ import annotations

from typing import Any

import torch

from slic_cli.codec import choose_precision
from slic_cli.training.recipe import StageTable
from slic_cli.training.soap import Soap


def make_optimiser(table: StageTable, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """The recipe's `optimiser` for groups of parameters on `device`."""
    if table.optimiser == "soap":
        return Soap(groups, table.learning_rate, turning=choose_precision("auto", device))
    return torch.optim.Adam(groups, table.learning_rate, fused=True)
