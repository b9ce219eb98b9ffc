"""Products of bytes: the same integers by both ways, up to the largest sums there can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from slic_cli.entropy import byte_product
from slic_cli.entropy.byte_product import LIMIT, SINGLE_LIMIT, SINGLE_WEIGHTS, ByteProduct, operand, to_bytes

both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=["bytes", "float32"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What products are done with; bytes need a processor that is made for them."""
    if request.param == "float32":
        monkeypatch.setattr(byte_product, "bytes_are_quick", lambda: False)
    elif not byte_product.bytes_are_quick():
        pytest.skip("a processor without instructions for products of bytes")


def expected(x: Tensor, weight: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy().astype(np.int64) @ weight.numpy().astype(np.int64).T)


def test_every_integer_is_two_bytes() -> None:
    values = torch.arange(-LIMIT, LIMIT + 1).to(torch.int16)
    low, high = to_bytes(values).to(torch.int64)
    assert torch.equal(256 * high + low, values.to(torch.int64))


@both_ways
@pytest.mark.parametrize("large", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("limit", [3, SINGLE_LIMIT, SINGLE_LIMIT + 1, LIMIT])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 5), (22, 640, 1066), (3, 1025, 4), (4, 3840, 9)])
def test_products_are_those_of_integers(shape: tuple[int, int, int], limit: int, large: float) -> None:
    """`large` is the share of the weights that are more than a byte."""
    count, columns, outputs = shape
    random = np.random.default_rng(columns)
    x = torch.from_numpy(random.integers(-limit, limit + 1, (count, columns)).astype(np.int16))
    weight = random.integers(-128, 128, (outputs, columns))
    weight[random.random(weight.shape) < large] = random.integers(-LIMIT, LIMIT + 1)
    result = ByteProduct(torch.from_numpy(weight))(operand(x))
    assert result.dtype == torch.float64
    assert torch.equal(result.to(torch.int64), expected(x, torch.from_numpy(weight)))


@both_ways
@pytest.mark.parametrize("columns", [64, 4320])
@pytest.mark.parametrize("weight", [127, -128, 1, LIMIT, -LIMIT])
@pytest.mark.parametrize("value", [SINGLE_LIMIT, -SINGLE_LIMIT, SINGLE_LIMIT + 1, 3 * SINGLE_LIMIT, LIMIT, -LIMIT])
def test_the_largest_sums_are_exact(columns: int, value: int, weight: int) -> None:
    """With a one among them, so that the last sums are odd."""
    x = torch.full((3, columns), value, dtype=torch.int16)
    factors = torch.full((2, columns), weight, dtype=torch.int64)
    x[:, 0], factors[:, 0] = 1, 1
    assert torch.equal(ByteProduct(factors)(operand(x)).to(torch.int64), expected(x, factors))


def test_float32_holds_what_is_added() -> None:
    assert SINGLE_LIMIT * SINGLE_WEIGHTS == 1 << 24
    assert SINGLE_WEIGHTS >= 128  # one weight of a byte always fits


def test_one_large_activation_does_not_disturb_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_product, "bytes_are_quick", lambda: False)
    random = np.random.default_rng(2)
    x = torch.from_numpy(random.integers(-SINGLE_LIMIT, SINGLE_LIMIT + 1, (5, 300)).astype(np.int16))
    x[3, 7] = -LIMIT
    weight = torch.from_numpy(random.integers(-128, 128, (6, 300)))
    assert torch.equal(ByteProduct(weight)(operand(x)).to(torch.int64), expected(x, weight))


def test_a_library_that_comes_out_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older instructions for bytes end at 16 bits."""
    whole, probe = torch._int_mm, byte_product.bytes_are_quick.__wrapped__
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: whole(a, b).clamp(-(1 << 15), (1 << 15) - 1))
    assert not probe()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", whole)
    assert not probe()
