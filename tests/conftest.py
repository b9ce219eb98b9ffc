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
from slic_cli.quantisation import quantise

State = dict[str, npt.NDArray[np.float32]]

TINY_N, TINY_M = 8, 12
TINY_NAME = "tiny-test-q1"
TINY_METADATA = {"architecture": "bmshj2018-hyperprior", "quality": "1", "metric": "none", "N": "8", "M": "12"}


def tiny_state(seed: int = 0) -> State:
    """A seeded random state dict under CompressAI's names, with latents of a few quantiser steps."""
    layers = _Layers(seed)
    n, m = TINY_N, TINY_M
    for index, (cin, cout) in enumerate([(3, n), (n, n), (n, n), (n, m)]):
        layers.add(f"g_a.{2 * index}", (cout, cin, 5, 5), 25 * cin, cout, 30.0 if index == 3 else 2.0)
    for index, (cin, cout) in enumerate([(m, n), (n, n), (n, n), (n, 3)]):
        layers.add(
            f"g_s.{2 * index}", (cin, cout, 5, 5), 7 * cin, cout, 0.1 if index == 0 else 1.0, 0.5 if index == 3 else 0.0
        )
    for transform in ("g_a", "g_s"):
        for index in (1, 3, 5):
            layers.add_norm(f"{transform}.{index}", n)
    layers.add("h_a.0", (n, m, 3, 3), 9 * m, n, 0.3)
    layers.add("h_a.2", (n, n, 5, 5), 25 * n, n)
    layers.add("h_a.4", (n, n, 5, 5), 25 * n, n, 3.0)
    layers.add("h_s.0", (n, n, 5, 5), 7 * n, n)
    layers.add("h_s.2", (n, n, 5, 5), 7 * n, n)
    layers.add("h_s.4", (m, n, 3, 3), 9 * n, m, 2.0, 4.0)
    return layers.state | _factorised_prior(layers.random)


def tiny_joint_state(seed: int = 0) -> State:
    """The same for mbt2018."""
    layers, n, m, wide = _Layers(seed + 1), TINY_N, TINY_M, TINY_M * 3 // 2
    layers.add("h_s.0", (n, m, 5, 5), 7 * n, m)
    layers.add("h_s.2", (m, wide, 5, 5), 7 * m, wide)
    layers.add("h_s.4", (2 * m, wide, 3, 3), 9 * wide, 2 * m)
    layers.add_context(m)
    return tiny_state(seed) | layers.state


def tiny_anchor_state(seed: int = 0) -> State:
    """The same for cheng2020-anchor, with TINY_N channels everywhere."""
    layers, n, wide = _Layers(seed + 2), TINY_N, TINY_N * 3 // 2
    for index in range(6):
        cin = 3 if index == 0 else n
        layers.add3(f"g_a.{index}.conv1", cin, n)
        layers.add3(f"g_a.{index}.conv2", n, n)
        if index % 2 == 0:
            layers.add(f"g_a.{index}.skip", (n, cin, 1, 1), cin, n)
            layers.add_norm(f"g_a.{index}.gdn", n)
    layers.add3("g_a.6", n, n, 12.0)
    for index in range(7):
        names = ("conv1", "conv2") if index % 2 == 0 else ("conv",)
        for name in names:
            layers.add3(f"g_s.{index}.{name}", n, n, 0.2 if index == 0 else 0.7)
        if index % 2:
            layers.add_norm(f"g_s.{index}.igdn", n)
            layers.add3(f"g_s.{index}.subpel_conv.0", n, 4 * n, 0.7)
            layers.add3(f"g_s.{index}.upsample.0", n, 4 * n, 0.7)
    layers.add3("g_s.7.0", n, 12, 0.03, 0.5)
    for index in range(5):
        layers.add3(f"h_a.{2 * index}", n, n, 3.0 if index == 4 else 1.0)
    sides = {"h_s.0": (n, n), "h_s.2.0": (n, 4 * n), "h_s.4": (n, wide), "h_s.6.0": (wide, 4 * wide)}
    for name, (cin, cout) in (sides | {"h_s.8": (wide, 2 * n)}).items():
        layers.add3(name, cin, cout)
    layers.add_context(n)
    return layers.state | _factorised_prior(layers.random)


TINY_STATES = {
    "bmshj2018-hyperprior": tiny_state,
    "mbt2018": tiny_joint_state,
    "cheng2020-anchor": tiny_anchor_state,
}
AUTOREGRESSIVE = ("mbt2018", "cheng2020-anchor")


class _Layers:
    """A state dict in the making."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.state: State = {}

    def add(
        self, name: str, shape: tuple[int, ...], fan_in: int, outputs: int, gain: float = 1.0, bias: float = 0.0
    ) -> None:
        weight = self.random.standard_normal(shape) * gain / fan_in**0.5
        self.state[f"{name}.weight"] = weight.astype(np.float32)
        self.state[f"{name}.bias"] = (bias + 0.1 * self.random.standard_normal(outputs)).astype(np.float32)

    def add3(self, name: str, cin: int, cout: int, gain: float = 1.0, bias: float = 0.0) -> None:
        """A convolution of 3 x 3."""
        self.add(name, (cout, cin, 3, 3), 9 * cin, cout, gain, bias)

    def add_norm(self, name: str, n: int) -> None:
        self.state[f"{name}.beta"] = np.ones(n, np.float32)
        self.state[f"{name}.gamma"] = np.sqrt(0.1 * np.eye(n) + 2.0**-36).astype(np.float32)

    def add_context(self, m: int) -> None:
        """Scales around 4 and means of a few steps, both of which the context moves."""
        self.add("context_prediction", (2 * m, m, 5, 5), 12 * m, 2 * m, 0.3)
        widths = [m * 12 // 3, m * 10 // 3, m * 8 // 3, m * 6 // 3]
        for index, (cin, cout) in enumerate(itertools.pairwise(widths)):
            self.add(f"entropy_parameters.{2 * index}", (cout, cin, 1, 1), cin, cout)
        self.state["entropy_parameters.4.bias"][:m] += 4.0


def _factorised_prior(random: np.random.Generator) -> State:
    """The entropy bottleneck as CompressAI initialises it, with medians off the integer grid."""
    widths: tuple[int, ...] = (1, 3, 3, 3, 3, 1)
    state: State = {}
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


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each architecture."""
    directory = tmp_path_factory.mktemp("architectures")
    paths = {name: directory / f"tiny-{name}.safetensors" for name in TINY_STATES}
    for name, path in paths.items():
        export_model(path, TINY_STATES[name](), TINY_METADATA | {"architecture": name}, force=False)
    return paths


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


def round_plainly(monkeypatch: pytest.MonkeyPatch, coder: Any) -> None:
    """Make an entropy coder spare no bits, so that what it writes are the nearest integers."""
    monkeypatch.setattr(coder.latents, "quantise", lambda latents, _indices: quantise(latents))
