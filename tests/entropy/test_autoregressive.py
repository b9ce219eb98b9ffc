"""Strips with a context model: golden bytes, a second decoder, one result whatever the arithmetic or the threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import AUTOREGRESSIVE, round_plainly
from reference_autoregressive import decode_strip
from torch import Tensor

from slic_cli.architectures import ARCHITECTURES
from slic_cli.entropy import byte_product
from slic_cli.entropy.autoregressive import AutoregressiveCoder
from slic_cli.errors import BadModelFile, BadSlicFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

Tensors = dict[str, npt.NDArray[Any]]

GOLDEN = Path(__file__).parent.parent / "golden"
PAYLOADS = {
    "mbt2018": "641d7a83bbdbade073d7d6685aa29d42d835dc59899113b47389a33aefffd702",
    "cheng2020-anchor": "9c08f562ee495d04aeff06d657d05b84aa0c738bf46578056e907cbf4e0473b6",
}

CODING = """
import sys
import torch
from pathlib import Path
from slic_cli.architectures import ARCHITECTURES
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

other, threads = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
for model in sys.argv[3:]:
    spec = read_spec(Path(model))
    coder = ARCHITECTURES[spec.architecture].coder(load_tensors(spec))
    y, z = torch.load(other / f"{spec.architecture}.latents", weights_only=True)
    payload = coder.encode_latents(y, z)[0]
    y_hat = coder.decode(payload, *y.shape[1:])
    assert abs(y_hat - y.numpy()).max() < 1
    result = other / f"{spec.architecture}.result"
    if result.exists():
        assert payload + y_hat.tobytes() == result.read_bytes()
    result.write_bytes(payload + y_hat.tobytes())
