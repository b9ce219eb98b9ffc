"""The architectures there are: for each, the shapes of its tensors, its transforms and its entropy coder.

A new one takes a row here, a module of transform/ and a module of entropy/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from slic_cli.entropy import cheng2020, minnen2018
from slic_cli.entropy.as_read import autoregressive_as_read, hyperprior_as_read
from slic_cli.entropy.cheng2020 import Cheng2020Coder
from slic_cli.entropy.coder import SymbolWriter
from slic_cli.entropy.hyperprior import HyperpriorCoder
from slic_cli.entropy.latent_coder import LatentCoder
from slic_cli.entropy.minnen2018 import Minnen2018Coder
from slic_cli.errors import BadModelFile
from slic_cli.shapes import Shapes, anchor_shapes, hyperprior_shapes, joint_shapes
from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.cheng2020 import Cheng2020Transform
from slic_cli.transform.minnen2018 import Minnen2018Transform

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tensors = Mapping[str, npt.NDArray[Any]]


class Transform(Protocol):
    """g_a, h_a and g_s of one model on one device."""

    channels: int

    def analyse_rows(self, pixels: Tensor, start: int, stop: int) -> Tensor:
        """Latent rows [start, stop) of uint8 (rows, columns, 3), padded to whole latents: float32 (M, ..., columns)."""

    def part(self, latents: npt.NDArray[np.int64]) -> Transform:
        """One whose `analyse_rows` makes these latents alone, quicker."""

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y (M, rows, columns) to z (N, ceil(rows / 4), ceil(columns / 4)), float32."""

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Latents (M, rows, columns) to pixels: uint8 (16 rows, 16 columns, 3)."""


class Coder(Protocol):
    """The entropy model of one model."""

    latents: LatentCoder
    latents_dtype: np.dtype[Any]

    def encode_latents(
        self, y: Tensor, z: Tensor, writer: SymbolWriter | None = None
    ) -> tuple[bytes, npt.NDArray[Any]]:
        """One strip's real y and z to its payload, and to what `decode` makes of that; by way of `writer`, if given."""

    def decode(self, payload: bytes, rows: int, columns: int) -> npt.NDArray[Any]:
        """The decoded latents, (M, rows, columns) of `latents_dtype`. Raises BadSlicFile."""


@dataclass(frozen=True)
class Architecture:
    """What one architecture is made of. Both factories raise BadModelFile for tensors that they cannot use.

    `as_read` gives the weights of its integer networks as those read them, in float16.
    """

    shapes: Callable[[int, int], Shapes]
    transform: Callable[[Tensors, torch.device, torch.dtype], Transform]
    coder: Callable[[Tensors], Coder]
    as_read: Callable[[Tensors], dict[str, npt.NDArray[np.float16]]]


ARCHITECTURES = {
    "bmshj2018-hyperprior": Architecture(hyperprior_shapes, Balle2018Transform, HyperpriorCoder, hyperprior_as_read),
    "mbt2018": Architecture(
        joint_shapes, Minnen2018Transform, Minnen2018Coder, partial(autoregressive_as_read, layers=minnen2018.LAYERS)
    ),
    "cheng2020-anchor": Architecture(
        anchor_shapes, Cheng2020Transform, Cheng2020Coder, partial(autoregressive_as_read, layers=cheng2020.LAYERS)
    ),
}


def find_architecture(name: str) -> Architecture:
    """By its name in a model's metadata, which is that in CompressAI's zoo. Raises BadModelFile."""
    if name not in ARCHITECTURES:
        raise BadModelFile(f"expected one of the architectures {', '.join(ARCHITECTURES)}, got {name}")
    return ARCHITECTURES[name]
