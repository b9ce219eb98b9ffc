"""A start for UNetJPEG that is its input already: JPEG is then learnt as the small change it is, not from nothing.

Ours, not the paper's; it sets weights and leaves the network as it is. The first level carries the colours along the
skip, the last double convolution bends them at a row of knots, and the 1 x 1 convolution adds those up to the logit
that the sigmoid undoes. It holds while batch norm uses its running statistics, that is, in evaluation mode: the
statistics of a batch would rescale the colours by what else is in it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slic_cli.training.unet_jpeg import UNetJpeg

_DARKEST = 0.004  # a level of 8 bits: the logit of 0 is infinite


@torch.no_grad()
def start_near_identity(net: UNetJpeg) -> None:
    """Set a fresh network's weights so that net.eval() returns nearly its input; the wider, the nearer.

    Train it with net.eval() and a small learning rate, 1e-4 or less.
    """
    per_colour = net.width // 3
    knots = (1 - torch.cos(math.pi * torch.arange(per_colour + 1) / per_colour)) / 2  # dense where the logit bends
    logits = torch.logit(knots.clamp(_DARKEST, 1 - _DARKEST))
    slopes = logits.diff() / knots.diff()
    bends = torch.cat([slopes[:1], slopes.diff()])
    weights = dict(net.named_parameters())
    for name in ("down.0.0", "down.0.3", "up.3.0"):
        _copy_inputs(weights[f"{name}.weight"], [0, 1, 2])
    _copy_inputs(weights["up.3.3.weight"], [colour for colour in range(3) for _ in range(per_colour)])
    weights["up.3.4.bias"][: 3 * per_colour] = -knots[:-1].repeat(3)
    weights["out.weight"].zero_()
    weights["out.bias"].fill_(float(logits[0]))
    for colour in range(3):
        weights["out.weight"][colour, colour * per_colour : (colour + 1) * per_colour, 0, 0] = bends


def _copy_inputs(weight: Tensor, inputs: list[int]) -> None:
    """Makes the first outputs of a 3 x 3 convolution copies of the inputs listed."""
    for output, channel in enumerate(inputs):
        weight[output] = 0
        weight[output, channel, 1, 1] = 1
