"""Quiet channels get louder, and the codec stays what it was."""

from __future__ import annotations

import pytest
import torch
from conftest import photograph
from torch import Tensor, nn

pytest.importorskip("compressai")

from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.pixels import to_tensor
from slic_cli.training.quiet_channels import wake

DEVIATION = 0.01


def started() -> tuple[Hyperprior, list[Tensor]]:
    torch.manual_seed(0)
    codec = Hyperprior(24, 64, best_gain(0.18)).eval()
    crops = [to_tensor(photograph(128, 128, seed), torch.device("cpu"))[0] for seed in range(4)]
    karhunen_loeve(codec, crops)
    return codec, crops


def deviations(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    found = []
    for layer in layers[:-1]:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append(x.std((0, 2, 3)))
    return found


@torch.no_grad()
def test_hidden_channels_reach_the_deviation_and_pictures_stay() -> None:
    codec, crops = started()
    x = torch.stack(crops)
    before = codec(x)
    quiet = deviations(codec.net.g_a, x)
    wake(codec, crops, DEVIATION)
    after = codec(x)
    latents = codec.decoded(codec.analyse(x)) / codec.gain
    loud = deviations(codec.net.g_a, x) + deviations(codec.net.g_s, latents)
    assert min(s.min() for s in quiet) < DEVIATION / 3
    assert min(s.min() for s in loud) == pytest.approx(DEVIATION, rel=0.05)
    assert (after.pictures - before.pictures).abs().max() < 1e-4
    assert after.bits.item() == pytest.approx(before.bits.item(), rel=1e-4)


@torch.no_grad()
def test_loud_channels_stay_as_they_are() -> None:
    codec, crops = started()
    wake(codec, crops, DEVIATION)
    once = {name: value.clone() for name, value in codec.state_dict().items()}
    wake(codec, crops, DEVIATION * 0.9)
    for name, value in codec.state_dict().items():
        torch.testing.assert_close(value, once[name], rtol=1e-5, atol=1e-7)
