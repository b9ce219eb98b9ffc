"""The transforms of mbt2018 (Minnen et al. 2018): those of Balle et al. 2018, but for the hyper-analysis.

h_a sees y itself, not its absolute values, through leaky ReLUs: it has to predict means as well as scales.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.layers import LEAKY_SLOPE


class Minnen2018Transform(Balle2018Transform):
    """g_a, h_a and g_s of mbt2018."""

    @torch.inference_mode()
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y -> z: float32 (M, rows, columns) to (N, ceil(rows / 4), ceil(columns / 4))."""
        return self._hyper_analysis(y, LEAKY_SLOPE)
