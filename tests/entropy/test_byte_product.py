"""Products of bytes: the same integers by both ways, up to the largest sums there can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from slic_cli.entropy import byte_product
from slic_cli.entropy.byte_product import LIMIT, SINGLE_COLUMNS, ByteProduct, split

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
    low, high = split(values).to(torch.int64)
    assert torch.equal(256 * high + low, values.to(torch.int64))


@both_ways
@pytest.mark.parametrize("large", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 5), (22, 640, 1066), (3, SINGLE_COLUMNS + 1, 4), (4, 3840, 9)])
def test_products_are_those_of_integers(shape: tuple[int, int, int], large: float) -> None:
    """`large` is the share of the weights that are more than a byte."""
    count, columns, outputs = shape
    random = np.random.default_rng(columns)
    x = torch.from_numpy(random.integers(-128, 128, (count, columns)).astype(np.int8))
    weight = random.integers(-128, 128, (outputs, columns))
    weight[random.random(weight.shape) < large] = random.integers(-LIMIT, LIMIT + 1)
    result = ByteProduct(torch.from_numpy(weight))(x)
    assert result.dtype == torch.float64
    assert torch.equal(result.to(torch.int64), expected(x, torch.from_numpy(weight)))


@both_ways
@pytest.mark.parametrize("columns", [SINGLE_COLUMNS, 4320])
@pytest.mark.parametrize(("byte", "weight"), [(-128, 127), (-128, -128), (127, 127), (-128, LIMIT), (127, -LIMIT)])
def test_the_largest_sums_are_exact(columns: int, byte: int, weight: int) -> None:
    """With a one among them, so that the last sums are odd."""
    x = torch.full((3, columns), byte, dtype=torch.int8)
    factors = torch.full((2, columns), weight, dtype=torch.int64)
    x[:, 0], factors[:, 0] = 1, 1
    assert torch.equal(ByteProduct(factors)(x).to(torch.int64), expected(x, factors))


def test_float32_holds_as_many_products_as_are_added() -> None:
    assert SINGLE_COLUMNS * 128 * 128 <= 1 << 24 < (SINGLE_COLUMNS + 1) * 128 * 128


def test_a_library_that_comes_out_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older instructions for bytes end at 16 bits."""
    whole, probe = torch._int_mm, byte_product.bytes_are_quick.__wrapped__
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: whole(a, b).clamp(-(1 << 15), (1 << 15) - 1))
    assert not probe()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", whole)
    assert not probe()
