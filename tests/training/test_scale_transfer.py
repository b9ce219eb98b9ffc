"""mbt2018 from a trained scale hyperprior: the same rate at once, and less where latents can be predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import photograph, tiny_state
from safetensors.numpy import load_file

pytest.importorskip("compressai")

from torch import nn

from slic_cli.codec import Codec
from slic_cli.export import export_model
from slic_cli.registry import read_spec
from slic_cli.training import scale_transfer
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.minnen2018 import Minnen2018
from slic_cli.training.pixels import to_tensor
from slic_cli.training.recipe import ModelTable
from slic_cli.training.scale_transfer import transfer
from slic_cli.training.start import read_codec, read_weights, start_codec
from slic_cli.transform.minnen2018 import MAGNITUDES, Minnen2018Transform

N, M, GAIN = 16, 40, 5.0
MODEL = ModelTable("mine", 4, architecture="mbt2018", n=N, m=M)
METADATA = {"architecture": "mbt2018", "quality": "4", "metric": "none", "gain": repr(GAIN)}


def trained(asleep: int = N // 2) -> Hyperprior:
    """A scale hyperprior with scales of about a spread, of whose hidden units the last `asleep` never wake."""
    torch.manual_seed(2)
    codec = Hyperprior(N, M, GAIN).eval()
    with torch.no_grad():
        for layer in (codec.net.h_a[0], codec.net.h_a[2], codec.net.h_s[0], codec.net.h_s[2]):
            layer.weight.mul_(3)
            layer.bias[N - asleep :] = -100
        codec.net.h_a[4].weight.mul_(20)
        codec.net.h_s[4].weight.mul_(0.25)
        codec.net.h_s[4].bias.fill_(1.0)
    return codec


def latents(correlation: float = 0.0) -> torch.Tensor:
    """(3, M, 16, 16) of a deviation of about 3, each `correlation` times its left neighbour and something new."""
    y = 3 * torch.randn(3, M, 16, 16, generator=torch.Generator().manual_seed(4))
    for column in range(1, 16):
        y[..., column] = correlation * y[..., column - 1] + (1 - correlation**2) ** 0.5 * y[..., column]
    return y


def transferred(source: Hyperprior, y: torch.Tensor) -> Minnen2018:
    torch.manual_seed(0)
    codec = Minnen2018(N, M, GAIN).eval()
    for each in (codec, source):
        each.spread.copy_(y.square().mean((0, 2, 3), keepdim=True).sqrt())
    transfer(codec, source, y)
    return codec


def bits(codec: Hyperprior, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float(codec.code(y)[0])


def crops() -> list[torch.Tensor]:
    return [to_tensor(photograph(64, 64, seed), torch.device("cpu"))[0] for seed in range(3)]


def started(path: Path) -> Minnen2018:
    torch.manual_seed(0)
    codec = Minnen2018(N, M, GAIN).eval()
    start_codec(codec, str(path), MODEL, crops())
    return codec


def saved_hyperprior(path: Path, codec: Hyperprior) -> Path:
    export_model(path, codec.folded(), METADATA | {"architecture": "bmshj2018-hyperprior"}, True)
    return path


def test_the_rate_is_the_scale_hyperpriors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_transfer, "_LISTENERS", 0.0)
    source, y = trained(), latents()
    codec = transferred(source, y)
    assert bits(codec, y) == pytest.approx(bits(source, y), rel=1e-5)
    with torch.no_grad():
        scales = [each.prior(y, noisy=False).scales.clamp(min=0.11) for each in (codec, source)]
    torch.testing.assert_close(*scales, rtol=1e-4, atol=1e-4)
    assert scales[0].std() > 0.1  # there is something to be right about


def test_without_room_for_pairs_it_is_nearly_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_transfer, "_LISTENERS", 0.0)
    source, y = trained(asleep=0), latents()
    assert bits(transferred(source, y), y) == pytest.approx(bits(source, y), rel=0.01)


def test_means_help_where_latents_can_be_predicted() -> None:
    source = trained()
    for correlation, least, most in ((0.0, 0.98, 1.005), (0.9, 0.0, 0.9)):  # 16 of 40 have means
        y = latents(correlation)
        assert least < bits(transferred(source, y), y) / bits(source, y) < most


def test_every_weight_can_learn() -> None:
    y = latents(0.9)
    codec = transferred(trained(), y).train()
    optimiser = torch.optim.SGD(codec.net.parameters(), 1e-6)
    for _ in range(2):  # what is not listened to yet learns once it is
        optimiser.zero_grad()
        torch.autograd.backward(codec.code(y)[0] / y.numel())
        optimiser.step()
    for name in ("h_s.0", "h_s.2", "h_s.4", "entropy_parameters.0", "entropy_parameters.2", "entropy_parameters.4"):
        gradient = codec.net.get_parameter(f"{name}.bias").grad
        assert gradient is not None and gradient.count_nonzero() > 0.9 * gradient.numel()


def test_magnitudes_stay_with_the_weights(tmp_path: Path) -> None:
    y = latents()
    codec = transferred(trained(), y)
    again, restored = Minnen2018(N, M).eval(), Minnen2018(N, M, GAIN).eval()
    again.load_folded(codec.folded(), GAIN)
    restored.load_state_dict(codec.state_dict())
    for other in (again, restored):
        assert bits(other, y) == pytest.approx(bits(codec, y), rel=1e-5)
    export_model(tmp_path / "mine.safetensors", codec.folded(), METADATA, False)
    assert bits(read_codec(tmp_path / "mine.safetensors"), y) == pytest.approx(bits(codec, y), rel=2e-3)
    again.load_folded(Minnen2018(N, M).folded(), GAIN)
    assert not again.hyper_magnitudes and "hyper_magnitudes" not in again.folded()


def test_a_checkpoint_from_before_has_no_magnitudes() -> None:
    codec = Minnen2018(N, M)
    state = codec.state_dict()
    del state["hyper_magnitudes"]
    codec.hyper_magnitudes.fill_(True)
    codec.load_state_dict(state)
    assert not codec.hyper_magnitudes


def test_the_encoder_takes_magnitudes_where_the_model_says_so(tmp_path: Path) -> None:
    y = latents()[0]
    codec = transferred(trained(), y[None])
    export_model(tmp_path / "mine.safetensors", codec.folded(), METADATA, False)
    tensors = load_file(tmp_path / "mine.safetensors")
    with_sign = {name: array for name, array in tensors.items() if name != MAGNITUDES}
    device = torch.device("cpu")
    ours, signed = (Minnen2018Transform(each, device, torch.float32) for each in (tensors, with_sign))
    with torch.no_grad():
        expected = codec.net.h_a(y[None].abs() / codec.spread)[0]
    torch.testing.assert_close(ours.hyper_analysis(y), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ours.hyper_analysis(-y), ours.hyper_analysis(y))
    torch.testing.assert_close(ours.hyper_analysis(y), signed.hyper_analysis(y.abs()))
    assert (signed.hyper_analysis(y) - ours.hyper_analysis(y)).abs().max() > 0.1


def test_a_model_begins_as_the_scale_hyperprior_it_is_given(tmp_path: Path) -> None:
    path = saved_hyperprior(tmp_path / "scales.safetensors", trained())
    arrays, gain = read_weights(path)
    source = Hyperprior(N, M, GAIN).eval()
    source.load_folded({"spread": np.ones(M, np.float32), **arrays}, gain or GAIN)
    codec, x = started(path), torch.stack(crops())
    assert bits(codec, codec.analyse(x)) < 1.01 * bits(source, source.analyse(x))
    with torch.no_grad():
        torch.testing.assert_close(codec.analyse(x), source.analyse(x), rtol=1e-4, atol=1e-4)
    assert codec.hyper_magnitudes


def test_weights_without_a_spread_will_do(tiny_model: Path) -> None:
    torch.manual_seed(0)
    codec, source = Minnen2018(8, 12, 4.0).eval(), Hyperprior(8, 12, 4.0).eval()
    start_codec(codec, str(tiny_model), ModelTable("mine", 4, architecture="mbt2018", n=8, m=12), crops())
    source.load_folded(tiny_state(), 4.0)
    x = torch.stack(crops())
    assert bits(codec, codec.analyse(x)) < 1.02 * bits(source, source.analyse(x))


def test_real_files_are_as_small(tmp_path: Path) -> None:
    path = saved_hyperprior(tmp_path / "scales.safetensors", trained())
    export_model(tmp_path / "mine.safetensors", started(path).folded(), METADATA, False)
    before, after = (Codec(read_spec(each), "cpu", "fp32") for each in (path, tmp_path / "mine.safetensors"))
    pixels = photograph(128, 128)
    sizes = [sum(map(len, codec.encode(pixels).strips)) for codec in (before, after)]
    assert sizes[1] < 1.02 * sizes[0]
    assert after.decode(after.encode(pixels)).shape == pixels.shape


def test_a_carriers_latents_stay_apart(tmp_path: Path) -> None:
    source = trained()
    with torch.no_grad():
        source.net.g_a[6].weight[-1] = 0
        source.net.g_a[6].bias[-1] = 1 / GAIN
        source.isolate(slice(-17, None))
    codec = started(saved_hyperprior(tmp_path / "scales.safetensors", source))
    y = latents()
    y[:, -17:] = 0
    y[:, -1] = 1
    other = y.clone()
    other[:, -17:] = torch.randint(-3, 4, (3, 17, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        first, second = (codec.prior(each, noisy=False) for each in (y, other))
    assert first.means is not None and second.means is not None
    torch.testing.assert_close(first.scales, second.scales)
    torch.testing.assert_close(first.means, second.means)
    assert not first.means[:, -17:-1].any() and (first.means[:, -1] == 1).all()


def test_a_unit_of_a_relu_is_a_pair() -> None:
    torch.manual_seed(1)
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    leaky = nn.LeakyReLU(0.01)
    target = nn.Sequential(nn.Conv2d(3, 9, 3), leaky, nn.Conv2d(9, 10, 3), leaky, nn.Conv2d(10, 3, 3))
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        scale_transfer._take_network(target, source, x)
        torch.testing.assert_close(target(x)[:, :2], source(x), rtol=1e-5, atol=1e-6)
    assert F.relu(source[0](x)).any()
