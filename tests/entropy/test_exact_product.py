"""Integer products: the same integers in both precisions, and float32 only where no sum can round."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slic_cli.entropy import exact_product
from slic_cli.entropy.exact_product import ExactProduct, check_exact
from slic_cli.errors import BadModelFile


def integers(seed: int, shape: tuple[int, ...], limit: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape)


def product(weight: npt.NDArray[np.int64], x: npt.NDArray[np.int64], blocks: int) -> tuple[npt.NDArray[np.int64], bool]:
    """The result, and whether float32 was used."""
    layer = ExactProduct(torch.from_numpy(weight.astype(np.float64)), blocks)
    rows = torch.from_numpy(x.astype(np.float32))
    result = layer(rows)
    assert result.dtype == torch.float64
    return result.numpy().astype(np.int64), layer.fits_single(rows)


@pytest.mark.parametrize("blocks", [1, 3, 4])
@pytest.mark.parametrize(("weights", "values", "single"), [(200, 300, True), (1 << 11, 1 << 12, False)])
def test_products_are_those_of_integers(blocks: int, weights: int, values: int, single: bool) -> None:
    weight, x = integers(0, (20, 50), weights), integers(1, (7, 50), values)
    result, used = product(weight, x, blocks)
    assert used == single
    np.testing.assert_array_equal(result, x @ weight.T)


@pytest.mark.parametrize("parallel", [True, False])
def test_float32_is_used_up_to_its_limit_and_not_beyond(parallel: bool) -> None:
    """Vectors along one another come as close to the bound as any: here 64 * 511 * 512, of 2^24."""
    weight, x = np.full((2, 64), 511), np.full((1, 64), 512)
    weight[1] *= 1 if parallel else -1
    result, used = product(weight, x, 1)
    assert used
    np.testing.assert_array_equal(result, x @ weight.T)
    x[0, ::2] += 2
    x[0, 0] += 1
    result, used = product(weight + 1, x + 1, 1)
    assert not used
    np.testing.assert_array_equal(result, (x + 1) @ (weight + 1).T)


def test_blocks_let_longer_sums_be_float32() -> None:
    weight, x = np.full((2, 256), 511), np.full((3, 256), 500)
    for blocks, single in ((1, False), (2, False), (4, True)):
        result, used = product(weight, x, blocks)
        assert used == single
        np.testing.assert_array_equal(result, x @ weight.T)


def test_one_large_row_is_enough_for_float64() -> None:
    weight, x = integers(0, (4, 8), 1000), integers(1, (5, 8), 100)
    x[3, 5] = (1 << 24) - 1
    result, used = product(weight, x, 1)
    assert not used
    np.testing.assert_array_equal(result, x @ weight.T)


def test_columns_that_are_no_copies_of_rows_will_do() -> None:
    weight, x = integers(0, (6, 10), 99), integers(1, (10, 4), 99)
    layer = ExactProduct(torch.from_numpy(weight.astype(np.float64)), 3)
    np.testing.assert_array_equal(layer(torch.from_numpy(x.astype(np.float32)).t()).numpy(), x.T @ weight.T)


def test_a_library_that_shortens_factors_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    exact_product.single_precision_is_exact.cache_clear()
    assert exact_product.single_precision_is_exact()
    exact_product.single_precision_is_exact.cache_clear()
    whole = torch.mm
    with monkeypatch.context() as patch:
        patch.setattr(torch, "mm", lambda a, b: whole(a.bfloat16(), b.bfloat16()).float())
        assert not exact_product.single_precision_is_exact()
        weight = ExactProduct(torch.eye(4, dtype=torch.float64))
        assert not weight.fits_single(torch.ones(1, 4))
    exact_product.single_precision_is_exact.cache_clear()


@pytest.mark.parametrize("value", [np.nan, np.inf, float(1 << 29)])
def test_sums_beyond_float64_are_refused(value: float) -> None:
    with pytest.raises(BadModelFile, match="stay exact"):
        check_exact(torch.full((2, 3), value, dtype=torch.float64), torch.zeros(2))
    check_exact(torch.full((2, 3), float(1 << 27), dtype=torch.float64), torch.zeros(2))
    with pytest.raises(BadModelFile, match="stay exact"):
        check_exact(torch.ones(2, 3), torch.tensor([0.0, float(1 << 53)]))
