"""Rounding as encoders do it, dependently (slic_cli/trellis.py), for the synthesis and the analysis to get used to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slic_cli.entropy.coder import Symbols, SymbolWriter
from slic_cli.entropy.integer_network import ACTIVATION_BITS
from slic_cli.entropy.latent_coder import LATENT_UNITS, TRADEOFF, Indices
from slic_cli.entropy.trellis_coder import TrellisLatentCoder
from slic_cli.latent_tables import expected_tables
from slic_cli.training.drafts import STEPS, USUAL
from slic_cli.training.hyperprior import Prior


class TrellisRounding:
    """What is left of latents (n, M, h, w), straight through: the offsets from their means, quantised with Gaussian
    tables along paths that run through the whole batch.

    A context model's encoder has shorter paths and knows other means, those that follow from what it left before.
    """

    def __init__(self, channels: int) -> None:
        tensors = expected_tables(steps=STEPS).tensors()
        tensors |= {"g_a.6.bias": np.zeros(channels, np.float16), TRADEOFF: np.array([USUAL], np.float32)}
        self._quantiser = _Quantiser(tensors)

    def __call__(self, prior: Prior, y: Tensor) -> Tensor:
        """Gradients pass to `y` alone."""
        means = torch.zeros_like(y) if prior.means is None else prior.means.detach()
        offsets, scales = (values.detach().float().cpu() for values in (y - means, prior.scales))
        fixed = (scales.clamp(min=0) * (1 << ACTIVATION_BITS)).round().double().numpy()
        units = self._quantiser.write(SymbolWriter(), offsets, self._quantiser.indices(fixed, 1))
        left = torch.from_numpy(units).to(y) / LATENT_UNITS + means
        return y + (left - y).detach()


class _Quantiser(TrellisLatentCoder):
    def encode(self, writer: SymbolWriter, symbols: Symbols, tables: Indices) -> None:
        """Nobody reads them."""
