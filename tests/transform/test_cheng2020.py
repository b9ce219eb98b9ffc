"""The transforms of cheng2020-anchor and mbt2018 equal CompressAI's, and tiles equal the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY_M, TINY_N, photograph, tiny_anchor_state, tiny_joint_state
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.transform import cheng2020
from slic_cli.transform.cheng2020 import ANALYSIS_HALO, SYNTHESIS_HALO, Cheng2020Transform
from slic_cli.transform.minnen2018 import Minnen2018Transform

State = dict[str, npt.NDArray[Any]]

CPU = torch.device("cpu")
LATENTS_ATOL = 1e-3  # of a quantiser step, on latents up to 96
BF16_LATENTS_ATOL, BF16_PIXELS_ATOL = 2.0, 12.0  # steps and grey levels


@pytest.fixture(scope="module")
def state() -> State:
    return dict(tiny_anchor_state())


def anchor(state: State, precision: torch.dtype = torch.float32) -> Cheng2020Transform:
    return Cheng2020Transform(state, CPU, precision)


def unit(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def grey_levels(x_hat: Tensor) -> npt.NDArray[np.float32]:
    return np.clip(x_hat[0].permute(1, 2, 0).numpy() * 255, 0, 255)


def compressai(name: str, state: State, *widths: int) -> Any:
    models = pytest.importorskip("compressai.models")
    net = getattr(models, name)(*widths).eval()
    weights = {key: torch.from_numpy(value) for key, value in state.items()}
    missing = torch.nn.Module.load_state_dict(net, weights, strict=False)
    assert not missing.unexpected_keys
    return net


def test_cheng2020_equals_compressai(state: State) -> None:
    net, ours, pixels = compressai("Cheng2020Anchor", state, TINY_N), anchor(state), photograph(80, 112)
    with torch.inference_mode():
        y = net.g_a(unit(pixels))
        z, y_hat = net.h_a(y), (y / 8).round()
        x_hat = net.g_s(y_hat)
    assert y.std() > 5
    assert 20 < grey_levels(x_hat).std() < 120
    np.testing.assert_allclose(ours.analysis(torch.from_numpy(pixels)), y[0], rtol=0, atol=LATENTS_ATOL)
    np.testing.assert_allclose(ours.hyper_analysis(y[0]), z[0], rtol=0, atol=1e-3)
    assert np.abs(ours.synthesis(y_hat[0]).numpy() - grey_levels(x_hat)).max() < 0.502


def test_minnen2018_equals_compressai() -> None:
    state = dict(tiny_joint_state())
    net = compressai("JointAutoregressiveHierarchicalPriors", state, TINY_N, TINY_M)
    ours, pixels = Minnen2018Transform(state, CPU, torch.float32), photograph(80, 112)
    with torch.inference_mode():
        y = net.g_a(unit(pixels))
        z, x_hat = net.h_a(y), net.g_s((y / 8).round())
    np.testing.assert_allclose(ours.analysis(torch.from_numpy(pixels)), y[0], rtol=0, atol=LATENTS_ATOL)
    np.testing.assert_allclose(ours.hyper_analysis(y[0]), z[0], rtol=0, atol=1e-3)
    assert np.abs(ours.synthesis((y[0] / 8).round()).numpy() - grey_levels(x_hat)).max() < 0.502


def test_hyper_analysis_sees_signs() -> None:
    """Unlike that of Balle et al.: h_a with a leaky ReLU, written out."""
    state = dict(tiny_joint_state())
    ours = Minnen2018Transform(state, CPU, torch.float32)
    y = torch.from_numpy(np.random.default_rng(0).normal(0, 9, (TINY_M, 8, 12)).astype(np.float32))
    x, strides = y[None], (1, 2, 2)
    for index, stride in enumerate(strides):
        weight, bias = (torch.from_numpy(state[f"h_a.{2 * index}.{part}"]) for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, stride, weight.shape[2] // 2)
        x = x if index == 2 else torch.where(x < 0, 0.01 * x, x)
    np.testing.assert_allclose(ours.hyper_analysis(y), x[0], rtol=0, atol=1e-3)
    assert (ours.hyper_analysis(-y) - ours.hyper_analysis(y)).abs().max() > 1


def test_bfloat16_is_close(state: State) -> None:
    exact, low, pixels = anchor(state), anchor(state, torch.bfloat16), torch.from_numpy(photograph(64, 80))
    y = exact.analysis(pixels)
    errors = (low.analysis(pixels) - y).abs().max()
    assert 1e-3 < errors < BF16_LATENTS_ATOL
    y_hat = (y / 8).round()
    assert 0 < (low.synthesis(y_hat).int() - exact.synthesis(y_hat).int()).abs().max() < BF16_PIXELS_ATOL


@pytest.mark.parametrize("tile", [3, 5, 8])
def test_tiles_equal_the_whole(state: State, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    networks, pixels = anchor(state), torch.from_numpy(photograph(272, 320))
    y = networks.analysis(pixels)
    whole = networks.synthesis((y / 8).round()).int()
    monkeypatch.setattr(cheng2020, "TILE", tile)
    assert (networks.analyse_rows(pixels, 0, 17) - y).abs().max() < LATENTS_ATOL
    assert (networks.analyse_rows(pixels, 5, 9) - y[:, 5:9]).abs().max() < LATENTS_ATOL
    assert (networks.synthesise((y / 8).round()).int() - whole).abs().max() <= 1


def test_halos_are_the_receptive_fields(state: State) -> None:
    """Measured, not trusted: how far one latent reaches in pixels, and one pixel in latents."""
    ours = anchor(state)
    y_hat = torch.zeros(TINY_N, 21, 21)
    pixels = ours.synthesis(y_hat).int()
    reached = np.zeros((336, 336), bool)
    for channel in range(TINY_N):
        changed = y_hat.clone()
        changed[channel, 10, 10] = 1e4
        reached |= ((ours.synthesis(changed).int() - pixels).abs().amax(2) > 0).numpy()
    rows = np.flatnonzero(reached.any(1))
    assert 16 * (10 - SYNTHESIS_HALO) <= rows[0] < 16 * (11 - SYNTHESIS_HALO)
    assert 16 * (10 + SYNTHESIS_HALO) <= rows[-1] < 16 * (11 + SYNTHESIS_HALO)
    picture = torch.from_numpy(photograph(16 * 15, 16 * 15))
    other = picture.clone()
    other[112:128, 112:128] = 255 - other[112:128, 112:128]
    moved = np.flatnonzero((ours.analysis(other) - ours.analysis(picture)).abs().amax((0, 2)).numpy() > 1e-4)
    assert (moved[0], moved[-1]) == (8 - ANALYSIS_HALO, 7 + ANALYSIS_HALO)  # kernels of stride 2 lean to one side


@pytest.mark.parametrize(
    "name",
    ["g_a.0.skip.weight", "g_a.2.gdn.beta", "g_a.6.bias", "g_s.1.subpel_conv.0.weight", "g_s.7.0.bias", "h_a.8.bias"],
)
def test_missing_tensor_is_named(state: State, name: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {name}, got a model without"):
        anchor({key: value for key, value in state.items() if key != name})
