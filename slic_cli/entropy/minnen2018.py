"""The entropy model of mbt2018 (Minnen et al. 2018): the autoregressive coder with its hyper-synthesis."""

from __future__ import annotations

from slic_cli.entropy.autoregressive import AutoregressiveCoder
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.phases import Kind

LAYERS = (("h_s.0", Kind.TRANSPOSED), ("h_s.2", Kind.TRANSPOSED), ("h_s.4", Kind.PLAIN))


class Minnen2018Coder(AutoregressiveCoder):
    """Codes strips of latents of one mbt2018 model."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors, LAYERS)
