"""The simulated JPEG against Pillow's, and the gradients of its roundings."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import photograph
from PIL import Image
from torch import Tensor

from slic_cli.training.jpeg_simulation import (
    Rounding,
    cubic_round,
    from_blocks,
    quantisation_table,
    simulate_jpeg,
    to_blocks,
)
from slic_cli.training.rounding import straight_through_round

Pixels = npt.NDArray[np.uint8]


def tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def real_jpeg(pixels: Pixels, quality: int, chroma: str) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=chroma)
    return Image.open(file)


def differences(pixels: Pixels, quality: int, chroma: str, rounding: Rounding) -> tuple[float, float]:
    """Mean absolute differences from the real JPEG, in levels: of the simulation, and of the picture itself."""
    real = np.asarray(real_jpeg(pixels, quality, chroma), dtype=np.float64)
    simulated = simulate_jpeg(tensor(pixels), quality, chroma, rounding)[0].permute(1, 2, 0).numpy() * 255
    return float(np.abs(simulated - real).mean()), float(np.abs(pixels - real).mean())


@pytest.mark.parametrize("quality", [10, 50, 75, 85, 95, 97])
@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_forward_is_that_of_libjpeg(quality: int, chroma: str) -> None:
    simulated, unedited = differences(photograph(96, 128), quality, chroma, straight_through_round)
    assert simulated < 0.4 and simulated < 0.2 * unedited


@pytest.mark.parametrize("quality", [50, 75, 97])
@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_cubic_forward_is_near_libjpeg(quality: int, chroma: str) -> None:
    simulated, unedited = differences(photograph(96, 128), quality, chroma, cubic_round)
    assert 0.3 < simulated < 0.7 and simulated < 0.3 * unedited


@pytest.mark.parametrize("shape", [(97, 131), (33, 64), (40, 72), (17, 19)])
@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_any_size_will_do(shape: tuple[int, int], chroma: str) -> None:
    simulated, unedited = differences(photograph(*shape), 80, chroma, straight_through_round)
    assert simulated < 0.6 and simulated < 0.15 * unedited


def test_pictures_of_a_batch_do_not_mix() -> None:
    parts = [tensor(photograph(32, 48, seed)) for seed in (0, 1)]
    both = simulate_jpeg(torch.cat(parts), 60)
    assert torch.allclose(both, torch.cat([simulate_jpeg(part, 60) for part in parts]), atol=1e-4)


def test_tables_are_those_of_libjpeg() -> None:
    pixels = photograph(8, 8)
    for quality in range(1, 101):
        written = real_jpeg(pixels, quality, "4:4:4").quantization  # type: ignore[attr-defined]
        assert [quantisation_table(quality, chroma) for chroma in (False, True)] == [written[0], written[1]]


def test_blocks_and_back() -> None:
    planes = torch.arange(2 * 3 * 16 * 24.0).view(2, 3, 16, 24)
    blocks = to_blocks(planes, 8)
    assert blocks.shape == (2, 3, 2, 3, 64)
    assert torch.equal(blocks[1, 2, 1, 2].view(8, 8), planes[1, 2, 8:, 16:])
    assert torch.equal(from_blocks(blocks, 8), planes)


def test_straight_through_gradient_of_grey_is_one() -> None:
    """Luma goes through an orthonormal transform and back: with rounding ignored, that is the identity."""
    x = (0.3 + 0.4 * tensor(photograph(32, 32))).requires_grad_()
    torch.manual_seed(0)
    weights = torch.randn(1, 1, 32, 32).expand(1, 3, 32, 32)
    (simulate_jpeg(x, 75) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.allclose(x.grad.sum(1), 3 * weights[:, 0], atol=1e-3)


def test_cubic_gradient_is_another_and_finite() -> None:
    gradients = []
    for rounding in (straight_through_round, cubic_round):
        x = tensor(photograph(32, 32)).requires_grad_()
        (simulate_jpeg(x, 75, rounding=rounding) * torch.linspace(-1, 1, 32)).sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
        gradients.append(x.grad)
    assert (gradients[0] - gradients[1]).abs().mean() > 0.1 * gradients[0].abs().mean()


def test_roundings() -> None:
    v = torch.tensor([-1.6, -0.4, 0.25, 0.75, 3.0], requires_grad=True)
    assert cubic_round(v).tolist() == pytest.approx([-1.936, -0.064, 0.015625, 0.984375, 3.0])
    cubic_round(v).sum().backward()  # type: ignore[no-untyped-call]
    assert v.grad is not None and v.grad.tolist() == pytest.approx([0.48, 0.48, 0.1875, 0.1875, 0.0], abs=1e-5)
    v.grad = None
    assert straight_through_round(v).tolist() == [-2, 0, 0, 1, 3]
    straight_through_round(v).sum().backward()  # type: ignore[no-untyped-call]
    assert v.grad.tolist() == [1] * 5  # type: ignore[attr-defined]
