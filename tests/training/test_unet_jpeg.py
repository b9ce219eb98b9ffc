"""UNetJPEG: its layers, what it learns from real JPEGs, and its files."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import photograph
from torch import Tensor, nn

from slic_cli.attacks import Attack
from slic_cli.errors import BadModelFile, OutputExists
from slic_cli.training.edits import make_edit
from slic_cli.training.unet_jpeg import UNET_FORMAT, UNetJpeg, jpeg_pairs, load_unet, save_unet, unet_jpeg_step
from slic_cli.training.unet_start import start_near_identity


def batch(count: int, height: int = 32, width: int = 32) -> Tensor:
    pictures = np.stack([photograph(height, width, seed) for seed in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def tiny(seed: int = 0, width: int = 4) -> UNetJpeg:
    torch.manual_seed(seed)
    return UNetJpeg(width).eval()


def test_layers_are_those_of_table_a1() -> None:
    """3 x 3 convolutions by (inputs, outputs); the inputs on the way up are the skip and what came from below."""
    with torch.device("meta"):
        net = UNetJpeg()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    down = [(4, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 1024)]
    up = [(1024, 1024), (1536, 512), (512, 512), (768, 256), (256, 256), (384, 128), (128, 128), (192, 64), (64, 64)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [*down, *up, (64, 3)]
    assert [c.kernel_size for c in convolutions] == [(3, 3)] * 18 + [(1, 1)]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 18


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (16, 16), (5, 70)])
def test_any_size_will_do(shape: tuple[int, int]) -> None:
    x = batch(2, *shape)
    y = tiny()(x, torch.tensor([70, 95]))
    assert y.shape == x.shape and y.min() > 0 and y.max() < 1


def test_quality_is_per_picture_and_skips_reach_the_end() -> None:
    net, x = tiny(), batch(1, 48, 48).repeat(2, 1, 1, 1)
    same, other = net(x, torch.tensor([80, 80])), net(x, torch.tensor([80, 20]))
    assert torch.equal(same[0], other[0]) and not torch.allclose(same[1], other[1])
    x[0, :, 0, 0] = 1 - x[0, :, 0, 0]
    change = (net(x, torch.tensor([80, 80])) - same)[0].abs().sum(0)
    assert change[0, 0] > 0 and change[0, 0] == change.max()


def test_pairs_are_real_jpegs() -> None:
    x = batch(3, 40, 56)
    pairs = jpeg_pairs(x, [30, 75, 95])
    for index, quality in enumerate((30, 75, 95)):
        real = Attack("jpeg", {"quality": quality}).apply(photograph(40, 56, index))
        assert np.array_equal((pairs[index] * 255).round().byte().permute(1, 2, 0).numpy(), real)


def test_step_is_the_error_against_the_real_encoder() -> None:
    x, asked = batch(4), []

    class Echo(nn.Module):
        def forward(self, x: Tensor, quality: Tensor) -> Tensor:
            asked.extend(quality.tolist())
            return x

    loss = unet_jpeg_step(Echo(), x, random.Random(0), (40, 60))
    assert len(set(asked)) > 1 and all(40 <= quality <= 60 for quality in asked)
    assert float(loss) == pytest.approx(float(((jpeg_pairs(x, asked) - x) ** 2).mean()))
    assert loss == unet_jpeg_step(Echo(), x, random.Random(0), (40, 60))


def test_a_few_steps_learn() -> None:
    """From a grey picture's error to a small part of it; batch norm is kept in training mode, as in the real stage."""
    x, draw = batch(8), random.Random(0)
    net = tiny().train()
    optimiser = torch.optim.Adam(net.parameters(), 2e-2)
    losses = []
    for _ in range(40):
        loss = unet_jpeg_step(net, x, draw, (70, 95))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.2 * float(((jpeg_pairs(x, [80] * 8) - 0.5) ** 2).mean())


@pytest.mark.parametrize(("width", "error"), [(12, 2e-3), (24, 2e-4)])
def test_near_identity_start_returns_the_picture(width: int, error: float) -> None:
    net, x = tiny(width=width), batch(2)
    start_near_identity(net)
    difference = net(x, torch.tensor([70, 95])).detach() - x
    assert float(difference.square().mean()) < error
    unet_jpeg_step(net, x, random.Random(0), (70, 95)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_files_keep_the_network(tmp_path: Path) -> None:
    path, net, x = tmp_path / "net.safetensors", tiny().train(), batch(2)
    for _ in range(3):
        net(x, torch.tensor([70, 90]))  # running statistics of their own
    save_unet(path, net, {"trained_on": "synthetic"})
    loaded = load_unet(path)
    assert not loaded.training and loaded.width == 4
    quality = torch.tensor([70, 90])
    assert torch.allclose(loaded(x, quality), net.eval()(x, quality), atol=2e-3)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"format": UNET_FORMAT, "width": "4", "trained_on": "synthetic"}
        assert file.get_tensor("down.0.0.weight").dtype == torch.float16
    with pytest.raises(OutputExists):
        save_unet(path, net, {}, force=False)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(BadModelFile, match="expected a readable"):
        load_unet(path)
    path.write_bytes(b"no network")
    with pytest.raises(BadModelFile, match="expected a safetensors file"):
        load_unet(path)
    save_unet(path, tiny(), {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadModelFile, match="expected a UNetJPEG of width 4"):
        load_unet(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "expected a UNetJPEG .* got format None"),
        ({"format": "slic-model-1"}, "got format 'slic-model-1'"),
        ({"format": UNET_FORMAT}, "expected a width from 1 to 256, got 'None'"),
        ({"format": UNET_FORMAT, "width": "100000"}, "expected a width from 1 to 256, got '100000'"),
        ({"format": UNET_FORMAT, "width": "2"}, "expected a UNetJPEG of width 2"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(tiny().state_dict(), path, metadata)
    with pytest.raises(BadModelFile, match=message):
        load_unet(path)


def test_jpeg_edit_goes_through_the_frozen_network(tmp_path: Path) -> None:
    path, x = tmp_path / "net.safetensors", batch(2).requires_grad_()
    save_unet(path, tiny(), {})
    edit = make_edit({"name": "jpeg", "simulation": "unet", "weights": str(path), "quality": [70, 70]})
    edited = edit(x, random.Random(0))
    assert torch.equal(edited, load_unet(path)(x, torch.tensor([70, 70])))
    edited.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.any()
    assert not any(p.requires_grad for p in edit._network.parameters())  # type: ignore[attr-defined]


def test_jpeg_edit_misses_its_weights_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="expected a readable"):
        make_edit({"name": "jpeg", "simulation": "unet", "weights": str(tmp_path / "none.safetensors")})
