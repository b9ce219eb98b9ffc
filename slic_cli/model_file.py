"""Model files: safetensors with half-precision weights under CompressAI's names, probability tables, and a digest.

docs/model-format.md lists the tensors and the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from slic_cli.errors import BadModelFile
from slic_cli.files import write_atomically
from slic_cli.model_difference import WITHOUT, difference, restore
from slic_cli.registry import DIFFERS_FROM, MODEL_FORMAT, ModelSpec, find_other, read_header, weights_digest

Tensors = Mapping[str, npt.NDArray[Any]]


def load_tensors(spec: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a model, checked against its digest, and against that of the model it differs from, if it is kept
    so. Raises BadModelFile, MissingModel."""
    tensors = _load(spec)
    if DIFFERS_FROM not in spec.metadata:
        return tensors
    other = _load(find_other(spec))
    try:
        return restore(tensors, other, spec.metadata)
    except BadModelFile as error:
        raise BadModelFile(f"{spec.path}: {error}") from error


def _load(spec: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """The tensors in a file."""
    header, start = read_header(spec.path)
    try:
        data = spec.path.read_bytes()
    except OSError as error:
        raise BadModelFile(f"{spec.path}: expected a readable model, got: {error.strerror}") from error
    got = weights_digest(header, memoryview(data)[start:])
    if got != spec.digest:
        raise BadModelFile(f"{spec.path}: expected weights of digest {spec.digest[:12]}, got {got[:12]}: damaged")
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BadModelFile(f"{spec.path}: expected a safetensors file, got: {error}") from error


def save_model(path: Path, tensors: Tensors, metadata: Mapping[str, str], force: bool = False) -> None:
    """Write a model file; `metadata` needs architecture, quality and metric, the digest is added here."""
    entries = {"format": MODEL_FORMAT, **metadata}
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    draft = safetensors.numpy.save(arrays, entries)
    length = int.from_bytes(draft[:8], "little")
    header = json.loads(draft[8 : 8 + length])
    digest = weights_digest(header, memoryview(draft)[8 + length :])
    write_atomically(path, safetensors.numpy.save(arrays, {**entries, "weights_digest": digest}), force)


def save_difference(path: Path, spec: ModelSpec, other: ModelSpec, force: bool = False) -> None:
    """Write the model `spec` as what differs from `other`, a whole file, which must be found wherever this one is.

    Raises BadModelFile, OutputError.
    """
    if DIFFERS_FROM in other.metadata:
        raise BadModelFile(f"{other.path}: expected a whole model to differ from, got one that is a difference itself")
    own, lacking = difference(load_tensors(spec), load_tensors(other))
    said = {key: value for key, value in spec.metadata.items() if key != WITHOUT}
    save_model(path, own, {**said, **lacking, DIFFERS_FROM: other.digest}, force)
