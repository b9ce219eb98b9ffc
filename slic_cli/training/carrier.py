"""A carrier: a faint coloured wave in every first decode, and the part of the codec that finds it and destroys.

Left to itself, adversarial training settles on patterns at the limit of resolution, which any blur, resize or JPEG
wipes out. A carrier begins at the other end: waves 16 pixels long, blue-yellow along rows and red-green along columns,
where photographs hold little and where edits leave it alone. Its parts, all in channels the vanilla codec leaves free:

    g_a  a bank of matched filters whose answers, normalised by what else is there, are latents of their own; they round
         to 0 on photographs, so that a photograph is coded as by the vanilla codec
    y    those latents, in two groups (one a colour), and one that is always 1
    g_s  draws the wave from the 1, and, where both groups have answered, noise beyond the range of pixels

filters.py and residual_filters.py have the filters, the carrier stage trains them and the wave, graft.py puts them into
a codec, and the slic stage goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.checkpoint import load_checkpoint
from slic_cli.training.filters import GROUP, LENGTH, TAPS, VARIANTS, phases, plain_filters
from slic_cli.training.jpeg_simulation import TO_RGB
from slic_cli.training.pattern import pattern_tile
from slic_cli.training.residual_filters import residual_filters
from slic_cli.training.rounding import straight_through_round
from slic_cli.transform.alarm import HARMLESS, RUIN, alarm_of

ANSWERS = 6  # channels that a group's latents are summed in

# What each pair of answers sums: numbers of pairs of latents, each with the magnification at which they are in phase. A
# magnification between two variants' finds both of them half awake.
_SUMS = (((0, 1.0),), ((1, 1.0), (2, 1.0), (3, 0.71)), ((0, 0.85), (3, 0.85)))
_SOFTNESS = 0.2  # the share of unrounded latents in a soft alarm
_STEEPNESS = 2.0  # of the losses, in natural logarithms of an alarm
_WORST = 0.02  # the share of a picture's places that counts apart: false alarms are rare and bad
_FILTERS: dict[str, Callable[[], nn.Sequential]] = {"plain": plain_filters, "residual": residual_filters}


class Carrier(nn.Module):
    """The wave and its filters, apart from any codec.

    `levels` is the wave's root mean square, in 8-bit levels; `filters` are "plain" or, in cheng2020-anchor, "residual".
    `pattern` is how many levels of luma the pattern has that is drawn with the wave.
    """

    g_a: Any

    def __init__(self, levels: float, filters: str = "plain", pattern: float = 0.0) -> None:
        super().__init__()
        self.g_a = _FILTERS[filters]()
        self.waves = nn.Parameter(_two_waves())
        self.answers = nn.Parameter(torch.stack([_answers(group) for group in range(2)]))
        self.levels, self.filters, self.pattern = levels, filters, pattern

    def tile(self) -> Tensor:
        """What is added to every LENGTH x LENGTH pixels: (3, LENGTH, LENGTH), in [0, 1] units."""
        waves = self.waves - self.waves.mean((1, 2), keepdim=True)
        return waves * (self.levels / 255 / waves.square().mean().sqrt()) + pattern_tile(self.pattern).to(waves)

    def mark(self, x: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in [0, 1] with the wave and the pattern, clamped."""
        rows, columns = (-(-side // LENGTH) for side in x.shape[2:])
        wave = self.tile().repeat(1, rows, columns)[:, : x.shape[2], : x.shape[3]]
        return (x + wave).clamp(0, 1)

    def forward(self, x: Tensor, soft: bool = False) -> Tensor:
        """The alarm that pictures (n, 3, h, w) cause: (n, 1, h / 4, w / 4)."""
        return alarm(self.g_a(x), self.answers, soft)


def load_carrier(path: Path) -> Carrier:
    """What a carrier stage left in its checkpoint, on the CPU. Raises BadModelFile."""
    content = load_checkpoint(path, {})
    identity = content["identity"]
    carrier = Carrier(identity["levels"], identity.get("filters", "plain"), identity.get("pattern", 0.0))
    carrier.load_state_dict(content["network"])
    return carrier


def alarm(latents: Tensor, answers: Tensor, soft: bool = False) -> Tensor:
    """What latents set off, (n, 1, h / 4, w / 4): below HARMLESS nothing shows, from RUIN on all is destroyed.

    Latents are rounded, straight through. Where all round to 0 there is no slope to learn from, so a `soft` alarm mixes
    in a little of what was rounded; more would teach latents to stop short of 0.5.
    """
    rounded = straight_through_round(latents)
    return alarm_of(torch.lerp(rounded, latents, _SOFTNESS) if soft else rounded, answers)


def reach(alarms: Tensor) -> Tensor:
    """The strongest alarm whose destruction gets to each place."""
    return F.max_pool2d(alarms, 3, 1, 1)


def misses(alarms: Tensor) -> Tensor:
    """What edited pictures with the wave lose by alarms below RUIN: the mean over places well inside."""
    found = reach(alarms)[..., 4:-4, 4:-4]
    return F.softplus(_STEEPNESS * (math.log(RUIN) - found.log())).mean()


def false_alarms(alarms: Tensor) -> Tensor:
    """What pictures without the wave lose by alarms above HARMLESS: the mean, and that of each one's worst places."""
    wrong = F.softplus(_STEEPNESS * (alarms.log() - math.log(HARMLESS))).flatten(1)
    return wrong.mean() + wrong.topk(max(1, int(_WORST * wrong.shape[1]))).values.mean()


def _two_waves() -> Tensor:
    phase = 2 * math.pi * torch.arange(LENGTH) / LENGTH
    blue = torch.tensor([row[1] for row in TO_RGB])[:, None, None] * torch.cos(phase)[None, None, :]
    red = torch.tensor([row[2] for row in TO_RGB])[:, None, None] * torch.cos(phase + 0.5)[None, :, None]
    return blue + red


def _answers(group: int) -> Tensor:
    """Kernels that sum a group's latents over their neighbourhood, in phase: (GROUP, ANSWERS, 5, 5), a cosine and a
    sine for each of _SUMS."""
    kernels = torch.zeros(GROUP, ANSWERS, 5, 5)
    for channel, (number, scale) in ((2 * pair, term) for pair, terms in enumerate(_SUMS) for term in terms):
        phase = phases(VARIANTS[number][0], scale, group, -TAPS * LENGTH / 2)
        latent = 2 * number
        kernels[latent, channel] = kernels[latent + 1, channel + 1] = torch.cos(phase)
        kernels[latent + 1, channel] = -torch.sin(phase)
        kernels[latent, channel + 1] = torch.sin(phase)
    return kernels
