"""mbt2018 and cheng2020-anchor in training: CompressAI's modules in other units, with the run time's rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import AUTOREGRESSIVE, TINY_STATES, photograph, tiny_state

pytest.importorskip("compressai")

from compressai.models import Cheng2020Anchor, JointAutoregressiveHierarchicalPriors

from slic_cli.errors import BadModelFile
from slic_cli.training.cheng2020 import Cheng2020
from slic_cli.training.codecs import new_codec
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.minnen2018 import Minnen2018
from slic_cli.training.pixels import to_tensor
from slic_cli.transform.trimming import trim_anchor

N, GAIN = 8, 5.0
CHANNELS = {"mbt2018": 12, "cheng2020-anchor": N}


def picture() -> torch.Tensor:
    return to_tensor(photograph(128, 192), torch.device("cpu"))


def normalised(architecture: str) -> Hyperprior:
    """The tiny state in normalised units with uneven spreads."""
    m = CHANNELS[architecture]
    codec = new_codec(architecture, N, m)
    spread = np.linspace(0.3, 7.0, m).astype(np.float32)
    codec.load_folded(TINY_STATES[architecture]() | {"spread": spread}, GAIN)
    return codec.eval()


def plain(architecture: str) -> Any:
    net = JointAutoregressiveHierarchicalPriors(N, 12) if architecture == "mbt2018" else Cheng2020Anchor(N)
    net.load_state_dict(net.state_dict() | {k: torch.from_numpy(v) for k, v in TINY_STATES[architecture]().items()})
    return net.eval()


def reference_latents(net: Any, x: torch.Tensor) -> torch.Tensor:
    """What CompressAI's modules make of x, rounded around the means."""
    y = net.g_a(x)
    z_hat, _ = net.entropy_bottleneck(net.h_a(y))
    context = net.context_prediction(y.round())
    _, means = net.entropy_parameters(torch.cat([net.h_s(z_hat), context], 1)).chunk(2, 1)
    return (y - means).round() + means


def nearly_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """A latent on the border between two integers may fall to either side, and takes its neighbourhood with it."""
    return bool(((a - b).abs() < 1e-3).float().mean() > 0.9)


