"""Norms in units of their activations, and quiet channels that get louder: the codec stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import photograph
from torch import Tensor, nn

pytest.importorskip("compressai")

from slic_cli.training.codecs import new_codec
from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.norms import UnitGDN, set_units, wake
from slic_cli.training.pixels import to_tensor

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


@torch.no_grad()
def test_a_norm_with_units_is_compressais() -> None:
    from compressai.layers import GDN

    for inverse in (False, True):
        x, plain, own = torch.randn(2, 6, 8, 8), GDN(6, inverse=inverse), UnitGDN(GDN(6, inverse=inverse))
        plain.gamma.copy_(plain.gamma_reparam.init(0.1 + torch.rand(6, 6)))
        own.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(own(x), plain(x))
        own.set_unit(x * 0.05)
        assert own.unit.min() > 5
        torch.testing.assert_close(own(x), plain(x))


@torch.no_grad()
def test_units_change_little_but_the_pace() -> None:
    codec, crops = started()
    x = torch.stack(crops)
    before = codec(x).pictures
    set_units(codec, crops)
    norm = codec.net.g_a[1]
    assert norm.gamma.min() >= 0.00199 and norm.unit.max() > 3 * norm.unit.min()
    assert (codec(x).pictures - before).square().mean() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior", "mbt2018"])
def test_units_are_folded_into_plain_weights(architecture: str) -> None:
    torch.manual_seed(0)
    crops = [to_tensor(photograph(64, 64, seed), torch.device("cpu"))[0] for seed in range(2)]
    codec, plain = (new_codec(architecture, 8, 12, 4.0, (6, 8, 8, 12)).eval() for _ in range(2))
    set_units(codec, crops)
    folded = codec.folded()
    assert not [name for name in folded if name.endswith("unit")]
    plain.load_folded(folded, 4.0)
    x = torch.stack(crops)
    torch.testing.assert_close(plain(x).pictures, codec(x).pictures, rtol=1e-4, atol=1e-5)
    again = plain.folded()
    for name in folded:
        np.testing.assert_allclose(again[name], folded[name], rtol=1e-5, atol=1e-7, err_msg=name)
