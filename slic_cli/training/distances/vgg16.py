"""VGG16's convolutions (Simonyan and Zisserman 2015) as a frozen extractor of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.distances.vgg16_weights import LAYERS, WIDTHS

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of R, G and B in [0, 1]
Pool = Callable[[Tensor], Tensor]


def max_pool(x: Tensor) -> Tensor:
    """The network's own halving."""
    return F.max_pool2d(x, 2)


class Vgg16(nn.Module):
    """Features after the first `blocks` of conv1_2, conv2_2, conv3_3, conv4_3 and conv5_3, each past its ReLU.

    `weights` are those of load_vgg16_weights; `pool` halves the maps between blocks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor], blocks: int = len(WIDTHS), pool: Pool = max_pool) -> None:
        super().__init__()
        self._depths = [len(block) for block in WIDTHS[:blocks]]
        self._pool = pool
        names = [f"features.{index}" for index, _, _ in LAYERS[: sum(self._depths)]]
        self.kernels = nn.ParameterList(_frozen(weights[f"{name}.weight"]) for name in names)
        self.biases = nn.ParameterList(_frozen(weights[f"{name}.bias"]) for name in names)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, 3, h, w) RGB in [0, 1] to features (n, c, h / 2^k, w / 2^k), channels_last.

        The convolutions, and so the type of the features, follow the caller's autocast.
        """
        t = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        layers = iter(zip(self.kernels, self.biases, strict=True))
        features = []
        for block, depth in enumerate(self._depths):
            t = self._pool(t) if block else t
            for _ in range(depth):
                kernel, bias = next(layers)
                t = F.relu_(F.conv2d(t, kernel, bias, padding=1))  # in place: no gradient needs what it overwrites
            features.append(t)
        return features


def _frozen(tensor: Tensor) -> nn.Parameter:
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return nn.Parameter(tensor.contiguous(memory_format=layout), requires_grad=False)
