"""Losses by hand: rate-distortion, equation 5 and 6 and the -log start."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("compressai")

from slic_cli.training.attacker import Attacker
from slic_cli.training.edits import make_edit
from slic_cli.training.hyperprior import Coded, Hyperprior
from slic_cli.training.objectives import BaseObjective, SlicObjective, rate_distortion
from slic_cli.training.recipe import BaseTable, SlicTable

LAMBDA = 0.013


class Fixed(nn.Module):
    """A distance that is always the same, so that the loss can be worked out by hand."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.seen: list[int] = []

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen.append(len(x))
        return (x - y).mean((1, 2, 3)) * 0 + self.value


def batch() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(4, 3, 64, 64)


def codec() -> Hyperprior:
    torch.manual_seed(0)
    return Hyperprior(8, 12, 3.0)


def slic_loss(distance: float, progress: float, alpha: float = 2.0, **settings: object) -> tuple[float, float]:
    """(loss beyond rate-distortion, pictures that the distance saw)."""
    table = SlicTable(steps=1, **settings)  # type: ignore[arg-type]
    fixed, own = Fixed(distance), codec()
    clean_share = 0.0 if table.passes == "both" else table.clean_share
    attacker = Attacker([make_edit({"name": "blur"})], clean_share, table.shift, 2)
    losses = []
    for weight in (0.0, alpha):
        objective = SlicObjective(own, fixed, attacker, table, (LAMBDA, weight))
        torch.manual_seed(5)
        losses.append(objective(batch(), random.Random(3), progress).figures["loss"].item())
    return losses[1] - losses[0], sum(fixed.seen)


def test_rate_distortion_by_hand() -> None:
    x = torch.zeros(2, 3, 64, 64)
    terms = rate_distortion(Coded(x + 0.1, torch.tensor(8192.0), torch.zeros(2, 12, 4, 4)), x, LAMBDA)
    assert terms.figures["bpp"].item() == 1.0
    assert terms.loss.item() == pytest.approx(1.0 + LAMBDA * 255**2 * 0.01, rel=1e-5)


@pytest.mark.parametrize(("distance", "term"), [(0.25, 0.75), (0.0, 1.0), (1.0, 0.0), (3.0, 0.0)])
def test_equation_6(distance: float, term: float) -> None:
    for passes in ("one", "both"):
        added, _ = slic_loss(distance, progress=0.9, passes=passes)
        assert added == pytest.approx(2.0 * 2 * term, abs=1e-3)


def test_tau_is_the_margin_and_the_unit() -> None:
    assert slic_loss(0.25, 0.9, tau=0.5)[0] == pytest.approx(2.0 * 2 * 0.5, abs=1e-3)
    assert slic_loss(0.6, 0.9, tau=0.5)[0] == pytest.approx(0.0, abs=1e-3)


def test_the_log_start() -> None:
    added, _ = slic_loss(0.25, progress=0.1, log_share=0.5, log_weight=0.4)
    assert added == pytest.approx(2.0 * 2 * 0.4 * -math.log(0.25), rel=1e-3)
    assert slic_loss(1.5, progress=0.1)[0] == pytest.approx(0.0, abs=1e-3)
    assert math.isfinite(slic_loss(0.0, progress=0.1)[0])


def test_one_or_both_passes() -> None:
    assert slic_loss(0.5, 0.9, passes="one")[1] == 4
    assert slic_loss(0.5, 0.9, passes="both")[1] == 8


def test_gradients_reach_analysis_and_synthesis() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x - y).square().mean((1, 2, 3))

    own = codec()
    attacker = Attacker([make_edit({"name": "jpeg"})], 0.5, 1.0, 2)
    objective = SlicObjective(own, Square(), attacker, SlicTable(steps=1), (0.0, 1.0))
    terms = objective(batch(), random.Random(0), 0.1)
    terms.loss.backward()
    for name in ("g_a.0.weight", "g_s.6.weight"):
        gradient = own.net.get_parameter(name).grad
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    assert set(terms.figures) == {"loss", "bpp", "mse", "d_clean", "d_jpeg"}


def test_base_trains_with_noise_first() -> None:
    own, x = codec(), batch()
    objective = BaseObjective(own, BaseTable(steps=1, noisy_share=0.7), LAMBDA)

    def mse(progress: float, seed: int) -> float:
        torch.manual_seed(seed)
        value: float = objective(x, random.Random(0), progress).figures["mse"].item()
        return value

    assert mse(0.1, 1) != mse(0.1, 2)
    assert mse(0.8, 1) == mse(0.8, 2)


def test_base_ends_with_what_encoders_leave() -> None:
    own, x = codec(), batch()

    def mse(trellis_share: float, progress: float) -> float:
        table = BaseTable(steps=1, noisy_share=0.0, trellis_share=trellis_share)
        value: float = BaseObjective(own, table, LAMBDA)(x, random.Random(0), progress).figures["mse"].item()
        return value

    assert mse(0.25, 0.7) == mse(0.0, 0.7) == mse(0.0, 0.8) != mse(0.25, 0.8)
