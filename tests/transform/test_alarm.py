"""What a carrier's latents set off."""

from __future__ import annotations

import torch
from torch import Tensor

from slic_cli.transform.alarm import HARMLESS, alarm_of, evidence

PER_GROUP, SUMS, ROWS, COLUMNS = 3, 2, 12, 14


def kernels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + 0.2 * torch.randn(2, PER_GROUP, SUMS, 5, 5, generator=generator)


def test_an_alarm_takes_both_groups() -> None:
    y = torch.zeros(1, 2 * PER_GROUP, ROWS, COLUMNS)
    y[0, 0, 5, 5] = 3
    assert evidence(y, kernels()).shape == (1, 2, 4 * ROWS, 4 * COLUMNS)
    assert alarm_of(y, kernels()).max() < HARMLESS
    y[0, PER_GROUP, 5, 5] = 3
    assert alarm_of(y, kernels()).max() > HARMLESS
