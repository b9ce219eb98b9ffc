"""Dependent rounding in training: what files hold, and gradients as if nothing had been rounded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("compressai")

from slic_cli.training.hyperprior import Prior
from slic_cli.training.trellis_rounding import TrellisRounding


def latents(scale: float) -> Tensor:
    torch.manual_seed(3)
    return scale * torch.randn(4, 8, 16, 16)


def prior(y: Tensor, scale: float, means: Tensor | None = None) -> Prior:
    return Prior(torch.full_like(y, scale), means, torch.zeros(()))


def test_latents_are_whole_units_and_nearer_than_those_of_one_quantiser() -> None:
    y = latents(6.0)
    left = TrellisRounding(8)(prior(y, 6.0), y)
    units = left * 64 / 43
    torch.testing.assert_close(units, units.round(), atol=1e-3, rtol=0)
    assert (units.round() % 2 == 1).any()
    assert (left - y).square().mean() < 0.8 * (2 * 43 / 64) ** 2 / 12


def test_small_latents_are_0() -> None:
    y = latents(0.1)
    assert not TrellisRounding(8)(prior(y, 0.11), y).any()


def test_offsets_from_means_are_what_is_rounded() -> None:
    y = latents(6.0)
    means = torch.full_like(y, 0.3)
    rounding = TrellisRounding(8)
    torch.testing.assert_close(rounding(prior(y, 6.0, means), y + means), rounding(prior(y, 6.0), y) + means)


def test_gradients_pass_to_latents_alone() -> None:
    y, scales = latents(2.0).requires_grad_(), torch.full((4, 8, 16, 16), 2.0, requires_grad=True)
    torch.autograd.backward(TrellisRounding(8)(Prior(scales, None, torch.zeros(())), y).square().sum())
    assert y.grad is not None and scales.grad is None
    torch.testing.assert_close(y.grad, 2 * TrellisRounding(8)(prior(y, 2.0), y).detach())
