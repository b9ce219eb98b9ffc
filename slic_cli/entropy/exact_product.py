"""Products of integer matrices that no rounding touches, in the quickest arithmetic that is exact for them.

Any order of additions is exact as long as no partial sum passes 2^24 in float32, or 2^53 in float64. By the inequality
of Cauchy and Schwarz no partial sum of w x exceeds |w| |x|, the product of the Euclidean norms. So float32, which is
twice as quick, is used where that product stays within 2^24 for every row, and float64 elsewhere: the result is the
same integers. float64 is covered by `check_exact`, which looks at the weights alone.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile

ACTIVATION_MAX = float(1 << 24)  # size of any activation, which float32 holds exactly
_DOUBLE_LIMIT = float(1 << 53)
_SINGLE_LIMIT = float(1 << 24)
_MARGIN = 1.001  # for the rounding of the norms themselves


def check_exact(weight: Tensor, bias: Tensor) -> None:
    """Raises BadModelFile where sums of `weight` (out, in) times activations, plus `bias`, could pass 2^53."""
    if not float(weight.abs().sum(1).max()) * ACTIVATION_MAX + float(bias.abs().max()) < _DOUBLE_LIMIT:
        raise BadModelFile("expected integer networks whose sums stay exact, got ones that are too large")


class ExactProduct:
    """x -> x W^T for an integer matrix W (out, in), held in float64.

    The columns of W, filled up with zeros, are cut into `blocks` equal parts, each with its own bound: shorter sums fit
    float32 more often.
    """

    def __init__(self, weight: Tensor, blocks: int = 1) -> None:
        self._double = weight
        self._missing = -weight.shape[1] % blocks
        parts = F.pad(weight, (0, self._missing)).view(len(weight), blocks, -1).permute(1, 0, 2)
        self._single = parts.float().contiguous().transpose(1, 2)  # (blocks, in / blocks, out)
        norms = parts.square().sum(2).amax(1).sqrt() * _MARGIN
        self._limits = (_SINGLE_LIMIT / norms.clamp(min=1.0)).square().float()

    def __call__(self, x: Tensor) -> Tensor:
        """The product with rows `x`, (n, in) integers in float32: (n, out) integers in float64."""
        if not self.fits_single(x):
            return torch.mm(x.double(), self._double.t())
        if len(self._single) == 1:
            return torch.mm(x, self._single[0]).double()
        return torch.bmm(self._parts(x), self._single).sum(0, dtype=torch.float64)

    def fits_single(self, x: Tensor) -> bool:
        """Whether the product with all rows of `x` is exact in float32."""
        if not single_precision_is_exact():
            return False
        return bool((self._parts(x).square().sum(2).amax(1) <= self._limits).all())

    def _parts(self, x: Tensor) -> Tensor:
        """Columns of x in blocks: (blocks, n, in / blocks)."""
        filled = F.pad(x, (0, self._missing)) if self._missing else x
        return filled.view(len(x), len(self._single), -1).transpose(0, 1)


@cache
def single_precision_is_exact() -> bool:
    """Whether float32 products here are what they should be; some libraries can be told to shorten the factors."""
    factors = torch.arange(1024, dtype=torch.float32).view(16, 64) + 3073.0  # of 12 bits, like the weight
    return bool((torch.mm(factors, torch.eye(64) * 4093.0) == factors * 4093.0).all())
