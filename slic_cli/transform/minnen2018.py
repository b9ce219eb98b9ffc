"""The transforms of mbt2018 (Minnen et al. 2018): those of Balle et al. 2018, but for the hyper-analysis.

h_a sees y itself, not its absolute values, through leaky ReLUs: it has to predict means as well as scales. In a model
that was made from a scale hyperprior it goes on seeing absolute values; this is a matter of the encoder alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.layers import LEAKY_SLOPE, Arrays

MAGNITUDES = "encoder.hyper_magnitudes"  # the tensor of a model whose h_a sees |y|


class Minnen2018Transform(Balle2018Transform):
    """g_a, h_a and g_s of mbt2018."""

    def __init__(self, tensors: Arrays, device: torch.device, precision: torch.dtype) -> None:
        super().__init__(tensors, device, precision)
        self._magnitudes = MAGNITUDES in tensors

    @torch.inference_mode()
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y -> z: float32 (M, rows, columns) to (N, ceil(rows / 4), ceil(columns / 4))."""
        return self._hyper_analysis(y.abs() if self._magnitudes else y, LEAKY_SLOPE)
