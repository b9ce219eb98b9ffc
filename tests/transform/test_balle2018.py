"""The folded transforms equal CompressAI's, and tiles and bands equal the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import torch
from conftest import TINY_M, TINY_N, photograph

from slic_cli.errors import BadModelFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec
from slic_cli.transform import balle2018, layers
from slic_cli.transform.balle2018 import Balle2018Transform
from slic_cli.transform.layers import Gdn, to_precision

Tensors = dict[str, npt.NDArray[Any]]

GOLDEN = Path(__file__).parent.parent / "golden"
LATENTS_ATOL = 1e-3  # of a quantiser step, on latents up to 114
BF16_LATENTS_ATOL, BF16_LATENTS_MEAN = 0.75, 0.15  # as many steps: what bfloat16 costs on such latents
BF16_PIXELS_ATOL, BF16_PIXELS_MEAN = 12.0, 1.0  # grey levels


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return load_tensors(read_spec(GOLDEN / "golden-model.safetensors"))


@pytest.fixture(scope="module")
def expected() -> Tensors:
    """Inputs and outputs of CompressAI's modules; scripts/regenerate_golden.py makes them."""
    return safetensors.numpy.load_file(GOLDEN / "compressai.safetensors")


def transform(tensors: Tensors, precision: torch.dtype = torch.float32) -> Balle2018Transform:
    return Balle2018Transform(tensors, torch.device("cpu"), precision)


def grey_levels(x_hat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.clip(x_hat.transpose(1, 2, 0) * 255, 0, 255)


def test_analysis_equals_compressai(tensors: Tensors, expected: Tensors) -> None:
    y = transform(tensors).analysis(torch.from_numpy(expected["pixels"]))
    assert (y.dtype, y.shape) == (torch.float32, (TINY_M, 4, 5))
    assert np.abs(expected["y"]).max() > 50
    np.testing.assert_allclose(y.numpy(), expected["y"], rtol=0, atol=LATENTS_ATOL)


def test_hyper_analysis_equals_compressai(tensors: Tensors, expected: Tensors) -> None:
    z = transform(tensors).hyper_analysis(torch.from_numpy(expected["y"]))
    assert (z.dtype, z.shape) == (torch.float32, (TINY_N, 1, 2))
    np.testing.assert_allclose(z.numpy(), expected["z"], rtol=0, atol=1e-4)


def test_synthesis_equals_compressai(tensors: Tensors, expected: Tensors) -> None:
    pixels = transform(tensors).synthesis(torch.from_numpy(expected["y_hat"])).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (64, 80, 3)
    exact = grey_levels(expected["x_hat"])
    assert 30 < exact.std() < 100
    assert np.abs(pixels - exact).max() < 0.501  # rounding, and hardly more


def test_bfloat16_is_close_to_compressai(tensors: Tensors, expected: Tensors) -> None:
    low = transform(tensors, torch.bfloat16)
    y = low.analysis(torch.from_numpy(expected["pixels"])).numpy()
    errors = np.abs(y - expected["y"])
    assert 1e-3 < errors.max() < BF16_LATENTS_ATOL
    assert errors.mean() < BF16_LATENTS_MEAN
    errors = np.abs(low.synthesis(torch.from_numpy(expected["y_hat"])).numpy() - grey_levels(expected["x_hat"]))
    assert errors.max() < BF16_PIXELS_ATOL
    assert errors.mean() < BF16_PIXELS_MEAN


def test_compressai_itself(tensors: Tensors) -> None:
    """The same comparison with the library, where it is installed."""
    models = pytest.importorskip("compressai.models")
    net = models.ScaleHyperprior(TINY_N, TINY_M)
    weights = {name: torch.from_numpy(t).float() for name, t in tensors.items() if not name.startswith("tables.")}
    torch.nn.Module.load_state_dict(net, weights, strict=False)
    pixels, ours = photograph(80, 112, seed=9), transform(tensors)
    with torch.inference_mode():
        y = net.g_a(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
        z, x_hat = net.h_a(y.abs())[0].numpy(), net.g_s((y / 8).round())[0].numpy()
    np.testing.assert_allclose(ours.analysis(torch.from_numpy(pixels)).numpy(), y[0].numpy(), rtol=0, atol=LATENTS_ATOL)
    np.testing.assert_allclose(ours.hyper_analysis(y[0]).numpy(), z, rtol=0, atol=1e-4)
    assert np.abs(ours.synthesis((y[0] / 8).round()).numpy() - grey_levels(x_hat)).max() < 0.501


@pytest.mark.parametrize("inverse", [False, True])
def test_normalisation_bounds_its_parameters(inverse: bool) -> None:
    """docs/format.md, Pixels: roots below the bounds, even negative ones, count as the bounds."""
    beta, gamma = np.array([1e-5, 0.8, -2.0]), np.array([[0.5, -0.3, 0.0], [1e-7, 0.2, 0.1], [0.0, 0.0, 0.0]])
    x = np.random.default_rng(4).standard_normal((3, 4, 6)) * 0.01
    betas = np.maximum(beta, np.sqrt(1e-6 + 2.0**-36)) ** 2 - 2.0**-36
    gammas = np.maximum(gamma, 2.0**-18) ** 2 - 2.0**-36
    norm = np.sqrt(betas[:, None, None] + np.einsum("ij,jrc->irc", gammas, x**2))
    layer = Gdn(torch.tensor(beta).float(), torch.tensor(gamma).float(), inverse, torch.float32)
    result = layer(torch.from_numpy(x).float()[None])[0].numpy()
    np.testing.assert_allclose(result, x * norm if inverse else x / norm, rtol=1e-4)


# --- tiles and bands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [1, 2, 3, 5])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_tiles_equal_the_whole(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch, tile: int, precision: torch.dtype
) -> None:
    networks, pixels = transform(tensors, precision), torch.from_numpy(photograph(96, 112))
    y = networks.analysis(pixels)
    y_hat = (y / 8).round()
    whole = networks.synthesis(y_hat).int()
    monkeypatch.setattr(balle2018, "TILE", tile)
    assert (networks.analyse_rows(pixels, 0, 6) - y).abs().max() < LATENTS_ATOL
    assert (networks.synthesise(y_hat).int() - whole).abs().max() <= 1


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (2, 5), (5, 6), (0, 6)])
def test_rows_are_those_of_the_whole(tensors: Tensors, start: int, stop: int) -> None:
    networks, pixels = transform(tensors), torch.from_numpy(photograph(96, 80))
    y = networks.analyse_rows(pixels, start, stop)
    assert (y - networks.analysis(pixels)[:, start:stop]).abs().max() < LATENTS_ATOL


