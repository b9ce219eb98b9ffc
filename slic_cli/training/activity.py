"""What all initialisations share: how much chance they keep, how hyper-latents stand for the activity of latents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

NOISE = 0.005  # share of the random initialisation that is kept, so that equal channels can part
GAMMA = 0.002  # GDN's diagonal
ACTIVITY_TAPS = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])  # around a latent
Z_PER_ACTIVITY = 3.0  # z is rounded to whole numbers; latents' mean magnitudes are of the order of their spread
DEVIATION_PER_ACTIVITY = 1.25  # a Gaussian's standard deviation over its mean magnitude
LEAST_SCALE = 0.08  # of a latent where all is flat, in units of its spread


def latent_groups(used: int, groups: int) -> list[tuple[int, int]]:
    """`used` latents, in the order of their variance, in at most `groups` ranges, the strongest in the smallest."""
    edges = np.unique(np.rint(np.geomspace(1, used + 1, groups + 1)).astype(int)) - 1
    return [(int(start), int(stop)) for start, stop in pairwise(edges)]
