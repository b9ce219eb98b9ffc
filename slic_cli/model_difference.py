"""Models kept as what differs from another: a vanilla base is its SLIC model without the carrier, all but for tables.

docs/model-format.md, Differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slic_cli.errors import BadModelFile

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

WITHOUT = "without"  # metadata: names of the other model's tensors that this one lacks, separated by spaces
_PLACES, _VALUES = "places.", "values."  # before a tensor's name: where it differs, and what it has there


def difference(tensors: Tensors, other: Tensors) -> tuple[dict[str, Array], dict[str, str]]:
    """What makes `tensors` out of those of `other`: the tensors and the metadata of a file. `restore` reads them."""
    own: dict[str, Array] = {}
    for name, array in tensors.items():
        own |= _change(name, array, other.get(name))
    lacking = sorted(other.keys() - tensors.keys())
    return own, {WITHOUT: " ".join(lacking)} if lacking else {}


def _change(name: str, array: Array, other: Array | None) -> dict[str, Array]:
    if other is None or other.shape != array.shape or other.dtype != array.dtype:
        return {name: array}
    places = np.flatnonzero(_bits(array) != _bits(other)).astype(np.int32)
    if len(places) * (places.itemsize + array.itemsize) >= array.nbytes:
        return {name: array}
    return {_PLACES + name: places, _VALUES + name: array.ravel()[places]} if len(places) else {}


def _bits(array: Array) -> Array:
    """Elements as bytes: -0 is not 0."""
    return np.ascontiguousarray(array).reshape(-1, 1).view(np.dtype((np.void, array.itemsize)))[:, 0]


def restore(own: Tensors, other: Tensors, metadata: Mapping[str, str]) -> dict[str, Array]:
    """The tensors that `difference` was given. Raises BadModelFile for what it would not write."""
    lacking = set(metadata.get(WITHOUT, "").split())
    changed = {name.removeprefix(mark) for mark in (_PLACES, _VALUES) for name in own if name.startswith(mark)}
    unknown = (lacking | changed) - other.keys()
    if unknown:
        raise BadModelFile(f"expected differences from tensors of the other model, got one from {min(unknown)}")
    whole = {name: array for name, array in own.items() if not name.startswith((_PLACES, _VALUES))}
    parts = {name: _changed(name, other[name], own.get(_PLACES + name), own.get(_VALUES + name)) for name in changed}
    return {name: array for name, array in other.items() if name not in lacking} | whole | parts


def _changed(name: str, array: Array, places: Array | None, values: Array | None) -> Array:
    """A copy of `array` with `values` at `places` of its elements in C order."""
    if places is None or values is None or values.dtype != array.dtype or values.shape != places.shape:
        raise BadModelFile(f"expected a value of {array.dtype} for each place where {name} differs, got others")
    rising = places.dtype == np.int32 and places.ndim == 1 and places.size and places.min() >= 0
    if not rising or (np.diff(places) <= 0).any() or places[-1] >= array.size:
        raise BadModelFile(f"expected rising places below {array.size} where {name} differs, got others")
    changed = array.copy()
    changed.ravel()[places] = values
    return changed
