"""Whole strips: golden bytes, a second decoder written from the document, and scales at the borders of tables."""

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
import safetensors.numpy
from reference_decoder import decode_strip

from slic_cli.codec import strips_of
from slic_cli.container import parse
from slic_cli.entropy.hyperprior import HyperpriorCoder
from slic_cli.errors import BadModelFile, BadSlicFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

Tensors = dict[str, npt.NDArray[Any]]
Symbols = npt.NDArray[np.int16]

GOLDEN = Path(__file__).parent.parent / "golden"
N, M = 8, 12

CODING = """
import hashlib, sys
from pathlib import Path
import numpy as np
import safetensors.numpy
from slic_cli.entropy.hyperprior import HyperpriorCoder

directory, rows, columns = Path(sys.argv[1]), 40, 56
coder = HyperpriorCoder(safetensors.numpy.load_file(directory / "model.safetensors"))
symbols = safetensors.numpy.load_file(directory / "symbols.safetensors")
payload = coder.encode(symbols["y"], symbols["z"])
other = directory / "payload"
if other.exists():
    assert payload == other.read_bytes()
    assert (coder.decode(payload, rows, columns) == symbols["y"]).all()
other.write_bytes(payload)
"""


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return load_tensors(read_spec(GOLDEN / "golden-model.safetensors"))


def numbers(shape: tuple[int, ...], limit: int) -> Symbols:
    """Symbols from arithmetic alone, up to `limit` in size."""
    count = int(np.prod(shape))
    values = np.arange(1, count + 1, dtype=np.int64) * 2654435761 % 4294967291 % (2 * limit + 1) - limit
    return values.astype(np.int16).reshape(shape)


def test_golden_payload(tensors: Tensors) -> None:
    y, z = numbers((M, 5, 3), 9), numbers((N, 2, 1), 5)
    y[3, 2], z[1, 0] = (300, -32768, 32767), -4000
    payload = HyperpriorCoder(tensors).encode(y, z)
    assert hashlib.sha256(payload).hexdigest() == "72f65f2f31e3a1bd7624165723111b77261efa94afaa0e6c830427c47027b1b8"
    assert payload[:16].hex() == "c2391e831c1c81a0ccb1d9642bd542b9"
    np.testing.assert_array_equal(HyperpriorCoder(tensors).decode(payload, 5, 3), y)
    assert decode_strip(tensors, payload, 5, 3) == (z.ravel().tolist(), y.ravel().tolist())


