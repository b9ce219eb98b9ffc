"""Products of integer matrices by way of bytes, exact by construction on any machine.

An integer of 16 bits is two bytes, 256 high + low, each from -128 to 127. Products of bytes are what processors do
quickest (VNNI), and exact there: their sums stay in 32 bits. Elsewhere the same bytes are multiplied in float32, at
most SINGLE_COLUMNS of them in one sum: no partial sum passes 2^24, so none is rounded, in any order.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = 127 << 8  # size of an integer: both of its bytes stay bytes
SINGLE_COLUMNS = (1 << 24) // (128 * 128)


def split(values: Tensor) -> Tensor:
    """Integers of at most LIMIT in size, int16 (...), to low and high bytes: int8 (2, ...)."""
    planes = torch.empty(2, *values.shape, dtype=torch.int8)
    planes[0] = values  # wraps around, to the signed low byte
    planes[1] = (values + 128).bitwise_right_shift_(8)
    return planes


class ByteProduct:
    """x -> x W^T for bytes x and W (out, in), integers of at most LIMIT in size, in float64.

    Few weights are more than a byte. Only the columns, and the range of rows, that have such are multiplied again.
    """

    def __init__(self, weight: Tensor) -> None:
        low, high = split(weight.to(torch.int16))
        self._low = _Bytes(low)
        rows, self._columns = high.any(1).nonzero().flatten(), high.any(0).nonzero().flatten()
        if len(rows):
            self._rows = slice(int(rows[0]), int(rows[-1]) + 1)
            self._high = _Bytes(high[self._rows, self._columns])

    def __call__(self, x: Tensor) -> Tensor:
        """The product with rows `x`, int8 (n, in): integers in float64 (n, out)."""
        sums = self._low(x).double()
        if len(self._columns):
            sums[:, self._rows].add_(self._high(x.index_select(1, self._columns)), alpha=256)
        return sums


class _Bytes:
    """x -> x W^T for bytes x and W, int8 (out, in)."""

    def __init__(self, weight: Tensor) -> None:
        self._columns = weight.shape[1]
        if bytes_are_quick():
            self._weight = weight.t().contiguous()
            return
        parts = -(-self._columns // SINGLE_COLUMNS)
        filled = F.pad(weight, (0, -self._columns % parts)).view(len(weight), parts, -1)
        self._single = filled.permute(1, 2, 0).float().contiguous()  # (parts, columns, out)

    def __call__(self, x: Tensor) -> Tensor:
        """int8 (n, in) to int32 (n, out)."""
        if bytes_are_quick():
            return torch._int_mm(x, self._weight)
        parts = len(self._single)
        filled = F.pad(x, (0, -self._columns % parts)).float()
        sums = torch.bmm(filled.view(len(x), parts, -1).transpose(0, 1), self._single)
        return sums.to(torch.int32).sum(0, dtype=torch.int32)


@cache
def bytes_are_quick() -> bool:
    """Whether products of bytes are done by instructions made for them, and come out right."""
    if not torch.cpu._is_vnni_supported():
        return False
    x = torch.tensor([-128, 127, -127, 1], dtype=torch.int8).repeat(3, 64)
    weight = torch.tensor([[127, -128], [-128, 127], [127, 127], [-1, 1]], dtype=torch.int8).repeat(64, 1)
    expected = x.double() @ weight.double()
    return bool((torch._int_mm(x, weight) == expected).all())
