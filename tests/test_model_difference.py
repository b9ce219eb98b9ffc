"""Differences between models: what was given comes back, byte for byte, and what is wrong with them is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from slic_cli.errors import BadModelFile
from slic_cli.model_difference import WITHOUT, difference, restore

Arrays = dict[str, npt.NDArray[Any]]

OTHER: Arrays = {
    "same": np.arange(12, dtype=np.float16).reshape(3, 4),
    "few": np.ones((8, 8), np.float16),
    "most": np.zeros(16, np.int32),
    "longer": np.zeros(4, np.int32),
    "gone": np.zeros(2, np.float32),
    "gone.too": np.zeros(2, np.float32),
}
MODEL: Arrays = {
    "same": OTHER["same"].copy(),
    "few": OTHER["few"].copy(),
    "most": np.arange(16, dtype=np.int32),
    "longer": np.zeros(6, np.int32),
    "new": np.ones(1, np.float32),
}
MODEL["few"][2, 1], MODEL["few"][7, 7] = 0, -3


def same(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


def test_a_model_comes_back_from_its_difference() -> None:
    own, metadata = difference(MODEL, OTHER)
    assert same(restore(own, OTHER, metadata), MODEL)


def test_only_what_differs_is_kept() -> None:
    own, metadata = difference(MODEL, OTHER)
    assert own.keys() == {"places.few", "values.few", "most", "longer", "new"}
    assert own["places.few"].tolist() == [17, 63]
    assert own["values.few"].tolist() == [0, -3]
    assert metadata == {WITHOUT: "gone gone.too"}
    assert difference(MODEL, MODEL) == ({}, {})


def test_the_sign_of_zero_and_what_is_no_number_are_kept() -> None:
    other = {"x": np.zeros(64, np.float16)}
    model = {"x": other["x"].copy()}
    model["x"][5], model["x"][6] = -0.0, np.nan
    assert same(restore(*_with(other, model)), model)


def _with(other: Arrays, model: Arrays) -> tuple[Arrays, Arrays, dict[str, str]]:
    own, metadata = difference(model, other)
    return own, other, metadata


def test_the_other_model_stays_as_it_is() -> None:
    before = {name: array.copy() for name, array in OTHER.items()}
    restore(*_with(OTHER, MODEL))
    assert same(OTHER, before)


shapes = st_numpy.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
arrays = st.sampled_from([np.float16, np.float32, np.int32]).flatmap(
    lambda kind: st_numpy.arrays(kind, shapes, elements=st.integers(-2, 2))
)
models = st.dictionaries(st.sampled_from(["a", "b.weight", "c", "d"]), arrays)


@given(models, models)
def test_any_model_comes_back_from_its_difference(model: Arrays, other: Arrays) -> None:
    assert same(restore(*_with(other, model)), model)


def places(*numbers: int) -> npt.NDArray[np.int32]:
    return np.array(numbers, np.int32)


ONE = np.ones(1, np.float16)


@pytest.mark.parametrize(
    ("own", "metadata", "named"),
    [
        ({}, {WITHOUT: "gone nowhere"}, "nowhere"),
        ({"places.nowhere": places(0), "values.nowhere": ONE}, {}, "nowhere"),
        ({"places.gone": places(0)}, {}, "gone"),
        ({"places.few": places(0), "values.few": ONE.astype(np.float32)}, {}, "few"),
        ({"places.few": places(0, 1), "values.few": ONE}, {}, "few"),
        ({"places.few": places(0)[None], "values.few": ONE[None]}, {}, "few"),
        ({"places.few": places(-1), "values.few": ONE}, {}, "few"),
        ({"places.few": places(2**31 - 1, -(2**31)), "values.few": np.ones(2, np.float16)}, {}, "few"),
        ({"places.few": places(64), "values.few": ONE}, {}, "few"),
        ({"places.few": places(3, 3), "values.few": np.ones(2, np.float16)}, {}, "few"),
        ({"places.few": places(4, 3), "values.few": np.ones(2, np.float16)}, {}, "few"),
        ({"places.few": places(), "values.few": np.ones(0, np.float16)}, {}, "few"),
        ({"places.few": places(0).astype(np.int64), "values.few": ONE}, {}, "few"),
        ({"values.few": ONE}, {}, "few"),
    ],
)
def test_a_difference_that_breaks_a_rule_is_refused(own: Arrays, metadata: dict[str, str], named: str) -> None:
    with pytest.raises(BadModelFile, match=f"expected .*{named}"):
        restore(own, OTHER, metadata)
