"""What each stage minimises: modules from a batch of crops to a loss and the figures worth watching."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.training.attacker import Attacker
from slic_cli.training.carrier import false_alarms, misses
from slic_cli.training.graft import grafted_alarm
from slic_cli.training.hyperprior import Coded, Hyperprior
from slic_cli.training.recipe import BaseTable, SlicTable
from slic_cli.training.rounding import to_eight_bits
from slic_cli.training.trellis_rounding import TrellisRounding

Figures = dict[str, Tensor]
_NEARLY_EQUAL = 1e-5  # the distance at which -log stops growing


@dataclass(frozen=True)
class Terms:
    """A step's `loss`, to be minimised, and its `figures`, detached scalars."""

    loss: Tensor
    figures: Figures


def rate_distortion(coded: Coded, x: Tensor, rate_weight: float) -> Terms:
    """R + lambda 255^2 MSE, R in bits per pixel (Balle et al. 2018, eq. 8; CompressAI's units)."""
    bpp = coded.bits / (x.shape[0] * x.shape[2] * x.shape[3])
    mse = F.mse_loss(coded.pictures, x)
    return Terms(bpp + rate_weight * 255**2 * mse, {"bpp": bpp.detach(), "mse": mse.detach()})


def _with_quantiles(codec: Hyperprior, loss: Tensor, figures: Figures) -> Terms:
    """The prior's quantiles learn beside everything else; what is watched is the loss without them."""
    return Terms(loss + codec.quantile_loss(), {"loss": loss.detach(), **figures})


class BaseObjective(nn.Module):
    """The vanilla codec."""

    def __init__(self, codec: Hyperprior, table: BaseTable, rate_weight: float) -> None:
        super().__init__()
        self.codec, self.table, self.rate_weight = codec, table, rate_weight
        self._trellis = TrellisRounding(codec.widths[3]) if table.trellis_share else None

    def forward(self, x: Tensor, draw: random.Random, progress: float) -> Terms:
        """Terms for crops (n, 3, h, w) in [0, 1] at `progress`, 0 to 1, of the stage."""
        del draw
        terms = rate_distortion(self._code(x, progress), x, self.rate_weight)
        return _with_quantiles(self.codec, terms.loss, terms.figures)

    def _code(self, x: Tensor, progress: float) -> Coded:
        table = self.table
        if self._trellis and progress >= 1 - table.trellis_share:
            coded: Coded = self.codec(x, rounding=self._trellis)
        else:
            coded = self.codec(x, progress < table.noisy_share)
        return coded


class EntropyObjective(nn.Module):
    """The rate alone, of a codec whose transforms stay as they are."""

    def __init__(self, codec: Hyperprior) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, x: Tensor, draw: random.Random, progress: float) -> Terms:
        """Terms for crops (n, 3, h, w) in [0, 1]."""
        del draw, progress
        with torch.no_grad():
            y = self.codec.analyse(x)
        bits, _, _ = self.codec.code(y)
        bpp = bits / (x.shape[0] * x.shape[2] * x.shape[3])
        return _with_quantiles(self.codec, bpp, {"bpp": bpp.detach()})


class SlicObjective(nn.Module):
    """The codec that destroys its own output: equations 5 and 6 of Huang & Wu 2025.

    R + lambda D + alpha [relu(tau - d(x1, x2)) + relu(tau - d(u(x1), codec(u(x1))))], x1 the 8-bit first decode, u a
    drawn edit. Distances count in units of tau, so that one alpha fits all metrics. Both decodes are rounded straight
    through, so that what is learnt survives a file. A codec with a carrier also has the carrier's losses.
    """

    def __init__(
        self, codec: Hyperprior, distance: nn.Module, attacker: Attacker, table: SlicTable, weights: tuple[float, float]
    ) -> None:
        super().__init__()
        self.codec, self.distance, self.table = codec, distance, table
        self.attacker = attacker
        self.rate_weight, self.alpha = weights

    def forward(self, x: Tensor, draw: random.Random, progress: float) -> Terms:
        """Terms for crops (n, 3, h, w) in [0, 1] at `progress`, 0 to 1, of the stage."""
        coded = self.codec(x)
        terms = rate_distortion(coded, x, self.rate_weight)
        if not self.alpha:
            return _with_quantiles(self.codec, terms.loss, terms.figures)
        adversarial, distances = self._adversarial(coded, draw, progress)
        return _with_quantiles(self.codec, terms.loss + adversarial, terms.figures | distances)

    def _adversarial(self, coded: Coded, draw: random.Random, progress: float) -> tuple[Tensor, Figures]:
        """Both relu terms of equation 5, weighted, and the mean distance of the clean and of the edited pictures."""
        x1 = to_eight_bits(coded.pictures)
        edited = self.attacker(x1, draw)
        both = self.table.passes == "both"
        u = torch.cat([x1, edited.pictures]) if both else edited.pictures
        y = self.codec.analyse(u)
        again = self.codec.synthesise(self.codec.decoded(y)).clamp(0, 1)
        distances = self.distance(*self._windows(u, again, draw))
        terms = self._term(distances, progress)
        figures = {f"d_{name}": d.mean().detach() for name, d in edited.by_name(distances[-len(x1) :])}
        if both:
            clean = len(x1)
            figures["d_clean"] = distances[:clean].mean().detach()
            total = terms[:clean].mean() + terms[clean:].mean()
        else:
            total = 2 * terms.mean()
        return self.alpha * total + self._carried(coded.latents, y, figures), figures

    def _carried(self, plain: Tensor, marked: Tensor, figures: Figures) -> Tensor | float:
        """The carrier's own losses, on photographs and on their edited first decodes."""
        if not self.table.carrier:
            return 0.0
        missed, wrong = (
            misses(grafted_alarm(self.codec, marked, soft=True)),
            false_alarms(grafted_alarm(self.codec, plain)),
        )
        figures |= {"missed": missed.detach(), "wrong": wrong.detach()}
        return self.table.carrier * (missed + self.table.caution * wrong)

    def _windows(self, x: Tensor, y: Tensor, draw: random.Random) -> tuple[Tensor, Tensor]:
        size = self.table.window
        if not 0 < size < min(x.shape[2:]):
            return x, y
        top, left = (draw.randint(0, side - size) for side in x.shape[2:])
        part = (..., slice(top, top + size), slice(left, left + size))
        return x[part], y[part]

    def _term(self, distances: Tensor, progress: float) -> Tensor:
        """Equation 6 over tau; at first -log, because relu(1 - d / tau) has almost no gradient while d is near 0."""
        shares = distances / self.table.margin
        if progress < self.table.log_share:
            return self.table.log_weight * F.relu(-torch.log(shares + _NEARLY_EQUAL))
        return F.relu(1 - shares)
