"""Differentiable simulations of JPEG as coders of Table A2: what each makes of a photograph, beside the real file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slic_cli.registry import read_header, weights_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Simulation = Callable[[Pixels, int], Pixels]  # a picture and a quality from 1 to 100 to a picture of the same shape

QUALITIES = (95, 85, 75, 50)
_PREFIX = "simulated-jpeg:"
_STRAIGHT_THROUGH, _CUBIC, _UNET, _NOTHING = "straight-through", "cubic", "unet", "nothing"
_LABELS = {
    _STRAIGHT_THROUGH: "straight-through rounding", _CUBIC: "cubic rounding", _UNET: "UNetJPEG", _NOTHING: "no JPEG",
}  # fmt: skip


def coders(unet: Path | None) -> tuple[str, ...]:
    """The texts by which jobs name the simulations; that of UNetJPEG holds the digest of its weights.

    The last leaves photographs as they are: what the others have to beat. Raises BadModelFile.
    """
    learned = [f"{_UNET}={_digest(unet)}"] if unet else []
    return tuple(_PREFIX + name for name in (_STRAIGHT_THROUGH, _CUBIC, *learned, _NOTHING))


def _digest(path: Path) -> str:
    header, start = read_header(path)
    return weights_digest(header, memoryview(path.read_bytes())[start:])


def label(coder: str) -> str:
    """The simulation's name for people."""
    return _LABELS[_kind(coder)]


def _kind(coder: str) -> str:
    return coder.removeprefix(_PREFIX).partition("=")[0]


def load_simulations(coders: Sequence[str], unet: Path | None, device: torch.device) -> dict[str, Simulation]:
    """The simulations by coder, on uint8 (H, W, 3) of any size, chroma 4:2:0. Raises BadModelFile."""
    functions = _functions(unet if any(_kind(coder) == _UNET for coder in coders) else None, device)
    return {coder: partial(_on_pixels, functions[_kind(coder)], device) for coder in coders}


def _functions(unet: Path | None, device: torch.device) -> Mapping[str, Callable[[Tensor, int], Tensor]]:
    """By kind, on (1, 3, H, W) in [0, 1]; each fills the picture up to whole blocks with its edge and cuts them off."""
    import torch

    from slic_cli.training.jpeg_simulation import cubic_round, simulate_jpeg
    from slic_cli.training.rounding import straight_through_round
    from slic_cli.training.unet_jpeg import load_unet

    functions: dict[str, Callable[[Tensor, int], Tensor]] = {
        _STRAIGHT_THROUGH: partial(simulate_jpeg, rounding=straight_through_round),
        _CUBIC: partial(simulate_jpeg, rounding=cubic_round),
        _NOTHING: lambda x, _quality: x,
    }
    if unet:
        net = load_unet(unet).to(device)
        functions[_UNET] = lambda x, quality: net(x, torch.tensor([quality], device=device))
    return functions


def _on_pixels(simulate: Callable[[Tensor, int], Tensor], device: torch.device, pixels: Pixels, quality: int) -> Pixels:
    import torch

    from slic_cli.training.pixels import to_pixels, to_tensor

    with torch.no_grad():  # not inference_mode: the simulation keeps its tables, and training may want them later
        return to_pixels(simulate(to_tensor(pixels, device), quality)[0])
