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
from small_trellis import LEVELS, OWN_CHANNEL, OWN_TABLE, number, y_tensors
from torch import Tensor

from slic_cli.architectures import ARCHITECTURES
from slic_cli.entropy import byte_product
from slic_cli.entropy.autoregressive import AutoregressiveCoder
from slic_cli.entropy.latent_coder import OWN, TRADEOFF
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT, TrellisLatentCoder
from slic_cli.entropy.wavefront import Front
from slic_cli.errors import BadModelFile, BadSlicFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

Tensors = dict[str, npt.NDArray[Any]]

GOLDEN = Path(__file__).parent.parent / "golden"
PAYLOADS = {
    "mbt2018": "641d7a83bbdbade073d7d6685aa29d42d835dc59899113b47389a33aefffd702",
    "cheng2020-anchor": "9c08f562ee495d04aeff06d657d05b84aa0c738bf46578056e907cbf4e0473b6",
}

DEPENDENT = {  # payloads of 3 x 4 positions, and the digests of what they decode to
    "mbt2018": (
        "165e0b63ea3aff8ab424040d80362ea151ccaf80ade478bcfbcbab2bed2aefc75ed9ff6dbe3a9d734431dc0f00a99253109a6b8526e832ac"
        "1f44fac3ffffffcfffffffff63f6ffffe55f00455c00117b8198585e81095caab6c612afbd66d2e21c6ae811f651538c8bc39dbcb90aeccef"
        "543fe3fa99a679afffffff8ff92ffff18e40ea47ee80e6339d99073316bf8f001626ec726e6d07a",
        "a2d5a137c5e0cc7da4dfd9c1805e25792153071ea6b4791afab8bf93db6e81ee",
    ),
    "cheng2020-anchor": (
        "cf95d9887567d0c1fc8a68e26af7329b053b7d9d7ca386fd73aba2def75dec7959750616ffff7d978668efdcceb4eae69fcaf150eafe0b5a5"
        "a736a88ecabddae186558e6554cf1538ce432e88022a8be51ae6eec",
        "9d6767e0f485201328ad549682ab3da93e85d21d8b37eeab971b45f758feade3",
    ),
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
def test_channels_with_a_table_of_their_own(name: str) -> None:
    """The second decoder reads them as well."""
    tensors = model_of(name)
    more = {"frequencies": [1 << 23, 1 << 22, 1 << 22], "lengths": [3], "lowest": [0]}
    tensors |= {
        f"tables.y.{part}": np.append(tensors[f"tables.y.{part}"], np.array(values, np.int32))
        for part, values in more.items()
    }
    own = np.full(len(tensors["g_a.6.bias"]), -1, np.int32)
    own[[1, 5]] = len(tensors["tables.y.lengths"]) - 1
    coder = coder_of(name, tensors | {OWN: own})
    y, z = latents(coder, 4, 5, 2)
    payload, y_hat = coder.encode_latents(y, z)
    assert payload != coder_of(name).encode_latents(y, z)[0]
    np.testing.assert_array_equal(coder.decode(payload, 4, 5), y_hat)
    assert np.abs(y_hat[[1, 5]] - y[[1, 5]].numpy()).max() <= 0.5
    expected = {place: value * 64 for place, value in np.ndenumerate(y_hat)}
    assert decode_strip(name, tensors | {OWN: own}, payload, 4, 5)[1] == expected


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


# --- dependent quantisation -----------------------------------------------------------------------------


def with_trellis(name: str, steps: int = 4, unit: int = 43) -> Tensors:
    """Scales of the small models fall into all classes, and fronts have several lanes."""
    tensors = model_of(name)
    thresholds = {"tables.y.thresholds": np.array([12000, 15000, 18000], np.int32)}
    return tensors | y_tensors(unit=unit, steps=steps, channels=len(tensors["g_a.6.bias"])) | thresholds


def coded(
    coder: AutoregressiveCoder, y_hat: npt.NDArray[np.float32], z: Tensor
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The table of each latent of a strip, and what it adds to its mean, in 64ths: both (M, rows, columns)."""
    tables, offsets = np.empty(y_hat.shape, np.uint8), np.empty(y_hat.shape, np.int32)

    def code(front: Front, means: Tensor, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        at = slice(None), front.row + np.arange(front.count), front.column - 3 * np.arange(front.count)
        offsets[at] = y_hat[at] * 64 - means.numpy().T
        tables[at] = indices.T
        return offsets[at].T

    _, rows, columns = y_hat.shape
    walked = coder._walk(coder.hyper_latents.quantise(z), rows, columns, code)
    np.testing.assert_array_equal(walked, y_hat)
    return tables, offsets


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (4, 4), (5, 8), (3, 17)])
@pytest.mark.parametrize(("steps", "unit"), [(4, 43), (1, 64), (32, 43)])
def test_dependent_latents_are_read_as_they_were_written(
    name: str, size: tuple[int, int], steps: int, unit: int
) -> None:
    """Each front by itself, by the second decoder as well."""
    tensors = with_trellis(name, steps, unit)
    coder = coder_of(name, tensors)
    assert isinstance(coder.latents, TrellisLatentCoder)
    y, z = latents(coder, *size)
    payload, y_hat = coder.encode_latents(y, z)
    decoded = coder.decode(payload, *size)
    assert decoded.dtype == y_hat.dtype == np.float32 and decoded.shape == y.shape
    np.testing.assert_array_equal(decoded, y_hat)
    z_symbols, expected = decode_strip(name, tensors, payload, *size)
    assert z_symbols == coder.hyper_latents.quantise(z).ravel().tolist()
    assert {place: value * 64 for place, value in np.ndenumerate(decoded)} == expected


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_what_becomes_of_latents_and_their_means(name: str) -> None:
    """Differences are whole in channels with a table of their own, else whole units, even ones where scales are small;
    and where they are not, nearer than rounding to twice the unit could bring them."""
    unit = 43
    coder = coder_of(name, with_trellis(name, 32, unit) | {TRADEOFF: np.array([1000.0], np.float32)})
    y, z = latents(coder, 12, 13)
    _, y_hat = coder.encode_latents(y, z)
    tables, offsets = coded(coder, y_hat, z)
    assert (tables[OWN_CHANNEL] == OWN_TABLE).all() and (np.delete(tables, OWN_CHANNEL, 0) < LEVELS).all()
    assert min((tables == table).sum() for table in range(LEVELS)) > 5
    assert (offsets[OWN_CHANNEL] % 64 == 0).all()
    assert (offsets[tables == 0] % (2 * unit) == 0).all()
    dependent = (tables > 0) & (tables < LEVELS)
    assert set(np.unique(offsets[dependent] % (2 * unit))) == {0, unit}
    error = np.square(y.numpy() - y_hat)
    assert error[OWN_CHANNEL].max() <= 0.25
    assert error[dependent].mean() < 0.85 * (2 * unit / 64) ** 2 / 12


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_extreme_dependent_latents_round_trip(name: str) -> None:
    coder = coder_of(name, with_trellis(name))
    y = torch.where(latents(coder, 6, 7)[0] > 0, 1e6, -1e6)
    payload, y_hat = coder.encode_latents(y, latents(coder, 6, 7)[1])
    assert np.abs(y_hat).min() > 20000
    np.testing.assert_array_equal(coder.decode(payload, 6, 7), y_hat)
    expected = decode_strip(name, with_trellis(name), payload, 6, 7)[1]
    assert {place: value * 64 for place, value in np.ndenumerate(y_hat)} == expected


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_a_literal_dependent_payload(name: str) -> None:
    """The format must not drift, whatever an encoder makes of latents."""
    payload, digest = DEPENDENT[name]
    decoded = coder_of(name, with_trellis(name)).decode(bytes.fromhex(payload), 3, 4)
    assert hashlib.sha256(decoded.astype("<f4").tobytes()).hexdigest() == digest
    expected = decode_strip(name, with_trellis(name), bytes.fromhex(payload), 3, 4)[1]
    assert {place: value * 64 for place, value in np.ndenumerate(decoded)} == expected


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_random_payloads_decode_or_are_refused_with_a_trellis(name: str) -> None:
    coder, random, refused = coder_of(name, with_trellis(name)), np.random.default_rng(7), 0
    for length in range(60):
        try:
            assert coder.decode(random.bytes(4 * length), 5, 6).shape[1:] == (5, 6)
        except BadSlicFile:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize(
    ("tensor", "damaged", "said"),
    [
        (UNIT, number(65), "from 1 to 64 in trellis.unit"),
        (UNIT, number(0), "from 1 to 64 in trellis.unit"),
        (STEPS, number(0), "in trellis.steps"),
        (STEPS, np.array([4], np.int16), "in trellis.steps"),
        (TRANSITIONS, np.zeros((8, 2), np.int32), "expected a trellis"),
    ],
)
def test_damaged_trellises_are_refused(name: str, tensor: str, damaged: npt.NDArray[Any], said: str) -> None:
    with pytest.raises(BadModelFile, match=said):
        coder_of(name, with_trellis(name) | {tensor: damaged})


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("missing", [UNIT, STEPS, PAIRED])
def test_what_a_trellis_needs_is_named_where_it_is_missing(name: str, missing: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {missing}, got a model without"):
        coder_of(name, {key: value for key, value in with_trellis(name).items() if key != missing})


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
