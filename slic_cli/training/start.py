"""Weights to start from: this project's checkpoints and models, CompressAI's checkpoints, or its published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile, MissingModel
from slic_cli.training.checkpoint import FORMAT
from slic_cli.training.hyperprior import LEAST_SPREAD, Arrays, Hyperprior
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.recipe import ModelTable

KARHUNEN_LOEVE, PRETRAINED = "karhunen-loeve", "pretrained"


def start_codec(codec: Hyperprior, start: str, model: ModelTable, crops: Sequence[Tensor]) -> None:
    """Give `codec`, on the CPU, the weights that `start` names; `crops` are floats (3, h, w) in [0, 1].

    `start` is "karhunen-loeve", "pretrained" (needs the network once) or a path. Raises MissingModel, BadModelFile.
    """
    if start == KARHUNEN_LOEVE:
        karhunen_loeve(codec, crops)
        return
    if start != PRETRAINED and Path(start).suffix == ".ckpt":
        _load_own(codec, Path(start))
        return
    arrays, gain = _pretrained(model) if start == PRETRAINED else read_weights(Path(start))
    codec.load_folded(arrays, gain or codec.gain)
    if "spread" not in arrays:
        _measure_spread(codec, crops)


def read_weights(path: Path) -> tuple[Arrays, float | None]:
    """Plain CompressAI weights of a .safetensors or torch file, and the gain they were trained with, if it is said."""
    if not path.is_file():
        raise MissingModel(f"{path}: expected weights to start from, got no file there")
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its unzipper and unpickler raise
        raise BadModelFile(f"{path}: expected weights to start from, got a file that cannot be read as such") from error
    if not isinstance(content, dict):
        raise BadModelFile(f"{path}: expected a state dict, got {type(content).__name__}")
    return _from_compressai(content.get("state_dict", content)), None


def _from_safetensors(path: Path) -> tuple[Arrays, float | None]:
    try:
        with safetensors.safe_open(path, "np") as file:
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise BadModelFile(f"{path}: expected a safetensors file, got: {error}") from error
    if "training.spread" in arrays:
        arrays["spread"] = arrays["training.spread"]
    return arrays, float(metadata["gain"]) if "gain" in metadata else None


def _from_compressai(state: Mapping[str, Any]) -> Arrays:
    from compressai.zoo.pretrained import load_pretrained

    plain = {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    return {name: np.asarray(value.float()) for name, value in load_pretrained(plain).items()}


def _pretrained(model: ModelTable) -> tuple[Arrays, None]:
    from compressai.zoo import bmshj2018_hyperprior

    try:
        net = bmshj2018_hyperprior(model.quality, metric="mse", pretrained=True)
    except OSError as error:  # URLError is one
        raise MissingModel(f"expected to download CompressAI's weights, got: {error}; give a path instead") from error
    return _from_compressai(net.state_dict()), None


def _load_own(codec: Hyperprior, path: Path) -> None:
    if not path.is_file():
        raise MissingModel(f"{path}: expected a checkpoint to start from, got no file there")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        right = content["format"] == FORMAT
    except Exception as error:
        raise BadModelFile(f"{path}: expected a checkpoint, got a file that cannot be read as one") from error
    expected = (codec.n, codec.m)
    got = tuple(content["identity"].get(key) for key in ("n", "m"))
    if not right or got != expected:
        raise BadModelFile(f"{path}: expected a checkpoint with N, M = {expected}, got {got}")
    identity = content["identity"]
    trained = Hyperprior(*expected, identity["gain"], identity.get("widths"))
    trained.load_state_dict(content["network"])
    codec.load_folded(trained.folded(), trained.gain)


@torch.no_grad()
def _measure_spread(codec: Hyperprior, crops: Sequence[Tensor]) -> None:
    """The latents' deviation per channel; the codec computes the same with any, it only learns at another pace."""
    folded, gain = codec.folded(), codec.gain
    squares = torch.stack([(codec.net.g_a(crop[None])[0] * gain).square().mean((1, 2)) for crop in crops])
    spread = squares.mean(0).sqrt().clamp(min=LEAST_SPREAD)
    codec.load_folded(folded | {"spread": np.asarray(spread)}, gain)
