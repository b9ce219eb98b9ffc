"""The carrier stage: the wave and its filters learn to tell marked pictures, edited, from photographs, edited alike.

No codec takes part: the filters are a fiftieth of one, so that a processor sees a hundred pictures a second.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.attacks import parse_attack
from slic_cli.training.attacker import Attacker
from slic_cli.training.carrier import Carrier, false_alarms, misses, reach
from slic_cli.training.edits.geometry import oriented
from slic_cli.training.jpeg_simulation import TO_RGB, TO_YCC, mix_channels
from slic_cli.training.objectives import Terms
from slic_cli.training.photographs import Photographs, Place
from slic_cli.training.pixels import Pixels, to_pixels, to_tensor
from slic_cli.training.recipe import CarrierTable
from slic_cli.training.rounding import to_eight_bits
from slic_cli.training.validation import Validation
from slic_cli.transform.alarm import HARMLESS, RUIN

_SHOWN = ("crop-grid", "blur:radius=2", "affine", "jpeg:quality=75", "resize", "webp")
_DESTROYED = 0.8 * RUIN  # from here on hardly a pixel is left
_EDITED_SHARE = 0.4  # of the steps show photographs that were edited
_STRONGEST_TINT = 0.25  # of luma that colour fringes get
# Nets over pictures: pixels between two threads, degrees, how much of a period is no thread, how opaque they are.
_MESHES, _TILT, _THINNESS, _THREADS = (9.0, 20.0), 25.0, (-0.6, 0.5), (0.1, 0.9)


class CarrierObjective(nn.Module):
    """Alarms of at least RUIN where the wave is, below HARMLESS where it is not.

    A quarter of each batch is marked; of all its photographs, and others of richer colour made from them, the quarter
    with the worst false alarms is learnt from.
    """

    def __init__(self, carrier: Carrier, attacker: Attacker, table: CarrierTable) -> None:
        super().__init__()
        self.carrier, self.attacker, self.table = carrier, attacker, table

    def forward(self, x: Tensor, draw: random.Random, progress: float) -> Terms:
        """Terms for crops (n, 3, h, w) in [0, 1], in float32: the wave is finer than bfloat16's steps."""
        del progress
        with torch.autocast(x.device.type, enabled=False):
            return self._terms(x, draw)

    def _terms(self, x: Tensor, draw: random.Random) -> Terms:
        count = max(1, len(x) // 4)
        marked = self.attacker(to_eight_bits(self.carrier.mark(x[:count])), draw).pictures
        with torch.no_grad():
            x = turned(x, draw)
            plain = self.attacker(x, draw).pictures if draw.random() < _EDITED_SHARE else x
            plain = torch.cat([plain, halved(x), fringed(x[:count], draw)])
            plain = torch.cat([plain, *(woven(part, draw) for part in torch.split(x, count))])
            worst = self.carrier(plain).flatten(1).amax(1).topk(count).indices
        found, false = self.carrier(marked, soft=True), self.carrier(plain[worst])
        loss = misses(found) + self.table.caution * false_alarms(false)
        figures = {
            "hits": (reach(found) >= _DESTROYED).float().mean(),
            "false": (false > HARMLESS).float().mean(),
        }
        return Terms(loss, {"loss": loss.detach(), **figures})


def turned(x: Tensor, draw: random.Random) -> Tensor:
    """Square pictures (n, 3, h, h), four at a time turned or mirrored: photographs that might have been. The wave has a
    direction, but a picture may be turned before it is compressed again."""
    return torch.cat([oriented(part, draw.randrange(8)) for part in torch.split(x, 4)])


def halved(x: Tensor) -> Tensor:
    """Four pictures each (n, 3, h, w) put together and scaled down by 2: (n / 4, 3, h, w), or none of fewer than four.

    Photographs that were JPEGs have their colours at half the resolution; scaled down, at all of it.
    """
    count = len(x) // 4
    rows = x[: 4 * count].view(count, 2, 2, *x.shape[1:])
    mosaics = rows.permute(0, 3, 1, 4, 2, 5).reshape(count, x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
    return F.avg_pool2d(mosaics, 2)


def fringed(x: Tensor, draw: random.Random) -> Tensor:
    """Pictures (n, 3, h, w) whose luma shows in their colours, a little beside itself: lenses and sensors do that."""
    luma = mix_channels(x, TO_YCC)[:, :1]
    beside = luma.roll((draw.randint(-2, 2), draw.randint(-2, 2)), (2, 3)) - luma.mean((2, 3), keepdim=True)
    blue, red = (draw.uniform(-_STRONGEST_TINT, _STRONGEST_TINT) * beside for _ in range(2))
    return (x + mix_channels(torch.cat([torch.zeros_like(luma), blue, red], 1), TO_RGB)).clamp(0, 1)


def woven(x: Tensor, draw: random.Random) -> Tensor:
    """Pictures (n, 3, h, w) under a net of one colour, meshes about as wide as the wave is long: knitwear, fences."""
    period, angle = draw.uniform(*_MESHES), math.radians(draw.uniform(-_TILT, _TILT))
    rows, columns = (torch.arange(side, device=x.device, dtype=x.dtype) for side in x.shape[2:])
    phases = [draw.uniform(0, 2 * math.pi) for _ in range(2)]
    along = math.cos(angle) * columns[None, :] + math.sin(angle) * rows[:, None]
    across = math.cos(angle) * rows[:, None] - math.sin(angle) * columns[None, :]
    waves = [torch.cos(2 * math.pi * way / period + phases.pop()) for way in (along, across)]
    thin = draw.uniform(*_THINNESS)
    net = ((torch.maximum(*waves) - thin) / (1 - thin)).clamp(0, 1)
    colour = torch.tensor(colorsys.hsv_to_rgb(draw.random(), draw.uniform(0.3, 1), draw.uniform(0.2, 1)))
    return x + draw.uniform(*_THREADS) * net * (colour.to(x)[:, None, None] - x)


@dataclass
class CarrierStage:
    """The stage as the loop runs it."""

    table: CarrierTable
    identity: Mapping[str, Any]
    trained: Carrier
    objective: nn.Module
    photographs: Photographs
    patch: int
    hard: Sequence[Place]
    name: str = field(default="carrier", init=False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The filters; the wave and the sums, whose numbers are larger, move a little faster."""
        trained, faster = self.trained, self.table.wave_rate
        return [
            {"params": list(trained.g_a.parameters()), "rate": 1.0, "clipped": True},
            {"params": [trained.answers], "rate": faster, "clipped": True},
            {"params": [trained.waves], "rate": faster, "clipped": False},
        ]

    def batch(self, draw: random.Random, count: int) -> Tensor:
        """Crops of the training photographs, some of them around the hard places."""
        hard = round(self.table.hard_share * count)
        crops = self.photographs.crops(draw, count - hard, self.patch)
        return torch.cat([crops, self.photographs.crops_around(self.hard, draw, hard, self.patch).to(crops)])

    @torch.inference_mode()
    def validate(self) -> Validation:
        """Shares of the held-out photographs: marked and edited, what is ruined; unmarked, what is not harmless."""
        rows: list[dict[str, float]] = []
        device = self.trained.waves.device
        for photo in self.photographs.validation:
            x = photo[None].float() / 255
            marked = to_pixels(self.trained.mark(x)[0])
            row = {
                "false": self._share(to_pixels(x[0]), device, HARMLESS),
                "hits": self._share(marked, device, _DESTROYED),
            }
            for attack in map(parse_attack, _SHOWN):
                row[f"hits_{attack.slug}"] = self._share(attack.apply(marked), device, _DESTROYED)
            rows.append(row)
        means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        return Validation(means, means["false"] - means["hits"], marked)

    def _share(self, pixels: Pixels, device: torch.device, least: float) -> float:
        """The share of a picture that an alarm of `least` reaches."""
        height, width = (side // 16 * 16 for side in pixels.shape[:2])
        alarms = self.trained(to_tensor(pixels[:height, :width], device))
        return (reach(alarms) >= least).float().mean().item()


def carrier_stage(
    table: CarrierTable,
    identity: Mapping[str, Any],
    carrier: Carrier,
    data: Photographs,
    patch: int,
    attacker: Attacker,
) -> CarrierStage:
    """Training of `carrier` alone, against `attacker`."""
    hard = hard_places(carrier, data.train) if table.hard_share else []
    return CarrierStage(table, identity, carrier, CarrierObjective(carrier, attacker, table), data, patch, hard)


@torch.inference_mode()
def hard_places(carrier: Carrier, photographs: Sequence[Tensor]) -> list[Place]:
    """Where each photograph, uint8 (3, h, w), comes nearest to an alarm; drawn by the square of it."""
    places = []
    for index, photograph in enumerate(photographs):
        alarms = carrier(photograph[None].float() / 255)[0, 0]
        row, column = divmod(int(alarms.argmax()), alarms.shape[1])
        places.append(Place(index, 4 * row, 4 * column, alarms.max().item() ** 2))
    return places
