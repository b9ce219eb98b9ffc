"""What all initialisations share: how much chance they keep, how hyper-latents stand for the activity of latents."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOISE = 0.005  # share of the random initialisation that is kept, so that equal channels can part
GAMMA = 0.002  # GDN's diagonal
ACTIVITY_TAPS = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])  # around a latent
Z_PER_ACTIVITY = 3.0  # z is rounded to whole numbers; latents' mean magnitudes are of the order of their spread
DEVIATION_PER_ACTIVITY = 1.25  # a Gaussian's standard deviation over its mean magnitude
LEAST_SCALE = 0.08  # of a latent where all is flat, in units of its spread
_MOST = 8.0  # spreads: louder latents say no more about what is active together
_ROUNDS = 30


def damp(net: Any) -> None:
    """Leave little of the random transforms of `net`, plain ones, with GDN near the identity."""
    for module in [*net.g_a, *net.g_s]:
        if hasattr(module, "gamma_reparam"):
            module.gamma.copy_(module.gamma_reparam.init(GAMMA * torch.eye(module.beta.numel())))
        else:
            module.weight.mul_(NOISE)
            module.bias.zero_()


def latent_groups(used: int, groups: int) -> list[tuple[int, int]]:
    """`used` latents, in the order of their variance, in at most `groups` ranges, the strongest in the smallest."""
    edges = np.unique(np.rint(np.geomspace(1, used + 1, groups + 1)).astype(int)) - 1
    return [(int(start), int(stop)) for start, stop in pairwise(edges)]


def activity_groups(magnitudes: Tensor, count: int) -> list[Tensor]:
    """Channels that are active together, in at most `count` groups: k-means by the correlation of `magnitudes`
    (n, channels, h, w), in units of their spread."""
    samples = magnitudes.clamp(max=_MOST).transpose(0, 1).flatten(1)
    samples = torch.nn.functional.normalize(samples - samples.mean(1, keepdim=True), dim=1)
    count = min(count, len(samples))
    centres = samples[torch.linspace(0, len(samples) - 1, count).long()]
    nearest = torch.zeros(len(samples), dtype=torch.long)
    for _ in range(_ROUNDS if count else 0):
        nearest = (samples @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        centres = torch.where(sums.any(1, keepdim=True), torch.nn.functional.normalize(sums, dim=1), centres)
    groups = (torch.nonzero(nearest == group).flatten() for group in range(count))
    return [group for group in groups if len(group)]