def test_a_smaller_halo_would_not_do(tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, the tests above could pass on networks that see too little to need a halo."""
    networks, pixels = transform(tensors), torch.from_numpy(photograph(96, 112))
    y = networks.analysis(pixels)
    whole = networks.synthesis((y / 8).round()).int()
    monkeypatch.setattr(balle2018, "TILE", 2)
    monkeypatch.setattr(balle2018, "HALO", balle2018.HALO - 1)
    assert (networks.analyse_rows(pixels, 0, 6) - y).abs().max() > 1
    assert (networks.synthesise((y / 8).round()).int() - whole).abs().max() > 1


@pytest.mark.parametrize("band_pixels", [1, 100, 200])
def test_bands_change_nothing(tensors: Tensors, monkeypatch: pytest.MonkeyPatch, band_pixels: int) -> None:
    networks, pixels = transform(tensors), torch.from_numpy(photograph(96, 80))
    y = networks.analysis(pixels)
    y_hat = (y / 8).round()
    whole = networks.synthesis(y_hat).int()
    monkeypatch.setattr(layers, "BAND_PIXELS", band_pixels)
    assert (networks.analysis(pixels) - y).abs().max() < LATENTS_ATOL
    assert (networks.synthesis(y_hat).int() - whole).abs().max() <= 1


@pytest.mark.parametrize("name", ["g_a.0.weight", "g_a.6.bias", "g_s.3.gamma", "g_s.6.weight", "h_a.2.bias"])
def test_missing_tensor_is_named(tensors: Tensors, name: str) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {name}, got a model without"):
        transform({key: value for key, value in tensors.items() if key != name})


def test_kernel_sums_survive_bfloat16(tensors: Tensors) -> None:
    """Flat areas keep their brightness: the taps' errors cancel, which rounding each by itself does not achieve."""
    weight = torch.from_numpy(tensors["g_s.4.weight"].astype(np.float32))
    exact = weight.sum((2, 3))
    ours = to_precision(weight, torch.bfloat16)
    assert (ours.dtype, ours.shape) == (torch.bfloat16, weight.shape)
    assert (ours.float() - weight).abs().max() < 0.02 * weight.abs().max()
    errors, naive = ((kernel.float().sum((2, 3)) - exact).abs().mean() for kernel in (ours, weight.to(torch.bfloat16)))
    assert errors < naive / 20
    assert torch.equal(to_precision(weight, torch.float32), weight)
