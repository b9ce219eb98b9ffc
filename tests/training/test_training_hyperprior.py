"""The codec in training: normalised units fold into CompressAI's weights without a change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photograph, tiny_state

from slic_cli.errors import BadModelFile

pytest.importorskip("compressai")

from compressai.models import ScaleHyperprior

from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.pixels import to_tensor

N, M, GAIN = 8, 12, 5.0


def picture() -> torch.Tensor:
    return to_tensor(photograph(128, 192), torch.device("cpu"))


def normalised() -> Hyperprior:
    """The tiny state in normalised units with uneven spreads."""
    codec = Hyperprior(N, M)
    spread = np.linspace(0.3, 7.0, M).astype(np.float32)
    codec.load_folded(tiny_state() | {"spread": spread}, GAIN)
    return codec.eval()


def plain() -> Any:
    net = ScaleHyperprior(N, M)
    state = net.state_dict()
    net.load_state_dict(state | {k: torch.from_numpy(v) for k, v in tiny_state().items()})
    return net.eval()


def nearly_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """A latent on the border between two integers may fall to either side, and takes its neighbourhood with it."""
    return bool(((a - b).abs() < 2e-4).float().mean() > 0.9)


@torch.no_grad()
def test_folding_changes_nothing() -> None:
    x = picture()
    coded, reference = normalised()(x), plain()(x)
    assert nearly_equal(coded.pictures, reference["x_hat"])
    bits = -sum(likelihoods.log2().sum() for likelihoods in reference["likelihoods"].values())
    assert coded.bits.item() == pytest.approx(float(bits), rel=1e-4)


def test_folded_weights_are_those_that_were_loaded() -> None:
    folded, original = normalised().folded(), tiny_state()
    assert set(original) <= set(folded)
    for name, array in original.items():
        np.testing.assert_allclose(folded[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_recompression_is_a_second_pass() -> None:
    codec, x = normalised(), picture()
    with torch.no_grad():
        assert nearly_equal(codec.recompress(x), plain()(x)["x_hat"].clamp(0, 1))


@torch.no_grad()
def test_another_gain_changes_the_steps_and_nothing_else() -> None:
    before, after, x = normalised(), normalised(), picture()
    after.regain(GAIN / 4)
    y = before.analyse(x)
    torch.testing.assert_close(after.analyse(x), y / 4)
    torch.testing.assert_close(after.synthesise(y / 4), before.synthesise(y))
    prior, other = before.prior(y, noisy=False), after.prior(y / 4, noisy=False)
    torch.testing.assert_close(other.scales, prior.scales / 4)
    assert other.bits == prior.bits


def test_gradients_pass_both_roundings() -> None:
    codec, x = normalised(), picture().requires_grad_()
    torch.autograd.backward(codec.recompress(x).square().sum())
    assert x.grad is not None and x.grad.abs().sum() > 0 and torch.isfinite(x.grad).all()


def test_noise_is_seen_in_training_only() -> None:
    codec, x = normalised(), picture()
    with torch.no_grad():
        codec.train()
        assert not torch.equal(codec(x, noisy=True).pictures, codec(x, noisy=True).pictures)
        assert torch.equal(codec(x).pictures, codec(x).pictures)


def test_the_quantile_loss_reaches_only_quantiles() -> None:
    codec = normalised()
    torch.autograd.backward(codec.quantile_loss())
    reached = {name for name, p in codec.net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {"entropy_bottleneck.quantiles"}


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(BadModelFile, match="expected bmshj2018-hyperprior weights with"):
        Hyperprior(N, M + 1).load_folded(tiny_state(), 1.0)
    with pytest.raises(BadModelFile, match="got none"):
        Hyperprior(N, M).load_folded({}, 1.0)


def test_the_gain_balances_rate_and_distortion() -> None:
    """Bits and squared error of one of a pixel's three coefficients, quantised with a step in units of the range."""

    def cost(step: float) -> float:
        return -math.log2(step) + 0.18 * 255**2 * step**2 / 12 / 3

    best = 1 / best_gain(0.18)
    assert cost(best) < min(cost(best * 1.01), cost(best * 0.99))
