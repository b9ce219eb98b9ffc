"""Shared fixtures: a tiny seeded model, so that the real codec runs in milliseconds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slic_cli.export import export_model

TINY_N, TINY_M = 8, 12
TINY_NAME = "tiny-test-q1"
TINY_METADATA = {"architecture": "bmshj2018-hyperprior", "quality": "1", "metric": "none", "N": "8", "M": "12"}


def tiny_state(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """A seeded random state dict under CompressAI's names, with latents of a few quantiser steps."""
    random = np.random.default_rng(seed)
    state: dict[str, npt.NDArray[np.float32]] = {}

    def layer(
        name: str, shape: tuple[int, ...], fan_in: int, outputs: int, gain: float = 1.0, bias: float = 0.0
    ) -> None:
        state[f"{name}.weight"] = (random.standard_normal(shape) * gain / fan_in**0.5).astype(np.float32)
        state[f"{name}.bias"] = (bias + 0.1 * random.standard_normal(outputs)).astype(np.float32)

    n, m = TINY_N, TINY_M
    for index, (cin, cout) in enumerate([(3, n), (n, n), (n, n), (n, m)]):
        layer(f"g_a.{2 * index}", (cout, cin, 5, 5), 25 * cin, cout, 30.0 if index == 3 else 2.0)
    for index, (cin, cout) in enumerate([(m, n), (n, n), (n, n), (n, 3)]):
        layer(
            f"g_s.{2 * index}", (cin, cout, 5, 5), 7 * cin, cout, 0.1 if index == 0 else 1.0, 0.5 if index == 3 else 0.0
        )
    for transform in ("g_a", "g_s"):
        for index in (1, 3, 5):
            state[f"{transform}.{index}.beta"] = np.ones(n, np.float32)
            state[f"{transform}.{index}.gamma"] = np.sqrt(0.1 * np.eye(n) + 2.0**-36).astype(np.float32)
    layer("h_a.0", (n, m, 3, 3), 9 * m, n, 0.3)
    layer("h_a.2", (n, n, 5, 5), 25 * n, n)
    layer("h_a.4", (n, n, 5, 5), 25 * n, n, 3.0)
    layer("h_s.0", (n, n, 5, 5), 7 * n, n)
    layer("h_s.2", (n, n, 5, 5), 7 * n, n)
    layer("h_s.4", (m, n, 3, 3), 9 * n, m, 2.0, 4.0)
    state |= _factorised_prior(random)
    return state


def _factorised_prior(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """The entropy bottleneck as CompressAI initialises it, with medians off the integer grid."""
    widths, state = (1, 3, 3, 3, 3, 1), {}
    scale = 10.0 ** (1 / 5)
    for i, (cin, cout) in enumerate(itertools.pairwise(widths)):
        start = np.log(np.expm1(1 / scale / cout))
        state[f"entropy_bottleneck.matrices.{i}"] = np.full((TINY_N, cout, cin), start, np.float32)
        bias = random.uniform(-0.5, 0.5, (TINY_N, cout, 1)).astype(np.float32)
        state[f"entropy_bottleneck.biases.{i}"] = bias
        if i < 4:
            state[f"entropy_bottleneck.factors.{i}"] = np.zeros((TINY_N, cout, 1), np.float32)
    quantiles = np.array([-20.0, 0.0, 20.0], np.float32) + random.uniform(-0.5, 0.5, (TINY_N, 1, 1)).astype(np.float32)
    state["entropy_bottleneck.quantiles"] = quantiles.astype(np.float32)
    return state


@pytest.fixture(scope="session")
def models_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory, fit for SLIC_MODELS, that holds the tiny model."""
    directory = tmp_path_factory.mktemp("models")
    export_model(directory / f"{TINY_NAME}.safetensors", tiny_state(), TINY_METADATA, force=False)
    return directory


@pytest.fixture(scope="session")
def tiny_model(models_directory: Path) -> Path:
    """The tiny model's file."""
    return models_directory / f"{TINY_NAME}.safetensors"


def photograph(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A synthetic picture with smooth areas, edges and texture: uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack(
        [rows * 1.3 + columns, 200 - columns * 0.7, 90 + 60 * np.sin(rows / 9.0) * np.cos(columns / 7.0)], 2
    )
    base[(rows // 16 + columns // 24) % 3 == 0] *= 0.6
    noisy: npt.NDArray[Any] = base + random.normal(0, 6, base.shape)
    pixels: npt.NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


def save_photographs(directory: Path, count: int, first_seed: int = 0, size: tuple[int, int] = (128, 192)) -> Path:
    """`count` PNG files in `directory`, each a photograph of another seed."""
    directory.mkdir(exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        Image.fromarray(photograph(*size, seed)).save(directory / f"{seed:03d}.png")
    return directory


@pytest.fixture(scope="session")
def photograph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five photographs."""
    return save_photographs(tmp_path_factory.mktemp("photographs"), 5)
