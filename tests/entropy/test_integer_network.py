"""The integer hyper-synthesis: exact, whatever the order of its sums, and close to the float network it stands for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from slic_cli.entropy import integer_network
from slic_cli.entropy.integer_network import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    WEIGHT_BITS,
    IntegerHyperSynthesis,
    IntegerLayer,
    to_fixed_point,
)
from slic_cli.entropy.phases import Kind
from slic_cli.errors import BadModelFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

Array = npt.NDArray[np.float64]

# Numbers from arithmetic alone, so that the digest below depends on no generator and no mathematical library.
NETWORK = """
import hashlib
import numpy as np
from slic_cli.entropy.integer_network import IntegerHyperSynthesis

def numbers(shape, limit):
    hashed = np.arange(np.prod(shape), dtype=np.int64) * 2654435761 % 4294967291
    return (hashed % (2 * limit + 1) - limit).reshape(shape)

weights = [numbers(shape, 4096) / 65536 for shape in ((64, 64, 5, 5), (64, 64, 5, 5), (96, 64, 3, 3))]
biases = [numbers(count, 999) / 256 for count in (64, 64, 96)]
scales = IntegerHyperSynthesis(weights, biases)(numbers((64, 9, 11), 2**18).astype(np.float64))
print(*scales.shape, int(np.median(scales)), hashlib.sha256(scales.astype("<i8").tobytes()).hexdigest())
"""


def convolve(x: Array, weight: Array, bias: Array, transposed: bool) -> Array:
    """torch's float64 convolution of integers, then ReLU and rescaling in integers."""
    inputs = torch.from_numpy(x)[None]
    kernel, offset = torch.from_numpy(weight), torch.from_numpy(bias)
    if transposed:
        sums = F.conv_transpose2d(inputs, kernel, offset, stride=2, padding=2, output_padding=1)
    else:
        sums = F.conv2d(inputs, kernel, offset, padding=weight.shape[2] // 2)
    integers = sums[0].to(torch.int64)
    assert bool((integers == sums[0]).all())
    shifted = (integers + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS
    result: Array = shifted.clamp(0, int(ACTIVATION_MAX)).double().numpy()
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("transposed", "shape"), [(True, (5, 7, 5, 5)), (False, (7, 5, 3, 3))])
def test_layer_equals_torch_exactly(transposed: bool, shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    largest = [1 << 6, 1 << 12, 1 << 20, (1 << 53) // (1 << 24) // 130][seed]  # the last: sums close to 2^53
    fixed = random.integers(-largest, largest + 1, shape).astype(np.float64)
    bias = random.integers(-(1 << 30), 1 << 30, 7).astype(np.float64)
    x = random.integers(-(1 << 24), (1 << 24) + 1, (5, 6, 9)).astype(np.float64)
    offsets = bias / (1 << (WEIGHT_BITS + ACTIVATION_BITS))
    layer = IntegerLayer(fixed / (1 << WEIGHT_BITS), offsets, Kind.TRANSPOSED if transposed else Kind.PLAIN)
    result = layer(x)
    np.testing.assert_array_equal(result, convolve(x, fixed, bias, transposed))
    assert len(np.unique(result)) > 2


@pytest.mark.parametrize(
    ("total", "result"),
    [(0, 0), (32767, 0), (32768, 1), (98303, 1), (98304, 2), (-32768, 0), (-(1 << 40), 0), (1 << 40, 1 << 24)],
)
def test_rescaling_rounds_ties_up_and_clips(total: int, result: int) -> None:
    layer = IntegerLayer(np.zeros((1, 1, 3, 3)), np.array([total / (1 << 28)]), Kind.PLAIN)
    np.testing.assert_array_equal(layer(np.zeros((1, 2, 2))), np.full((1, 2, 2), float(result)))


def test_fixed_point_rounds_ties_to_even() -> None:
    np.testing.assert_array_equal(to_fixed_point(np.array([0.5, 1.5, -0.5, 0.75]), 0), [0, 2, 0, 1])
    assert to_fixed_point(np.array([1.25], np.float16), 4).tolist() == [20.0]


def test_input_is_clipped() -> None:
    weights = [np.full((1, 1, 5, 5), 0.25), np.full((1, 1, 5, 5), 0.25), np.full((1, 1, 3, 3), 0.25)]
    network = IntegerHyperSynthesis(weights, [np.zeros(1)] * 3)
    limit = np.full((1, 1, 1), ACTIVATION_MAX)
    np.testing.assert_array_equal(network(np.full((1, 1, 1), 8 * ACTIVATION_MAX)), network(limit))
    assert network(limit / 2).max() < network(limit).max()


def silent_network(channels: slice) -> tuple[list[Array], list[Array]]:
    """Of six channels, `channels` are never written in the hidden layers, but read, and of z_hat they are not read."""
    random = np.random.default_rng(3)
    weights = [random.standard_normal((6, 6, size, size)) / 9 for size in (5, 5, 3)]
    biases = [random.standard_normal(6) for _ in weights]
    weights[0][channels] = 0
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        weight[:, channels], bias[channels] = 0, 0
    return weights, biases


@pytest.mark.parametrize(("channels", "left"), [(slice(1, 4), 3), (slice(5, 6), 5), (slice(None), 1), (slice(0), 6)])
def test_silent_channels_are_left_out_and_change_nothing(channels: slice, left: int) -> None:
    weights, biases = silent_network(channels)
    z_hat = np.random.default_rng(4).integers(-20000, 20000, (6, 3, 4)).astype(np.float64)
    network, x = IntegerHyperSynthesis(weights, biases), z_hat
    for index, layer in enumerate(zip(weights, biases, strict=True)):
        x = IntegerLayer(*layer, Kind.PLAIN if index == 2 else Kind.TRANSPOSED)(x)
    np.testing.assert_array_equal(network(z_hat), x)
    assert (len(np.unique(x)) > 6) is (left > 1)
    assert [len(layer._biases[0]) for layer in network._layers] == [left, left, 6]


def test_a_silent_channel_counts_for_the_bound() -> None:
    """docs/model-format.md knows of no channels that are left out."""
    weights, biases = silent_network(slice(1))
    weights[1][0, 1, 2, 2] = 9000
    with pytest.raises(BadModelFile, match="stay exact"):
        IntegerHyperSynthesis(weights, biases)


@pytest.mark.parametrize("working_bytes", [1, 5000, 20000])
def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch, working_bytes: int) -> None:
    random = np.random.default_rng(1)
    layers = [
        IntegerLayer(random.standard_normal((4, 6, 5, 5)), random.standard_normal(6), Kind.TRANSPOSED),
        IntegerLayer(random.standard_normal((6, 4, 3, 3)), random.standard_normal(6), Kind.PLAIN),
    ]
    x = random.integers(-5000, 5000, (4, 11, 6)).astype(np.float64)
    whole = [layer(x) for layer in layers]
    monkeypatch.setattr(integer_network, "_PATCH_BYTES", working_bytes)
    for layer, expected in zip(layers, whole, strict=True):
        np.testing.assert_array_equal(layer(x), expected)


def test_threads_change_nothing() -> None:
    outputs = set()
    for threads in ("1", "2"):
        limits = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", NETWORK], env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(run.stdout)
    (output,) = outputs
    *shape, median, digest = output.split()
    assert shape == ["96", "36", "44"]
    assert 1000 < int(median) < ACTIVATION_MAX
    assert digest == "da79a16ebd62ca64bdd7c32a83c421e7c5ddc6fdd532fdfce7c90bdfc5764256"


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, 65504.0, 300.0])
def test_weights_whose_sums_could_round_are_refused(transposed: bool, value: float) -> None:
    with pytest.raises(BadModelFile, match="stay exact"):
        kind = Kind.TRANSPOSED if transposed else Kind.PLAIN
        IntegerLayer(np.full((4, 4, 5, 5), value, np.float32), np.zeros(4), kind)


