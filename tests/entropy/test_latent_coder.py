"""What an encoder of y takes from its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_METADATA, tiny_state

from slic_cli.entropy.latent_coder import OWN, TRADEOFF, LatentCoder
from slic_cli.errors import BadModelFile
from slic_cli.export import export_model
from slic_cli.latent_tables import SCALE_LEVELS, expected_tables
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


# --- channels with a table of their own ---------------------------------------------------------------------


def with_own_tables() -> Tensors:
    """Channels 1 and 4 of 5 share a table, channel 2 has another."""
    own = expected_tables(np.array([-1, 0, 1, -1, 0], np.int32))
    return own.tensors() | {"g_a.6.bias": np.zeros(5, np.float16)}


@pytest.mark.parametrize("axis", [0, 1])
def test_their_table_is_the_same_whatever_their_scale(axis: int) -> None:
    scales = np.random.default_rng(0).integers(0, 1 << 18, (5, 40)).astype(np.float64)
    plain = with_own_tables()
    coder = LatentCoder(plain)
    indices = np.moveaxis(coder.indices(np.moveaxis(scales, 0, axis), axis), axis, 0)
    assert indices.dtype == np.uint8
    for channel, table in ((1, 0), (2, 1), (4, 0)):
        assert (indices[channel] == SCALE_LEVELS + table).all()
    expected = np.searchsorted(plain["tables.y.thresholds"], scales[[0, 3]], side="right")
    np.testing.assert_array_equal(indices[[0, 3]], expected)


def test_they_are_rounded_plainly_and_the_others_are_not() -> None:
    """Without such channels, latents that are too unlikely to be chance are; with them there is nothing to guess."""
    coder = LatentCoder(with_own_tables())
    latents = torch.linspace(-3, 3, 601)
    for table, plainly in ((SCALE_LEVELS, True), (SCALE_LEVELS + 1, True), (0, False), (40, False)):
        symbols = coder.quantise(latents, np.full(601, table, np.uint8))
        assert np.array_equal(symbols, latents.round().numpy()) == plainly


@pytest.mark.parametrize(
    "own",
    [[-1, 128, 130, -1, 128], [-1, 128, 127, -1, 128], [-1, 128, 129, -1], [-1, 128, 129, -1, 128, 128], []],
    ids=["beyond the last", "of a scale level", "too few", "too many", "none"],
)
def test_other_tables_are_refused(own: list[int]) -> None:
    with pytest.raises(BadModelFile, match="expected for each channel a table beyond those of scale levels, or -1"):
        LatentCoder(with_own_tables() | {OWN: np.array(own, np.int32)})


def test_tables_that_nobody_has_are_refused() -> None:
    with pytest.raises(BadModelFile, match="a table for each"):
        LatentCoder(with_own_tables() | {OWN: np.full(5, -1, np.int32)})
