"""Model files: what is written is read, what is damaged is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from slic_cli.errors import BadModelFile, MissingModel, OutputExists
from slic_cli.model_file import load_tensors, save_difference, save_model
from slic_cli.registry import ModelSpec, read_header, read_spec, weights_digest

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


@pytest.fixture
def pair(model: Path) -> tuple[ModelSpec, ModelSpec]:
    """A model, and another that is kept as what differs from it."""
    whole = model.with_name("whole.safetensors")
    save_model(whole, {**TENSORS, "a": np.array([7, -2], np.int32), "c": np.zeros(1, np.float32)}, METADATA)
    kept = model.with_name("kept.safetensors")
    save_difference(kept, read_spec(model), read_spec(whole))
    return read_spec(kept), read_spec(whole)


def test_a_difference_is_loaded_as_the_model_it_was(pair: tuple[ModelSpec, ModelSpec], model: Path) -> None:
    kept, whole = pair
    tensors = load_tensors(kept)
    assert tensors.keys() == TENSORS.keys()
    assert all(np.array_equal(tensors[name], array) for name, array in TENSORS.items())
    assert kept.metadata["differs_from"] == whole.digest
    assert (kept.metadata["note"], kept.metadata["without"]) == ("kept", "c")
    assert kept.digest not in (whole.digest, read_spec(model).digest)
    assert kept.path.stat().st_size < whole.path.stat().st_size + 200


def test_a_difference_can_be_made_of_a_difference_but_not_from_one(pair: tuple[ModelSpec, ModelSpec]) -> None:
    kept, whole = pair
    again = kept.path.with_name("again.safetensors")
    save_difference(again, kept, whole)
    assert read_spec(again).digest == kept.digest
    with pytest.raises(BadModelFile, match="whole model"):
        save_difference(again, whole, kept, force=True)
    save_model(again, {}, {**METADATA, "differs_from": kept.digest}, force=True)
    with pytest.raises(BadModelFile, match="whole model"):
        load_tensors(read_spec(again))


def test_a_difference_is_found_a_model_beside_it_or_among_the_registered(
    pair: tuple[ModelSpec, ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, whole = pair
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    whole.path.rename(elsewhere / whole.path.name)
    with pytest.raises(MissingModel, match=whole.digest[:12]):
        load_tensors(kept)
    monkeypatch.setenv("SLIC_MODELS", str(elsewhere))
    assert load_tensors(kept).keys() == TENSORS.keys()


def test_a_difference_from_a_damaged_model_is_refused(pair: tuple[ModelSpec, ModelSpec]) -> None:
    kept, whole = pair
    content = whole.path.read_bytes()
    whole.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadModelFile, match="damaged"):
        load_tensors(kept)


def test_a_difference_that_breaks_a_rule_names_its_file(pair: tuple[ModelSpec, ModelSpec]) -> None:
    kept, whole = pair
    metadata = {**METADATA, "differs_from": whole.digest, "without": "nothing"}
    save_model(kept.path, {}, metadata, force=True)
    with pytest.raises(BadModelFile, match=r"kept\.safetensors: .*nothing"):
        load_tensors(read_spec(kept.path))
