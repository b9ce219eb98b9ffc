"""What an encoder of y takes from its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_METADATA, tiny_state

from slic_cli.entropy.latent_coder import TRADEOFF, LatentCoder
from slic_cli.errors import BadModelFile
from slic_cli.export import export_model
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec

Tensors = dict[str, npt.NDArray[Any]]


def tensors(path: Path, tradeoff: float | None) -> Tensors:
    export_model(path, tiny_state(), TINY_METADATA, True, tradeoff)
    return dict(load_tensors(read_spec(path)))


def test_a_model_says_what_its_encoder_pays_for_exactness(tmp_path: Path) -> None:
    """The more it pays, the fewer symbols are moved towards 0; 12 bits where the model does not say."""
    latents, indices = torch.linspace(-3, 3, 601), np.full(601, 40, np.uint8)
    moved = {}
    for tradeoff in (None, 12.0, 48.0):
        coder = LatentCoder(tensors(tmp_path / "x.safetensors", tradeoff))
        moved[tradeoff] = int((coder.quantise(latents, indices) != latents.round().numpy()).sum())
    assert 0 < moved[48.0] < moved[12.0] == moved[None]


@pytest.mark.parametrize("value", [[0.0], [float("nan")], [12.0, 12.0], []])
def test_an_encoder_that_pays_nothing_is_refused(value: list[float], tmp_path: Path) -> None:
    damaged = tensors(tmp_path / "x.safetensors", 12.0) | {TRADEOFF: np.array(value, np.float32)}
    with pytest.raises(BadModelFile, match="expected one number above 0 in encoder"):
        LatentCoder(damaged)