def test_second_decoder_reads_the_golden_file(tensors: Tensors) -> None:
    file = parse((GOLDEN / "golden.slic").read_bytes())
    coder = HyperpriorCoder(tensors)
    strips = list(strips_of(file.height, file.strip_rows))
    assert [strip.stop - strip.start for strip in strips] == [4, 1]
    for strip, payload in zip(strips, file.strips, strict=True):
        rows = strip.stop - strip.start
        _, y = decode_strip(tensors, payload, rows, 6)
        assert coder.decode(payload, rows, 6).ravel().tolist() == y


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (4, 4), (5, 8), (8, 5)])
def test_round_trip_of_any_size(tensors: Tensors, rows: int, columns: int) -> None:
    coder = HyperpriorCoder(tensors)
    y, z = numbers((M, rows, columns), 40), numbers((N, -(-rows // 4), -(-columns // 4)), 12)
    decoded = coder.decode(coder.encode(y, z), rows, columns)
    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, y)


def test_extreme_hyper_latents_round_trip(tensors: Tensors) -> None:
    coder, y = HyperpriorCoder(tensors), numbers((M, 4, 8), 3)
    z: Symbols = np.where(numbers((N, 1, 2), 9) > 0, 32767, -32768).astype(np.int16)
    np.testing.assert_array_equal(coder.decode(coder.encode(y, z), 4, 8), y)


# --- scales exactly at the borders between tables -------------------------------------------------------


def constant_scales(tensors: Tensors, scales: npt.NDArray[np.int32]) -> Tensors:
    """A network that predicts `scales`, one a channel, whatever z is."""
    changed = {"h_s.4.weight": np.zeros((len(scales), N, 3, 3)), "h_s.4.bias": scales / 4096}
    return tensors | changed


@pytest.mark.parametrize(("offset", "step"), [(-1, 0), (0, 1), (1, 1)])
def test_scales_at_thresholds_choose_the_upper_table(tensors: Tensors, offset: int, step: int) -> None:
    thresholds = tensors["tables.y.thresholds"]
    coder = HyperpriorCoder(constant_scales(tensors, thresholds + offset))
    indices = coder.table_indices(np.zeros((N, 2, 2), np.int16), 5, 7)
    expected = np.arange(len(thresholds)) + step
    np.testing.assert_array_equal(indices, np.broadcast_to(expected[:, None, None], indices.shape))


def test_scales_at_thresholds_decode_with_any_threads(tensors: Tensors, tmp_path: Path) -> None:
    """Thresholds are moved onto scales that the network predicts here, so that an error of 1 anywhere is seen."""
    y, z = numbers((M, 40, 56), 6), numbers((N, 10, 14), 7)
    z_hat = z.astype(np.float64) * 4096 + np.rint(tensors["entropy_bottleneck.quantiles"][:, :, 1:2] * 4096.0)
    scales = HyperpriorCoder(tensors)._h_s(z_hat)
    positive = np.unique(scales[scales > 0]).astype(np.int32)
    thresholds = positive[np.linspace(0, len(positive) - 1, len(tensors["tables.y.thresholds"])).astype(int)]
    at_borders = int(np.isin(scales, thresholds).sum())
    assert at_borders >= len(thresholds)
    safetensors.numpy.save_file(tensors | {"tables.y.thresholds": thresholds}, tmp_path / "model.safetensors")
    safetensors.numpy.save_file({"y": y, "z": z}, tmp_path / "symbols.safetensors")
    for threads in ("1", "2"):
        limits = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", CODING, str(tmp_path)], env=environment, check=True)


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tables.y.lowest", "tables.z.frequencies", "tables.y.thresholds", "h_s.2.bias"])
def test_missing_tensor_is_named(tensors: Tensors, name: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {name}, got a model without"):
        HyperpriorCoder({key: value for key, value in tensors.items() if key != name})


def test_unfit_tables_are_refused(tensors: Tensors) -> None:
    doubled = tensors["tables.z.frequencies"] * 2
    with pytest.raises(BadModelFile, match=r"tables\.z"):
        HyperpriorCoder(tensors | {"tables.z.frequencies": doubled})
    with pytest.raises(BadModelFile, match="a table for each"):
        HyperpriorCoder(tensors | {"tables.y.thresholds": tensors["tables.y.thresholds"][1:]})
    with pytest.raises(BadModelFile, match="a table for each"):
        HyperpriorCoder(tensors | {"entropy_bottleneck.quantiles": np.zeros((N + 1, 1, 3), np.float16)})


def test_thresholds_that_are_no_integers_are_refused(tensors: Tensors) -> None:
    kept = {"tables.y.frequencies": np.array([1 << 23] * 4, np.int32), "tables.y.lengths": np.array([2, 2], np.int32)}
    two_tables = kept | {"tables.y.lowest": np.zeros(2, np.int32)}
    with pytest.raises(BadModelFile):
        HyperpriorCoder(tensors | two_tables | {"tables.y.thresholds": np.array([1.5], np.float32)})


def test_random_payloads_decode_or_are_refused(tensors: Tensors) -> None:
    coder, random, refused = HyperpriorCoder(tensors), np.random.default_rng(7), 0
    for length in range(200):
        try:
            assert coder.decode(random.bytes(4 * length), 5, 6).shape == (M, 5, 6)
        except BadSlicFile:
            refused += 1
    assert refused > 100
