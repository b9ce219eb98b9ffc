"""Between the tensors that are trained on and the 8-bit pictures that people and real edits see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


def to_pixels(picture: Tensor) -> Pixels:
    """A float picture (3, h, w), clamped to [0, 1], as uint8 (h, w, 3)."""
    rounded = (picture.clamp(0, 1) * 255).round().byte()
    pixels: Pixels = np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())
    return pixels


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """uint8 (h, w, 3) as a float batch of one (1, 3, h, w) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None].float() / 255
