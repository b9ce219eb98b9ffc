"""The lapped start: perfect reconstruction up to the picture's edges, and more to gain from than blocks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import photograph
from torch import Tensor

pytest.importorskip("compressai")

from slic_cli.metrics import psnr_db
from slic_cli.training.codecs import new_codec
from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.lapped_start import (
    Lapped,
    cosines,
    edge_filter,
    lapped,
    lapped_transform,
    overlap,
    start_lapped,
)
from slic_cli.training.pixels import to_pixels, to_tensor
from slic_cli.training.recipe import ModelTable
from slic_cli.training.residual_start import axes_room
from slic_cli.training.start import start_codec
from slic_cli.transform.edges import filter_edges

CPU = torch.device("cpu")
ALL = (12, 48, 192, 768)


def crops(count: int = 4, size: int = 64) -> Tensor:
    return torch.stack([to_tensor(photograph(size, size, seed), CPU)[0] for seed in range(count)])


def analysed(start: Lapped, x: Tensor) -> Tensor:
    y = x - start.colour.view(3, 1, 1)
    for weight in start.weights:
        y = F.conv2d(y, weight, stride=2, padding=2)
    return y


def synthesised(start: Lapped, y: Tensor) -> Tensor:
    for weight in reversed(start.weights):
        y = F.conv_transpose2d(y, weight, stride=2, padding=2, output_padding=1)
    return y + start.colour.view(3, 1, 1)


def test_the_transform_is_orthonormal_and_overlaps() -> None:
    rows = lapped_transform()
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:, 16:] @ rows[:, :16].T, torch.zeros(16, 16), atol=1e-5, rtol=0)  # with the next
    assert rows[:, :8].abs().max() > 0.1


def test_all_coefficients_give_the_picture_back() -> None:
    x = crops()
    start = lapped(x, ALL)
    inside = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(synthesised(start, analysed(start, x))[inside], x[inside], atol=1e-4, rtol=0)


def test_the_edge_filter_saves_the_edges() -> None:
    x = crops()
    start = lapped(x, ALL)
    plain = synthesised(start, analysed(start, x))
    filtered = synthesised(start, analysed(start, filter_edges(x, edge_filter(), start.colour)))
    assert (plain - x).abs().max() > 0.01
    torch.testing.assert_close(filtered, x, atol=1e-4, rtol=0)


def test_the_edge_filter_is_well_conditioned() -> None:
    assert torch.linalg.matrix_norm(edge_filter(), 2) < 1.5
    torch.testing.assert_close(overlap() @ overlap().T, torch.eye(16), atol=1e-5, rtol=0)


def test_it_needs_fewer_bits_than_blocks_for_a_smooth_signal() -> None:
    place = torch.arange(32)
    covariance = 0.95 ** (place[:, None] - place).abs()  # neighbours in photographs are alike to about that degree
    own = slice(8, 24)
    overlapping = torch.diagonal(lapped_transform() @ covariance @ lapped_transform().T)
    blocks = torch.diagonal(cosines(16) @ covariance[own, own] @ cosines(16).T)
    assert overlapping.log2().mean() / 2 < blocks.log2().mean() / 2 - 0.03  # bits a sample at equal error


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "m", "widths"),
    [
        ("bmshj2018-hyperprior", 192, (12, 48, 64, 192)),
        ("mbt2018", 192, (12, 48, 64, 192)),
        ("cheng2020-anchor", 64, (24, 48, 64, 64)),
    ],
)
def test_a_codec_works_untrained(architecture: str, m: int, widths: tuple[int, ...]) -> None:
    decibels = []
    for started in (True, False):
        torch.manual_seed(0)
        codec = new_codec(architecture, 64, m, best_gain(0.18), widths).eval()
        if started:
            start_codec(codec, "lapped", ModelTable("mine", 8, architecture, 64, m), list(crops(4, 128)))
        pixels = photograph(128, 128, seed=9)
        decibels.append(psnr_db(pixels, to_pixels(codec(to_tensor(pixels, CPU)).pictures[0])))
    assert decibels[0] > decibels[1] + 10


@torch.no_grad()
def test_edges_leave_with_the_weights() -> None:
    torch.manual_seed(0)
    codec = Hyperprior(32, 64, best_gain(0.18))
    start_codec(codec, "lapped", ModelTable("mine", 8, n=32, m=64), list(crops()))
    other = Hyperprior(32, 64, codec.gain)
    other.load_folded(codec.folded(), codec.gain)
    x = crops(1)
    torch.testing.assert_close(other.analyse(x), codec.analyse(x), atol=1e-4, rtol=1e-4)
    karhunen = Hyperprior(32, 64, codec.gain)
    karhunen_loeve(karhunen, list(crops()))
    assert "edge_filter" in codec.folded() and "edge_filter" not in karhunen.folded()


@torch.no_grad()
def test_residual_transforms_are_lapped_but_for_the_far_taps_of_weak_channels() -> None:
    torch.manual_seed(0)
    widths = (24, 48, 48, 40)
    codec = new_codec("cheng2020-anchor", 64, 64, 1.0, widths).eval()
    x = crops(4, 128)
    assert start_lapped(codec, x) == 40
    start = lapped(x, axes_room(widths))
    weights = [weight.clone() for weight in start.weights]
    weights[3][:, 8:, 4] = 0  # of 24 axes 8 are handed on: 48 channels less 24, for three places
    weights[3][:, 8:, :, 4] = 0
    filtered = filter_edges(x, codec.edge_filter, codec.edge_colour)
    expected = analysed(Lapped(weights, start.colour), filtered)
    got = codec.analyse(x)
    inside = (..., slice(1, -1), slice(1, -1))
    assert (got - expected)[inside].square().mean() < 0.01 * expected[inside].square().mean()
    assert (got - analysed(start, filtered))[inside].square().mean() < 0.02 * expected[inside].square().mean()
    back, wanted = codec.synthesise(expected), synthesised(start, expected)
    assert (back - wanted).square().mean() < 0.01 * (wanted - wanted.mean()).square().mean()


@torch.no_grad()
def test_the_edges_of_a_first_decode_are_as_good_as_the_rest() -> None:
    torch.manual_seed(0)
    codec = Hyperprior(192, 512, best_gain(0.18), (12, 48, 176, 495)).eval()
    start_codec(codec, "lapped", ModelTable("mine", 8, m=512), list(crops(4, 128)))
    pixels = photograph(128, 128, seed=9)
    first = to_pixels(codec(to_tensor(pixels, CPU)).pictures[0])
    assert psnr_db(pixels[:8], first[:8]) > psnr_db(pixels, first) - 1.5
