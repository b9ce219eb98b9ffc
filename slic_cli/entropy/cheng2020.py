"""The entropy model of cheng2020-anchor (Cheng et al. 2020): the autoregressive coder, another hyper-synthesis."""

from __future__ import annotations

from slic_cli.entropy.autoregressive import AutoregressiveCoder
from slic_cli.entropy.hyper_latents import Tensors
from slic_cli.entropy.phases import Kind

LAYERS = (
    ("h_s.0", Kind.PLAIN),
    ("h_s.2.0", Kind.SUBPIXEL),
    ("h_s.4", Kind.PLAIN),
    ("h_s.6.0", Kind.SUBPIXEL),
    ("h_s.8", Kind.PLAIN),
)


class Cheng2020Coder(AutoregressiveCoder):
    """Codes strips of latents of one cheng2020-anchor model."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors, LAYERS)
