"""Weights are stored as integer networks read them: the same integers, in fewer bits."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import AUTOREGRESSIVE, TINY_STATES

from slic_cli.architectures import find_architecture
from slic_cli.entropy.as_read import _rows_as_read, hyperprior_as_read
from slic_cli.entropy.byte_network import HIDDEN_BITS, FixedWeights, to_fixed_weights
from slic_cli.entropy.integer_network import WEIGHT_BITS, to_fixed_point
from slic_cli.entropy.latent_coder import LATENT_BITS
from slic_cli.entropy.wavefront import TAPS

Tensors = dict[str, npt.NDArray[Any]]
TRANSPOSED = {("mbt2018", "h_s.0"), ("mbt2018", "h_s.2")}


def halves(architecture: str) -> Tensors:
    return {name: array.astype(np.float16) for name, array in TINY_STATES[architecture]().items()}


def fixed_weights(architecture: str, tensors: Tensors) -> dict[str, FixedWeights]:
    """Of all layers with weights of bytes, as docs/format.md has them."""
    fixed = {}
    for name in tensors:
        layer, part = name.rsplit(".", 1)
        if part != "weight" or not layer.startswith(("h_s.", "entropy_parameters.", "context_prediction")):
            continue
        weight = tensors[name].swapaxes(0, 1) if (architecture, layer) in TRANSPOSED else tensors[name]
        context = layer == "context_prediction"
        if context:
            weight = weight.reshape(*weight.shape[:2], -1)[:, :, :TAPS]
        fixed[layer] = to_fixed_weights(weight, tensors[f"{layer}.bias"], LATENT_BITS if context else HIDDEN_BITS)
    return fixed


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_bytes_and_exponents_stay_the_same(architecture: str) -> None:
    tensors = halves(architecture)
    rounded = tensors | find_architecture(architecture).as_read(tensors)
    after = fixed_weights(architecture, rounded)
    for layer, before in fixed_weights(architecture, tensors).items():
        for part in ("weight", "bias", "exponents"):
            np.testing.assert_array_equal(getattr(after[layer], part), getattr(before, part), err_msg=layer)
        assert not np.array_equal(rounded[f"{layer}.weight"], tensors[f"{layer}.weight"]), layer
        assert rounded[f"{layer}.weight"].shape == tensors[f"{layer}.weight"].shape


def test_fixed_point_stays_the_same() -> None:
    tensors = halves("bmshj2018-hyperprior")
    rounded = hyperprior_as_read(tensors)
    assert set(rounded) == {f"h_s.{index}.weight" for index in (0, 2, 4)}
    for name, weight in rounded.items():
        np.testing.assert_array_equal(to_fixed_point(weight, WEIGHT_BITS), to_fixed_point(tensors[name], WEIGHT_BITS))
        assert not np.array_equal(weight, tensors[name])


@pytest.mark.parametrize("architecture", TINY_STATES)
def test_a_second_time_changes_nothing(architecture: str) -> None:
    tensors, rounding = halves(architecture), find_architecture(architecture).as_read
    once = tensors | rounding(tensors)
    for name, array in rounding(once).items():
        assert array.dtype == np.float16
        assert array.tobytes() == once[name].tobytes(), name


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_what_the_mask_hides_is_zero(architecture: str) -> None:
    tensors = halves(architecture)
    weight = find_architecture(architecture).as_read(tensors)["context_prediction.weight"]
    hidden = weight.reshape(*weight.shape[:2], -1)[:, :, TAPS:]
    assert not hidden.any()
    assert tensors["context_prediction.weight"][:, :, 4].any()


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_files_compress_better(architecture: str) -> None:
    tensors = halves(architecture)
    rounded = find_architecture(architecture).as_read(tensors)
    before, after = (
        sum(len(zlib.compress(source[name].tobytes())) for name in rounded) for source in (tensors, rounded)
    )
    assert after < 0.85 * before


def test_rows_whose_exponent_would_change_stay() -> None:
    """An exponent of 4 allows a mean of 16: the first row has 15.9, but 16.25 once it is rounded."""
    weight = np.full((2, 64), 15.0 / 16, np.float16)
    weight[0, :40] = 16.51 / 16
    weight[1, :40] = 16.4 / 16
    kept, _ = _rows_as_read(weight, np.zeros(2, np.float16), HIDDEN_BITS)
    assert to_fixed_weights(weight, np.zeros(2), HIDDEN_BITS).exponents.tolist() == [4, 4]
    np.testing.assert_array_equal(kept[0], weight[0])
    np.testing.assert_array_equal(kept[1], [1.0] * 40 + [15 / 16] * 24)
