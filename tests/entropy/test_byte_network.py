"""Layers of bytes: the rule for their powers of two, and the integers that plain convolutions give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.entropy import byte_network
from slic_cli.entropy.byte_network import (
    HIDDEN_BITS,
    LEAKY_SLOPE,
    ByteConvolution,
    ByteHyperSynthesis,
    ByteLayer,
    FixedWeights,
    to_fixed_weights,
)
from slic_cli.entropy.byte_product import LIMIT, operand
from slic_cli.entropy.phases import Kind
from slic_cli.errors import BadModelFile

Array = npt.NDArray[np.float64]
SHAPES = {Kind.PLAIN: (8, 5, 3, 3), Kind.TRANSPOSED: (5, 8, 5, 5), Kind.SUBPIXEL: (8, 5, 3, 3)}


def weights_of(kind: Kind, seed: int = 0) -> tuple[Array, Array]:
    """Gaussian, with one that is much larger than the others."""
    random = np.random.default_rng(seed)
    weight, bias = random.standard_normal(SHAPES[kind]), random.standard_normal(8)
    weight[0, 0, 1, 1] = 60
    return weight, bias


def activations(rows: int, columns: int, channels: int, limit: int = LIMIT) -> Tensor:
    random = np.random.default_rng(rows)
    return torch.from_numpy(random.integers(-limit, limit + 1, (rows, columns, channels)).astype(np.int16))


def plain_result(x: Tensor, fixed: FixedWeights, kind: Kind, slope: float) -> Tensor:
    """torch's convolution of integers in float64, then what the document says."""
    weight, inputs = torch.from_numpy(fixed.weight), x.permute(2, 0, 1)[None].double()
    if kind is Kind.TRANSPOSED:
        sums = F.conv_transpose2d(inputs, weight.transpose(0, 1), stride=2, padding=2, output_padding=1)
    else:
        sums = F.conv2d(inputs, weight, padding=1)
    sums += torch.from_numpy(fixed.bias)[:, None, None]
    scale = torch.from_numpy(2.0**-fixed.exponents)[:, None, None]
    result = (torch.where(sums < 0, sums * slope, sums) * scale).round().clamp(-LIMIT, LIMIT)
    return (F.pixel_shuffle(result, 2) if kind is Kind.SUBPIXEL else result)[0].permute(1, 2, 0)


@pytest.mark.parametrize("slope", [1.0, LEAKY_SLOPE])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_convolution_is_that_of_integers(kind: Kind, slope: float) -> None:
    weight, bias = weights_of(kind)
    fixed = to_fixed_weights(weight.swapaxes(0, 1) if kind is Kind.TRANSPOSED else weight, bias, HIDDEN_BITS)
    assert np.abs(fixed.weight).max() > 127
    for x in (activations(6, 7, 5), activations(1, 1, 5, 300)):
        result = ByteConvolution(weight, bias, kind, slope)(x)
        assert result.dtype == torch.int16
        assert torch.equal(result.double(), plain_result(x, fixed, kind, slope))


@pytest.mark.parametrize("kind", list(Kind))
def test_bands_change_nothing(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = ByteConvolution(*weights_of(kind), kind, 1.0), activations(11, 6, 5)
    whole = layer(x)
    for working_bytes in (1, 3000):
        monkeypatch.setattr(byte_network, "_PATCH_BYTES", working_bytes)
        assert torch.equal(layer(x), whole)


def test_powers_of_two_are_the_largest_that_the_rule_allows() -> None:
    random = np.random.default_rng(3)
    weight = np.ldexp(random.standard_normal((300, 40)), random.integers(-12, 7, (300, 1))).astype(np.float16)
    weight[:100, 0] *= 100
    weight[0], weight[1, :], weight[2] = 0, 16 / 64, 16.01 / 64
    fixed = to_fixed_weights(weight, np.zeros(300), 7)
    rows = np.abs(weight.astype(np.float64))
    for exponent, row in zip(fixed.exponents, rows, strict=True):
        fits = [row.sum() * 2.0**e <= 16 * 40 and row.max() * 2.0**e <= LIMIT for e in (exponent, exponent + 1)]
        assert fits == [True, exponent == 20 and fits[1]]
    assert fixed.exponents[:3].tolist() == [20, 6, 5]
    np.testing.assert_array_equal(fixed.weight, np.rint(weight * 2.0 ** fixed.exponents[:, None]))


@pytest.mark.parametrize(("total", "result"), [(0, 0), (64, 0), (65, 1), (192, 2), (-192, -2), (1 << 40, LIMIT)])
def test_results_are_rounded_to_even_and_clipped(total: int, result: int) -> None:
    layer = ByteLayer(FixedWeights(np.zeros((1, 1)), np.array([float(total)]), np.array([7])), HIDDEN_BITS)
    assert layer(operand(torch.zeros(1, 1, dtype=torch.int16))).tolist() == [[result]]


def test_a_share_takes_the_place_of_the_bias() -> None:
    fixed = to_fixed_weights(np.ones((3, 8)), np.arange(3) / 2, HIDDEN_BITS)
    left, right = (FixedWeights(fixed.weight[:, part], fixed.bias, fixed.exponents) for part in (slice(5), slice(5, 8)))
    x = operand(activations(4, 8, 1, 900)[:, :, 0])
    share = ByteLayer(left, HIDDEN_BITS).share(x[:, :, :5])
    whole = ByteLayer(fixed, HIDDEN_BITS, slope=LEAKY_SLOPE)(x)
    assert torch.equal(ByteLayer(right, HIDDEN_BITS, slope=LEAKY_SLOPE)(x[:, :, 5:], share), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    weight, bias = np.ones((2, 3)), np.ones(2)
    with pytest.raises(BadModelFile, match="finite"):
        to_fixed_weights(weight * value, bias, 7)
    with pytest.raises(BadModelFile, match="finite"):
        to_fixed_weights(weight, bias * value, 7)


def test_a_hyper_synthesis_is_close_to_the_float_network() -> None:
    random = np.random.default_rng(5)
    shapes, kinds = ((6, 8, 5, 5), (8, 9, 5, 5), (12, 9, 3, 3)), (Kind.TRANSPOSED, Kind.TRANSPOSED, Kind.PLAIN)
    weights = [random.standard_normal(shape) / 7 for shape in shapes]
    biases = [random.standard_normal(count) for count in (8, 9, 12)]
    z_hat = random.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    result = ByteHyperSynthesis(weights, biases, kinds)(torch.from_numpy(z_hat)).double() / (1 << HIDDEN_BITS)
    x = torch.from_numpy(z_hat).permute(2, 0, 1)[None].double() / (1 << HIDDEN_BITS)
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        kernel, offset = torch.from_numpy(weight), torch.from_numpy(bias)
        x = F.leaky_relu(F.conv_transpose2d(x, kernel, offset, stride=2, padding=2, output_padding=1), 0.01)
    exact = F.conv2d(x, torch.from_numpy(weights[2]), torch.from_numpy(biases[2]), padding=1)[0].permute(1, 2, 0)
    assert (result - exact).abs().mean() < 0.04 * exact.std()
