"""Misshapen models are refused before they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from slic_cli.codec import Codec
from slic_cli.errors import BadModelFile
from slic_cli.model_file import save_model
from slic_cli.registry import read_spec
from slic_cli.shapes import check_shapes

WRONG: dict[str, npt.NDArray[Any]] = {
    "g_a.0.weight": np.zeros((8, 3, 5), np.float16),
    "g_a.6.weight": np.zeros(12, np.float16),
    "g_s.6.weight": np.zeros((3, 8, 5, 5), np.float16),
    "g_s.1.gamma": np.zeros((8, 9), np.float16),
    "h_a.0.weight": np.zeros((8, 12, 3, 3), np.float32),
    "h_s.4.bias": np.zeros(0, np.float16),
    "entropy_bottleneck.quantiles": np.zeros(8, np.float16),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_misshapen_tensor_is_named(tiny_model: Path, tmp_path: Path, name: str) -> None:
    tensors = safetensors.numpy.load_file(tiny_model) | {name: WRONG[name]}
    path = tmp_path / "wrong.safetensors"
    save_model(path, tensors, read_spec(tiny_model).metadata)
    with pytest.raises(BadModelFile, match=name):
        Codec(read_spec(path), device="cpu")


def test_a_missing_tensor_is_named(tiny_model: Path) -> None:
    tensors = safetensors.numpy.load_file(tiny_model)
    del tensors["h_s.2.weight"]
    with pytest.raises(BadModelFile, match=r"h_s\.2\.weight"):
        check_shapes(tensors)


def test_the_tiny_model_is_well_shaped(tiny_model: Path) -> None:
    check_shapes(safetensors.numpy.load_file(tiny_model))
