"""How much the answers of a carrier's latents agree over a whole strip.

The answers of a wave are in phase, or their phase advances by as much from each place to the next if it was scaled or
turned. Where each is too weak, or too rare, to tell it from a photograph's own, all of them together can be told: what
agrees grows with the number of places, what does not with its root.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FINER = 2  # frequencies between those of the strip's own size: a wave's may lie between two
_ENOUGH = 480  # places of a strip; in fewer, photographs' answers agree more by chance, by the root


def coherence(latents: Tensor) -> float:
    """From 0, no answers or each with a phase of its own, to 1: all places answer, as one plane wave makes them.

    `latents` are whole numbers (2 n, rows, columns), each two the cosine and the sine of one answer. Only the phase of
    an answer counts, and the mean is taken over all n.
    """
    answers = torch.complex(latents[0::2].float(), latents[1::2].float())
    phases = answers / answers.abs().clamp(min=1)
    rows, columns = latents.shape[1:]
    spectrum = torch.fft.fft2(phases, (_FINER * rows, _FINER * columns))
    return spectrum.abs().mean(0).max().item() / (rows * columns)


def least_coherence(model: float, places: int) -> float:
    """What the answers of a wave have in a strip of so many places, going by what a `model` says of large ones."""
    return model * max(1.0, math.sqrt(_ENOUGH / places))
