"""Model files: what is written is read, what is damaged is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from slic_cli.errors import BadModelFile, OutputExists
from slic_cli.model_file import load_tensors, save_model
from slic_cli.registry import read_header, read_spec, weights_digest

METADATA = {"architecture": "bmshj2018-hyperprior", "quality": "3", "metric": "dists", "note": "kept"}
TENSORS: dict[str, npt.NDArray[Any]] = {
    "b": np.arange(6, dtype=np.float16).reshape(2, 3),
    "a": np.array([1, -2], np.int32),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    save_model(path, TENSORS, METADATA)
    return path


def test_tensors_and_metadata_come_back(model: Path) -> None:
    spec = read_spec(model)
    assert (spec.name, spec.quality, spec.metric, spec.metadata["note"]) == ("m", 3, "dists", "kept")
    tensors = load_tensors(spec)
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        assert np.array_equal(tensors[name], array)


def test_every_changed_byte_of_data_is_noticed(model: Path) -> None:
    content, (_, start) = model.read_bytes(), read_header(model)
    for position in range(start, len(content)):
        model.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(BadModelFile, match="damaged"):
            load_tensors(read_spec(model))


def test_changed_metadata_is_noticed(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b'"kept"', b'"lost"'))
    with pytest.raises(BadModelFile, match="damaged"):
        load_tensors(read_spec(model))


def test_the_digest_does_not_hang_on_the_order_of_keys() -> None:
    header = {"a": {"x": 1}, "__metadata__": {"k": "v", "weights_digest": "old"}}
    turned = {"__metadata__": {"weights_digest": "new", "k": "v"}, "a": {"x": 1}}
    assert weights_digest(header, b"data") == weights_digest(turned, b"data")
    assert weights_digest(header, b"data") != weights_digest(header, b"datb")


def test_a_model_is_not_overwritten_without_force(model: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(OutputExists):
        save_model(model, {}, METADATA)
    assert model.read_bytes() == before
    save_model(model, {}, METADATA, force=True)
    assert load_tensors(read_spec(model)) == {}


def signed(path: Path, header: dict[str, Any], data: bytes) -> Path:
    """A file whose digest is right, whatever else is wrong with it."""
    metadata = {"format": "slic-model-1", **METADATA}
    digest = weights_digest({**header, "__metadata__": metadata}, data)
    content = json.dumps({**header, "__metadata__": metadata | {"weights_digest": digest}}).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


@pytest.mark.parametrize(
    ("tensor", "data"),
    [
        ({"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}, b"\0\0"),
        ({"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}, b"\0\0"),
        ({"dtype": "F16", "shape": [1 << 40], "data_offsets": [0, 1 << 41]}, b"\0\0"),
        ({"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}, b"\0\0\0\0"),
        ({"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}, b"\0\0"),
        ({"dtype": "X", "shape": [1], "data_offsets": [0, 2]}, b"\0\0"),
        ({"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}, b"\0\0"),
        ({}, b""),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, tensor: dict[str, Any], data: bytes) -> None:
    path = signed(tmp_path / "m.safetensors", {"x": tensor}, data)
    with pytest.raises(BadModelFile, match="safetensors"):
        load_tensors(read_spec(path))


def test_a_model_that_is_gone_is_refused(model: Path) -> None:
    spec = read_spec(model)
    model.unlink()
    with pytest.raises(BadModelFile, match="readable"):
        load_tensors(spec)


def test_the_digest_is_that_of_the_document(model: Path) -> None:
    """docs/model-format.md, step by step, without the code under test."""
    content = model.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    stored = header["__metadata__"].pop("weights_digest")
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode() + content[end:]).hexdigest() == stored == read_spec(model).digest


def test_a_digest_does_not_change_between_versions(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}
    spec = read_spec(signed(tmp_path / "m.safetensors", header, b"\1\2"))
    assert spec.digest == "c245862d0188c7dcb5de8116d993702ac926eb6b8157e7b47c71b9ee7aed6308"
