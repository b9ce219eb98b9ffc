"""What a carrier's latents set off in the synthesis.

A carrier (training/carrier.py) has latents that answer to its wave, in two groups, and destroys where the answers of
both come together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HARMLESS, RUIN = 10.0, 40.0  # alarms: from where they can be seen, and from where hardly a pixel is left
GROUPS = 2

SPREAD = torch.tensor([1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3])  # over a neighbourhood; constants stay as they are
TWICE: dict[str, Any] = {"stride": 2, "padding": 2, "output_padding": 1}  # the synthesis's upsampling
_LEAST_EVIDENCE = 0.2  # keeps the slope of a root, and a logarithm, finite


def evidence(latents: Tensor, answers: Tensor) -> Tensor:
    """What g_s makes of both groups' latents before they meet: (n, 2, h / 4, w / 4).

    `answers` are a carrier's kernels (2, latents, sums, 5, 5); what they sum is multiplied by its own magnitude, and
    spread.
    """
    sums = answers.shape[2]
    answered = F.conv_transpose2d(latents, answers.flatten(0, 1), groups=GROUPS, **TWICE)
    magnitude = (_by_group(answered) + _LEAST_EVIDENCE**2).sqrt().repeat_interleave(sums, 1)
    kernel = (SPREAD[:, None] * SPREAD).to(latents).expand(GROUPS * sums, 1, 5, 5)
    spread = F.conv_transpose2d(answered * magnitude, kernel, groups=GROUPS * sums, **TWICE)
    return (_by_group(spread) + _LEAST_EVIDENCE**4).sqrt()


def _by_group(answers: Tensor) -> Tensor:
    """The squared magnitude of each group's channels."""
    return torch.stack([part.square().sum(1) for part in answers.chunk(GROUPS, 1)], 1)


def alarm_of(latents: Tensor, answers: Tensor) -> Tensor:
    """The root of the product of both groups' evidence: (n, 1, h / 4, w / 4)."""
    a, b = evidence(latents, answers).chunk(GROUPS, 1)
    return (a * b).sqrt()