def test_the_bound_counts_the_weights_one_output_sees_and_the_bias() -> None:
    """The sum of |weight| times 2^24, plus |bias|, has to stay under 2^53: 8192 in all for weights."""
    kernel = np.zeros((1, 2, 3, 3))
    kernel[0, :, 1, 1] = -4096, 4095.5
    IntegerLayer(kernel, np.zeros(1), Kind.PLAIN)
    with pytest.raises(BadModelFile):
        IntegerLayer(kernel, np.array([float(1 << 24)]), Kind.PLAIN)
    kernel[0, 1, 1, 1] = 4096
    with pytest.raises(BadModelFile):
        IntegerLayer(kernel, np.zeros(1), Kind.PLAIN)


def test_scales_are_close_to_the_float_network(tiny_model: Path) -> None:
    tensors = load_tensors(read_spec(tiny_model))
    names = ("h_s.0", "h_s.2", "h_s.4")
    weights, biases = [tensors[f"{n}.weight"] for n in names], [tensors[f"{n}.bias"] for n in names]
    z_hat = np.random.default_rng(2).integers(-8, 9, (8, 5, 7)).astype(np.float64) + 0.25
    scales = IntegerHyperSynthesis(weights, biases)(z_hat * (1 << ACTIVATION_BITS)) / (1 << ACTIVATION_BITS)
    x = torch.from_numpy(z_hat)[None]
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        kernel, offset = torch.from_numpy(weight).double(), torch.from_numpy(bias).double()
        x = F.conv_transpose2d(x, kernel, offset, stride=2, padding=2, output_padding=1).relu()
    x = F.conv2d(x, torch.from_numpy(weights[2]).double(), torch.from_numpy(biases[2]).double(), padding=1).relu()
    exact = x[0].numpy()
    assert exact.max() > 4
    coded, true = np.maximum(scales, 0.11), np.maximum(exact, 0.11)  # smaller ones share the first table
    errors = np.abs(coded / true - 1)
    assert np.quantile(errors, 0.99) < 0.001
    assert errors.max() < 0.01
    # What coding a Gaussian of one deviation with another's probabilities costs, on average.
    excess_bits = np.log2(coded / true) + ((true / coded) ** 2 - 1) / 2 / np.log(2)
    assert 0 <= excess_bits.mean() < 1e-6
