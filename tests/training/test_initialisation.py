"""Karhunen-Loeve initialisation: a codec that works before its first step."""

from __future__ import annotations

import pytest
import torch
from conftest import AUTOREGRESSIVE, photograph

pytest.importorskip("compressai")

from slic_cli.metrics import psnr_db
from slic_cli.training.codecs import CODECS, new_codec
from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.pixels import to_pixels, to_tensor

CPU = torch.device("cpu")


def first_decode_db(codec: Hyperprior) -> float:
    pixels = photograph(128, 128, seed=9)
    with torch.no_grad():
        return psnr_db(pixels, to_pixels(codec.eval()(to_tensor(pixels, CPU)).pictures[0]))


@pytest.mark.parametrize("architecture", CODECS)
def test_it_decodes_well_untrained(architecture: str) -> None:
    torch.manual_seed(0)
    random = new_codec(architecture, 64, 64, best_gain(0.18))
    torch.manual_seed(0)
    codec = new_codec(architecture, 64, 64, best_gain(0.18))
    karhunen_loeve(codec, [to_tensor(photograph(128, 128, seed), CPU)[0] for seed in range(4)])
    assert first_decode_db(codec) > first_decode_db(random) + 10


@torch.no_grad()
@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_a_context_model_starts_as_a_scale_hyperprior(architecture: str) -> None:
    bits = []
    for name in ("bmshj2018-hyperprior", architecture):
        torch.manual_seed(0)
        codec = new_codec(name, 64, 64, best_gain(0.18)).eval()
        karhunen_loeve(codec, [to_tensor(photograph(128, 128, seed), CPU)[0] for seed in range(4)])
        bits.append(codec.code(codec.analyse(to_tensor(photograph(128, 128, seed=9), CPU)))[0].item())
    assert bits[1] == pytest.approx(bits[0], rel=0.05)


def test_spread_is_the_latents_deviation() -> None:
    torch.manual_seed(0)
    codec = Hyperprior(12, 24, gain=10.0)
    crops = [to_tensor(photograph(128, 128, seed), CPU)[0] for seed in range(4)]
    karhunen_loeve(codec, crops)
    with torch.no_grad():
        y = codec.net.g_a(torch.stack(crops)) * codec.gain
    measured = y.square().mean((0, 2, 3)).sqrt()
    strong = codec.spread.flatten() > 1
    assert strong.sum() >= 3
    ratio = (measured / codec.spread.flatten())[strong]
    assert ratio.min() > 0.5 and ratio.max() < 2


def test_more_channels_than_axes() -> None:
    codec = Hyperprior(16, 400, gain=10.0)
    karhunen_loeve(codec, [to_tensor(photograph(64, 64), CPU)[0]])
    assert torch.isfinite(codec.spread).all() and (codec.spread >= 0.2).all()
