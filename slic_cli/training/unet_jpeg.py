"""UNetJPEG, a network that imitates JPEG (Huang & Wu 2025, Table A1), its training step and its files.

A U-Net after Ronneberger et al. 2015: on RGB and a plane that holds the quality, double convolutions of 64, 128, 256
and 512 channels, 1024 at the bottom, and back up through bilinear upsampling joined with the skips, to RGB by a 1 x 1
convolution and a sigmoid.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from slic_cli.errors import BadModelFile
from slic_cli.files import write_atomically
from slic_cli.registry import read_header

UNET_FORMAT = "slic-unet-jpeg-1"
_UNIT = 16  # sides inside are multiples of this: four halvings
_MAX_WIDTH = 256


def _double_convolution(channels_in: int, channels: int) -> nn.Sequential:
    """3 x 3 convolution, batch norm and ReLU, twice."""
    layers: list[nn.Module] = []
    for inputs in (channels_in, channels):
        layers += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class UNetJpeg(nn.Module):
    """Table A1's network; `width` is its first number of channels, 64 in the paper, smaller for tests."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        channels = [width * factor for factor in (1, 2, 4, 8, 16)]
        inputs = [4, *channels[:-1]]
        self.down = nn.ModuleList(_double_convolution(a, b) for a, b in zip(inputs, channels, strict=True))
        self.up = nn.ModuleList(_double_convolution(3 * c, c) for c in channels[-2::-1])
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in [0, 1] of any size, as JPEG of `quality` (n,), 1 to 100, leaves them: the same."""
        height, width = x.shape[2:]
        plane = (quality.to(x) / 100).view(-1, 1, 1, 1).expand(-1, 1, height, width)
        padding = (0, -width % _UNIT, 0, -height % _UNIT)
        features = F.pad(torch.cat([x, plane], 1), padding, mode="replicate")
        skips: list[Tensor] = []
        for index, block in enumerate(self.down):
            features = block(F.max_pool2d(features, 2) if index else features)
            skips.append(features)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = block(torch.cat([skip, features], 1))
        return torch.sigmoid(self.out(features))[:, :, :height, :width]


def jpeg_pairs(x: Tensor, qualities: Sequence[int], chroma: str = "4:2:0") -> Tensor:
    """What Pillow's JPEG makes of pictures (n, 3, h, w) in [0, 1], each at its own quality: the same, no gradient."""
    pixels = (x.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    coded = []
    for picture, quality in zip(pixels, qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=chroma)
        coded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(coded)).to(x.device).permute(0, 3, 1, 2).to(x.dtype) / 255


def unet_jpeg_step(net: nn.Module, x: Tensor, draw: random.Random, quality_range: tuple[int, int]) -> Tensor:
    """The mean squared error of `net` on pictures (n, 3, h, w) in [0, 1] against the real encoder.

    Each picture gets a quality of its own from `quality_range`, both ends included. `net` is a UNetJpeg or wraps one.
    """
    qualities = [draw.randint(*quality_range) for _ in range(len(x))]
    target = jpeg_pairs(x, qualities)
    return F.mse_loss(net(x, torch.tensor(qualities, device=x.device)), target)


def save_unet(path: Path, net: UNetJpeg, metadata: Mapping[str, str], force: bool = True) -> None:
    """Write a network as safetensors, weights in half precision. Raises OutputError, OutputExists.

    The running statistics keep float32: nothing bounds them.
    """
    tensors = {
        name: (value.half() if name.endswith(("weight", "bias")) else value).detach().cpu().contiguous()
        for name, value in net.state_dict().items()
    }
    entries = {**metadata, "format": UNET_FORMAT, "width": str(net.width)}
    write_atomically(path, safetensors.torch.save(tensors, entries), force)


def load_unet(path: Path) -> UNetJpeg:
    """Read a network that save_unet wrote: float32, on the CPU, in evaluation mode. Raises BadModelFile."""
    width = _stored_width(path)
    net = UNetJpeg(width)
    try:
        net.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, safetensors.SafetensorError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BadModelFile(f"{path}: expected a UNetJPEG of width {width}, got: {reason}") from error
    return net.eval()


def _stored_width(path: Path) -> int:
    metadata = read_header(path)[0].get("__metadata__")
    entries = metadata if isinstance(metadata, dict) else {}
    if entries.get("format") != UNET_FORMAT:
        raise BadModelFile(f"{path}: expected a UNetJPEG ({UNET_FORMAT}), got format {entries.get('format')!r}")
    width = str(entries.get("width"))
    if not width.isdecimal() or not 1 <= int(width) <= _MAX_WIDTH:
        raise BadModelFile(f"{path}: expected a width from 1 to {_MAX_WIDTH}, got {width!r}")
    return int(width)