@torch.no_grad()
@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_folding_changes_nothing(architecture: str) -> None:
    x, net = picture(), plain(architecture)
    coded = normalised(architecture)(x)
    bits = -sum(likelihoods.log2().sum() for likelihoods in net(x)["likelihoods"].values())
    assert coded.bits.item() == pytest.approx(float(bits), rel=1e-3)
    assert nearly_equal(coded.pictures, net.g_s(reference_latents(net, x)))


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_folded_weights_are_those_that_were_loaded(architecture: str) -> None:
    folded, original = normalised(architecture).folded(), TINY_STATES[architecture]()
    mask = np.ones((5, 5), np.float32)
    mask[2, 2:] = mask[3:] = 0
    original["context_prediction.weight"] *= mask
    for name, array in original.items():
        np.testing.assert_allclose(folded[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_recompression_is_a_second_pass(architecture: str) -> None:
    codec, x, net = normalised(architecture), picture().requires_grad_(), plain(architecture)
    again = codec.recompress(x)
    with torch.no_grad():
        assert nearly_equal(again, net.g_s(reference_latents(net, x)).clamp(0, 1))
    torch.autograd.backward(again.square().sum())
    assert x.grad is not None and x.grad.abs().sum() > 0 and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_every_weight_learns(architecture: str) -> None:
    codec = normalised(architecture).train().to(memory_format=torch.channels_last)
    coded = codec(picture())
    torch.autograd.backward(coded.bits / 1000 + coded.pictures.square().sum() + codec.quantile_loss())
    still = {name for name, p in codec.net.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still
    assert all(bool(torch.isfinite(p.grad).all()) for p in codec.net.parameters())


def test_narrow_transforms_fold_and_load() -> None:
    torch.manual_seed(0)
    narrow = Minnen2018(16, 24, GAIN, (4, 6, 8, 20)).eval()
    wide = Minnen2018(16, 24, GAIN).eval()
    wide.load_folded(narrow.folded(), GAIN)
    again = Minnen2018(16, 24, GAIN, (4, 6, 8, 20)).eval()
    again.load_folded(wide.folded(), GAIN)
    with torch.no_grad():
        coded, others = narrow(picture()), [codec(picture()) for codec in (wide, again)]
    for other in others:
        torch.testing.assert_close(other.pictures, coded.pictures, rtol=0, atol=1e-5)
    assert others[1].bits.item() == pytest.approx(coded.bits.item(), rel=1e-5)
    assert wide.fixed_means.isnan().sum() == 20  # what is not there stays 0
    with pytest.raises(BadModelFile, match=r"channels .* at most, got weights beyond them"):
        again.load_folded(Minnen2018(16, 24).folded(), GAIN)


def test_narrow_residual_transforms_fold_and_load() -> None:
    """The channels left out are those that `trim` finds: CompressAI's own network gives the same pictures."""
    torch.manual_seed(0)
    narrow = Cheng2020(8, 8, GAIN, (4, 5, 6, 7)).eval()
    net = Cheng2020Anchor(8).eval()
    folded = {name: torch.from_numpy(array) for name, array in narrow.folded().items() if name != "spread"}
    net.load_state_dict(net.state_dict() | folded)
    again = Cheng2020(8, 8, GAIN, (4, 5, 6, 7)).eval()
    again.load_folded(narrow.folded(), GAIN)
    with torch.no_grad():
        y = narrow.analyse(picture())
        all_latents = F.pad(y, (0, 0, 0, 0, 0, 1))
        torch.testing.assert_close(net.g_a(picture()), all_latents, rtol=1e-4, atol=1e-4)
        z_hat, _ = net.entropy_bottleneck(net.h_a(all_latents))
        seen = torch.cat([net.h_s(z_hat), net.context_prediction(all_latents.round())], 1)
        scales, means = (half[:, :7] for half in net.entropy_parameters(seen).chunk(2, 1))
        prior = narrow.prior(y, noisy=False)
        torch.testing.assert_close((prior.scales, prior.means), (scales, means), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(net.g_s(all_latents.round()), narrow.synthesise(y.round()), rtol=0, atol=1e-4)
        torch.testing.assert_close(again.synthesise(y.round()), narrow.synthesise(y.round()), rtol=0, atol=1e-5)
    assert trim_anchor(narrow.folded())["g_s.5.conv.weight"].shape == (4, 4, 3, 3)
    assert trim_anchor(narrow.folded())["g_a.4.conv2.weight"].shape == (6, 6, 3, 3)


def test_isolated_latents_stay_whole_numbers() -> None:
    codec = Minnen2018(16, 40, GAIN)
    codec.isolate(slice(-17, None))
    loaded = Minnen2018(16, 40, GAIN).eval()
    loaded.load_folded(codec.folded(), GAIN)
    torch.testing.assert_close(loaded.fixed_means, codec.fixed_means, equal_nan=True)
    with torch.no_grad():
        y = 3 * torch.randn(1, 40, 8, 8)
        decoded = loaded.decoded(y)
    torch.testing.assert_close(decoded[:, -17:], y[:, -17:].round())
    assert loaded.fixed_means.flatten()[-1] == 1 and (decoded[:, :-17] != y[:, :-17].round()).any()


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_weights_of_another_architecture_are_refused(architecture: str) -> None:
    with pytest.raises(BadModelFile, match=f"expected {architecture} weights with"):
        normalised(architecture).load_folded(tiny_state(), 1.0)
    with pytest.raises(BadModelFile, match=r"expected one of the architectures .*mbt2018.*, got mbt2019"):
        new_codec("mbt2019", 8, 8)


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_half_precision_changes_neither_the_type_nor_much_of_the_rate(architecture: str) -> None:
    codec = normalised(architecture)
    with torch.no_grad():
        y = codec.analyse(picture())
        exact, _, _ = codec.code(y)
        with torch.autocast("cpu", torch.bfloat16):
            bits, _, prior = codec.code(y)
    assert prior.scales.dtype == torch.float32
    assert prior.means is not None
    assert prior.means.dtype == torch.float32
    assert bits.item() == pytest.approx(exact.item(), rel=0.002)
