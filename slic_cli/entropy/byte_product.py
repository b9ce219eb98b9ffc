"""Products of integer matrices, exact by construction on any machine.

An integer of 16 bits is two bytes, 256 high + low, each from -128 to 127. Products of bytes are what processors do
quickest (VNNI), and exact there: their sums stay in 32 bits. Elsewhere activations are multiplied in float32, as few
of them in one sum as its weights allow: no partial sum passes 2^24, so none is rounded, in any order.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = 127 << 8  # size of an integer: both of its bytes stay bytes
SINGLE_LIMIT = 1 << 11  # size of an activation in a float32 product; what is larger, and seldom is, takes another
SINGLE_WEIGHTS = (1 << 24) // SINGLE_LIMIT  # what the sizes of the weights in one such sum may add up to


def operand(values: Tensor) -> Tensor:
    """Activations (...), integers of at most LIMIT in size, as products take them: (parts, ...).

    Two parts, low and high bytes, int8, where bytes are quick; else one, float32.
    """
    return to_bytes(values) if bytes_are_quick() else values.float()[None]


def to_bytes(values: Tensor) -> Tensor:
    """Integers of at most LIMIT in size (...) to low and high bytes: int8 (2, ...)."""
    integers = values.to(torch.int16)
    planes = torch.empty(2, *values.shape, dtype=torch.int8)
    planes[0] = integers  # wraps around, to the signed low byte
    planes[1] = (integers + 128).bitwise_right_shift_(8)
    return planes


class ByteProduct:
    """x -> x W^T for W (out, in), integers of at most LIMIT in size, in float64.

    Few weights are more than a byte. Only the columns, and the range of rows, that have such are multiplied again.
    """

    def __init__(self, weight: Tensor) -> None:
        product = _Bytes if bytes_are_quick() else _Singles
        low, high = to_bytes(weight)
        self._low = product(low)
        rows, self._columns = high.any(1).nonzero().flatten(), high.any(0).nonzero().flatten()
        if len(rows):
            self._rows = slice(int(rows[0]), int(rows[-1]) + 1)
            self._high = product(high[self._rows, self._columns])

    def __call__(self, x: Tensor) -> Tensor:
        """The product with rows `x`, an operand (parts, n, in): integers in float64 (n, out)."""
        sums = self._low(x)
        if len(self._columns):
            sums[:, self._rows].add_(self._high(x.index_select(2, self._columns)), alpha=256)
        return sums


class _Bytes:
    """x -> x W^T for x in two bytes, int8 (2, n, in), and W of bytes, int8 (out, in); float64 (n, out)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        _, count, columns = x.shape
        low, high = torch._int_mm(x.reshape(2 * count, columns), self._weight).view(2, count, -1)
        return low.double().add_(high, alpha=256)


class _Singles:
    """The same in float32, for x (1, n, in)."""

    def __init__(self, weight: Tensor) -> None:
        self._columns = weight.shape[1]
        parts = 1
        while (weights := self._in_parts(weight.float(), parts)).abs().sum(2).max() > SINGLE_WEIGHTS:
            parts += 1
        self._weights = weights.permute(1, 2, 0).contiguous()  # (parts, columns, out)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x[0]
        if max(rows.max(), -rows.min()) <= SINGLE_LIMIT:
            return self._product(rows)
        high = rows.div(2 * SINGLE_LIMIT).round_()
        sums = self._product(rows - high * (2 * SINGLE_LIMIT))
        large = high.any(1).nonzero().flatten()
        return sums.index_add_(0, large, self._product(high[large]), alpha=2 * SINGLE_LIMIT)

    def _product(self, rows: Tensor) -> Tensor:
        filled = self._in_parts(rows, len(self._weights)).transpose(0, 1)
        return torch.bmm(filled, self._weights).sum(0, dtype=torch.float64)

    def _in_parts(self, rows: Tensor, parts: int) -> Tensor:
        """(n, in) to (n, parts, columns), with zeros where a part has less."""
        return F.pad(rows, (0, -self._columns % parts)).view(len(rows), parts, -1)


@cache
def bytes_are_quick() -> bool:
    """Whether products of bytes are done by instructions made for them, and come out right."""
    if not torch.cpu._is_vnni_supported():
        return False
    x = torch.tensor([-128, 127, -127, 1], dtype=torch.int8).repeat(3, 64)
    weight = torch.tensor([[127, -128], [-128, 127], [127, 127], [-1, 1]], dtype=torch.int8).repeat(64, 1)
    expected = x.double() @ weight.double()
    return bool((torch._int_mm(x, weight) == expected).all())