"""


def model_of(name: str) -> Tensors:
    return load_tensors(read_spec(GOLDEN / f"golden-{name}.safetensors"))


def coder_of(name: str, tensors: Tensors | None = None) -> AutoregressiveCoder:
    coder = ARCHITECTURES[name].coder(tensors or model_of(name))
    assert isinstance(coder, AutoregressiveCoder)
    return coder


def numbers(shape: tuple[int, ...], limit: int) -> Tensor:
    """Quarters from arithmetic alone, up to `limit` in size; whoever subtracts 64ths from them rounds nothing."""
    values = np.arange(1, int(np.prod(shape)) + 1, dtype=np.int64) * 2654435761 % 4294967291 % (8 * limit + 1)
    return torch.from_numpy((values / 4 - limit).astype(np.float32).reshape(shape))


def latents(coder: AutoregressiveCoder, rows: int, columns: int, limit: int = 9) -> tuple[Tensor, Tensor]:
    n, m = len(coder.hyper_latents.medians), coder._context.channels
    return numbers((m, rows, columns), limit), numbers((n, -(-rows // 4), -(-columns // 4)), 3)


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_golden_payload_and_a_second_decoder(name: str) -> None:
    coder = coder_of(name)
    y, z = latents(coder, 5, 6)
    y[3, 2, :3], z[1, 0, 0] = torch.tensor([300.0, -40000.0, 32767.0]), -4000.0
    payload = coder.encode_latents(y, z)[0]
    assert hashlib.sha256(payload).hexdigest() == PAYLOADS[name]
    z_symbols, y_hat = decode_strip(name, model_of(name), payload, 5, 6)
    assert z_symbols == coder.hyper_latents.quantise(z).ravel().tolist()
    decoded = coder.decode(payload, 5, 6)
    assert {place: value * 64 for place, value in np.ndenumerate(decoded)} == y_hat
    y[3, 2, 1] = float(decoded[3, 2, 1])  # beyond 16 bits, and clipped
    assert decoded[3, 2, 1] < -32000
    assert np.abs(decoded - y.numpy()).max() < 1


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (2, 2), (4, 4), (5, 8), (8, 5), (3, 17)])
def test_round_trip_of_any_size(name: str, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    coder = coder_of(name)
    round_plainly(monkeypatch, coder)
    y, z = latents(coder, rows, columns)
    decoded = coder.decode(coder.encode_latents(y, z)[0], rows, columns)
    assert decoded.dtype == np.float32
    assert decoded.shape == y.shape
    assert np.array_equal(decoded * 64, np.rint(decoded * 64))
    assert np.abs(decoded - y.numpy()).max() <= 0.5


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_extreme_latents_round_trip(name: str) -> None:
    """Sums grow until activations are clipped."""
    coder = coder_of(name)
    y = torch.where(latents(coder, 6, 7)[0] > 0, 32000.0, -32000.0)
    z = torch.where(latents(coder, 6, 7)[1] > 0, 32767.0, -32768.0)
    payload = coder.encode_latents(y, z)[0]
    _, expected = decode_strip(name, model_of(name), payload, 6, 7)
    decoded = coder.decode(payload, 6, 7)
    assert {place: value * 64 for place, value in np.ndenumerate(decoded)} == expected


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_both_ways_to_multiply_give_the_same_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not byte_product.bytes_are_quick():
        pytest.skip("a processor without instructions for products of bytes")
    y, z = latents(coder_of(name), 12, 14, 4)
    results = set()
    for quick in (False, True):
        monkeypatch.setattr(byte_product, "bytes_are_quick", lambda quick=quick: quick)
        coder = coder_of(name)
        payload = coder.encode_latents(y, z)[0]
        results.add((payload, coder.decode(payload, 12, 14).tobytes()))
    assert len(results) == 1


def test_threads_change_nothing(tmp_path: Path) -> None:
    for name in AUTOREGRESSIVE:
        torch.save(latents(coder_of(name), 14, 20), tmp_path / f"{name}.latents")
    models = [str(GOLDEN / f"golden-{name}.safetensors") for name in AUTOREGRESSIVE]
    for threads in ("1", "2"):
        limits = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", CODING, str(tmp_path), threads, *models]
        subprocess.run(command, env=environment, check=True)
    assert len(list(tmp_path.glob("*.result"))) == len(AUTOREGRESSIVE)


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_context_and_hyper_latents_are_used(name: str) -> None:
    """A decoder that ignored one of its inputs could still agree with its encoder."""
    coder = coder_of(name)
    y, z = latents(coder, 8, 12)
    first = coder.decode(coder.encode_latents(y, z)[0], 8, 12)
    for place in ((0, 2, 2), (5, 3, 7)):  # all that is coded before stays; something after it moves
        changed = y.clone()
        changed[place] += 8
        moved = coder.decode(coder.encode_latents(changed, z)[0], 8, 12) != first
        _, row, column = place
        t = np.arange(12)[None, :] + 3 * np.arange(8)[:, None]
        assert not moved[:, t < column + 3 * row].any()
        assert moved[:, t > column + 3 * row].any()
    assert (coder.decode(coder.encode_latents(y, z + 5)[0], 8, 12) != first).any()


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize(
    "tensor",
    ["tables.y.lowest", "tables.z.frequencies", "tables.y.thresholds", "h_s.4.bias", "context_prediction.weight",
     "context_prediction.bias", "entropy_parameters.2.weight", "entropy_parameters.4.bias"],
)  # fmt: skip
def test_missing_tensor_is_named(name: str, tensor: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {tensor}, got a model without"):
        coder_of(name, {key: value for key, value in model_of(name).items() if key != tensor})


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_unfit_tables_are_refused(name: str) -> None:
    tensors = model_of(name)
    with pytest.raises(BadModelFile, match="a table for each"):
        coder_of(name, tensors | {"tables.y.thresholds": tensors["tables.y.thresholds"][1:]})
    with pytest.raises(BadModelFile, match="a table for each"):
        coder_of(name, tensors | {"entropy_bottleneck.quantiles": np.zeros((9, 1, 3), np.float16)})


@pytest.mark.parametrize(
    "tensor",
    ["h_s.4.weight", "context_prediction.weight", "context_prediction.bias", "entropy_parameters.0.weight",
     "entropy_parameters.4.weight"],
)  # fmt: skip
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_networks_that_are_not_finite_are_refused(tensor: str, value: float) -> None:
    tensors = model_of("mbt2018")
    with pytest.raises(BadModelFile, match="finite"):
        coder_of("mbt2018", tensors | {tensor: np.full(tensors[tensor].shape, value, np.float64)})


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_random_payloads_decode_or_are_refused(name: str) -> None:
    coder, random, refused = coder_of(name), np.random.default_rng(7), 0
    for length in range(100):
        try:
            assert coder.decode(random.bytes(4 * length), 5, 6).shape[1:] == (5, 6)
        except BadSlicFile:
            refused += 1
    assert refused > 50
