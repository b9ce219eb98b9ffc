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
from slic_cli.model_file import load_tensors
from slic_cli.registry import DIFFERS_FROM, list_models, read_spec
from slic_cli.training.activity import activity_groups
from slic_cli.training.checkpoint import FORMAT
from slic_cli.training.codecs import new_codec
from slic_cli.training.hyperprior import LEAST_SPREAD, Arrays, Hyperprior
from slic_cli.training.initialisation import karhunen_loeve, start_entropy_model
from slic_cli.training.lapped_start import start_lapped
from slic_cli.training.minnen2018 import Minnen2018
from slic_cli.training.recipe import ModelTable, carrier_widths
from slic_cli.training.scale_transfer import transfer
from slic_cli.transform.edges import COLOUR, FILTER
from slic_cli.transform.minnen2018 import MAGNITUDES

KARHUNEN_LOEVE, LAPPED, PRETRAINED = "karhunen-loeve", "lapped", "pretrained"


def start_codec(codec: Hyperprior, start: str, model: ModelTable, crops: Sequence[Tensor]) -> None:
    """Give `codec`, on the CPU, the weights that `start` names; `crops` are floats (3, h, w) in [0, 1] of one size.

    `start` is "karhunen-loeve", "lapped", "pretrained" (needs the network once) or a path.
    mbt2018 takes a scale hyperprior, too, and begins with its rate. Raises MissingModel, BadModelFile.
    """
    if start == KARHUNEN_LOEVE:
        karhunen_loeve(codec, crops)
        return
    if start == LAPPED:
        _start_lapped(codec, crops)
        return
    arrays, gain = _pretrained(model) if start == PRETRAINED else _stored(codec, Path(start))
    hyperprior_alone = "context_prediction.weight" not in arrays and "g_s.0.weight" in arrays
    if hyperprior_alone and type(codec) is Minnen2018:
        _start_from_hyperprior(codec, arrays, gain or codec.gain, crops)
        return
    codec.load_folded(arrays, gain or codec.gain)
    if "spread" not in arrays:
        _measure_spread(codec, crops)


def _start_lapped(codec: Hyperprior, crops: Sequence[Tensor]) -> None:
    """Lapped transforms, and an entropy model whose hyper-latents hold the activity of latents that go together."""
    used = start_lapped(codec, torch.stack(list(crops)))
    y = _latents(codec, crops)
    codec.spread.copy_(_deviations(y).view(1, -1, 1, 1))
    magnitudes = (torch.stack(y) / codec.spread)[:, :used].abs()
    start_entropy_model(codec, used, activity_groups(magnitudes, codec.n // 16))


def _start_from_hyperprior(codec: Minnen2018, arrays: Arrays, gain: float, crops: Sequence[Tensor]) -> None:
    """All of a scale hyperprior, and means besides. A carrier's latents stay apart."""
    codec.load_transforms(arrays, gain)
    y = torch.stack(_latents(codec, crops))
    codec.spread.copy_(_deviations(list(y)).view(1, -1, 1, 1))
    own = slice(-carrier_widths(codec.architecture)[3], None)
    carried = bool((y[:, -1].round() == 1).all())  # the constant that a carrier draws its wave from
    if carried:
        codec.spread[:, own], y[:, own] = 1, 0
    trained = Hyperprior(codec.n, codec.m, gain, codec.widths)
    trained.load_folded({**arrays, "spread": np.asarray(codec.spread.flatten())}, gain)
    transfer(codec, trained, y)
    if carried:
        codec.isolate(own)


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


def path_of(start: str) -> str:
    """The file of a registered model, where `start` is the name of one."""
    return next((str(spec.path) for spec in list_models()[0] if spec.name == start), start)


def read_codec(path: Path) -> Hyperprior:
    """The codec in a model file, with the channels it uses alone. Raises BadModelFile."""
    arrays, gain = read_weights(path)
    m, n = arrays["g_a.6.weight"].shape[:2]
    codec = new_codec(read_spec(path).architecture, n, m, gain or 1.0, _widths_in_use(arrays))
    codec.load_folded({"spread": np.ones(codec.spread.numel(), np.float32), **arrays}, codec.gain)
    return codec


def _widths_in_use(arrays: Arrays) -> list[int]:
    """Up to the last channel of each analysis convolution that is not 0 for every picture."""
    residual = "g_a.0.gdn.beta" in arrays
    norms = [f"g_a.{2 * level}.gdn" if residual else f"g_a.{2 * level + 1}" for level in range(3)]
    normed = [arrays[f"{norm}.beta"] != 0 for norm in norms]
    coded = arrays["g_a.6.weight"].any((1, 2, 3)) | (arrays["g_a.6.bias"] != 0)
    return [int(np.flatnonzero(live)[-1]) + 1 for live in (*normed, coded)]


def _from_safetensors(path: Path) -> tuple[Arrays, float | None]:
    try:
        with safetensors.safe_open(path, "np") as file:
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise BadModelFile(f"{path}: expected a safetensors file, got: {error}") from error
    if DIFFERS_FROM in metadata:
        arrays = load_tensors(read_spec(path))
    kept = {"spread": "training.spread", "edge_filter": FILTER, "edge_colour": COLOUR, "hyper_magnitudes": MAGNITUDES}
    for own, name in kept.items():
        if name in arrays:
            arrays[own] = arrays[name]
    return arrays, float(metadata["gain"]) if "gain" in metadata else None


def _from_compressai(state: Mapping[str, Any]) -> Arrays:
    from compressai.zoo.pretrained import load_pretrained

    plain = {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    return {name: np.asarray(value.float()) for name, value in load_pretrained(plain).items()}


def _pretrained(model: ModelTable) -> tuple[Arrays, None]:
    from compressai import zoo

    try:
        net = getattr(zoo, model.architecture.replace("-", "_"))(model.quality, metric="mse", pretrained=True)
    except OSError as error:  # URLError is one
        raise MissingModel(f"expected to download CompressAI's weights, got: {error}; give a path instead") from error
    except ValueError as error:  # cheng2020-anchor ends at quality 6
        raise MissingModel(f"expected a quality that CompressAI has weights of, got {model.quality}") from error
    return _from_compressai(net.state_dict()), None


def _stored(codec: Hyperprior, path: Path) -> tuple[Arrays, float | None]:
    return _read_own(codec, path) if path.suffix == ".ckpt" else read_weights(path)


def _read_own(codec: Hyperprior, path: Path) -> tuple[Arrays, float]:
    """Plain weights of this project's checkpoint of a codec of any architecture with the N and M of `codec`."""
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
    trained = new_codec(identity["architecture"], *expected, identity["gain"], identity.get("widths"))
    trained.load_state_dict(content["network"])
    return trained.folded(), trained.gain


@torch.no_grad()
def _latents(codec: Hyperprior, crops: Sequence[Tensor]) -> list[Tensor]:
    return [codec.analyse(crop[None])[0] for crop in crops]


def _deviations(y: Sequence[Tensor]) -> Tensor:
    squares = torch.stack([latents.square().mean((1, 2)) for latents in y])
    return squares.mean(0).sqrt().clamp(min=LEAST_SPREAD)


def _measure_spread(codec: Hyperprior, crops: Sequence[Tensor]) -> None:
    """The latents' deviation per channel; the codec computes the same with any, it only learns at another pace."""
    folded, gain = codec.folded(), codec.gain
    spread = np.asarray(_deviations(_latents(codec, crops)))
    codec.load_folded(folded | {"spread": spread}, gain)
