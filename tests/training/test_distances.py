"""Each distance equals its reference, is 0 for equal pictures alone, and has gradients that are finite everywhere."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slic_cli.errors import BadModelFile, MissingModel, UsageError
from slic_cli.training.distances import DISTANCES, make_distance, vgg16_weights
from slic_cli.training.distances.base import Distance
from slic_cli.training.distances.vgg16_weights import BACKBONE_VARIABLE, LAYERS, TORCHVISION_URL, load_vgg16_weights

for package in ("lpips", "DISTS_pytorch"):
    pytest.importorskip(package, reason="needs the extra `train`", exc_type=ImportError)

REAL_BACKBONE = Path(__file__).parents[3] / "shared" / "weights" / "vgg16_features.safetensors"
ON_FEATURES = ("lpips", "dists", "vgg")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """VGG16's shapes with random float16 values of such sizes that features neither vanish nor grow."""
    generator = torch.Generator().manual_seed(1)
    made = {}
    for index, channels, width in LAYERS:
        kernel = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
        made[f"features.{index}.weight"] = kernel.half()
        made[f"features.{index}.bias"] = (0.1 * torch.randn(width, generator=generator)).half()
    return made


@pytest.fixture(scope="module")
def backbone(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("backbone") / "vgg16.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def distances(backbone: Path) -> dict[str, Distance]:
    return {name: make_distance(name, backbone) for name in DISTANCES}


def pictures(n: int = 2, height: int = 64, width: int = 64, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Random blobs, and the same with noise and somewhat darker."""
    generator = torch.Generator().manual_seed(height * width)
    x = F.interpolate(torch.rand(n, 3, 9, 9, generator=generator), size=(height, width), mode="bicubic").clamp(0, 1)
    return x, (0.95 * x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def gradients(distance: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    distance(x, y).sum().backward()
    assert x.grad is not None and y.grad is not None
    return x.grad, y.grad


def plain_vgg(weights: dict[str, Tensor]) -> Any:
    """What torchvision.models.vgg16 returns, as far as the packages look at it, with these weights."""
    vgg = pytest.importorskip("torchvision").models.vgg
    with torch.device("meta"):
        features = vgg.make_layers(vgg.cfgs["D"])
    state = {name.removeprefix("features."): tensor.float() for name, tensor in weights.items()}
    features.load_state_dict(state, assign=True)
    return SimpleNamespace(features=features)


# What all of them promise


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("size", [(64, 64), (65, 98)])
def test_zero_for_equal_pictures_positive_otherwise_symmetric(
    distances: dict[str, Distance], name: str, size: tuple[int, int]
) -> None:
    x, y = pictures(1, *size)
    result = distances[name](torch.cat([x, y, x, y]), torch.cat([x, y, y, x]))
    assert (result.shape, result.dtype) == ((4,), torch.float32)
    assert result[:2].abs().max() < 1e-6
    assert result[2] > 1e-3
    assert result[2].item() == pytest.approx(result[3].item(), rel=1e-4)


@pytest.mark.parametrize("name", DISTANCES)
def test_grows_with_the_difference(distances: dict[str, Distance], name: str) -> None:
    x = pictures(1)[0]
    values = [distances[name](x, pictures(1, noise=noise)[1]).item() for noise in (0.01, 0.05, 0.2)]
    assert values == sorted(values) and values[2] > 1.5 * values[0]


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_finite_for_equal_and_nearly_equal_pictures(distances: dict[str, Distance], name: str) -> None:
    blobs = pictures(1)[0]
    half_flat = torch.cat([blobs[:, :, :32], torch.full_like(blobs[:, :, :32], 0.25)], 2)
    x = torch.cat([blobs, torch.zeros_like(blobs), half_flat])
    for y in (x, (x + 1e-7).clamp(0, 1)):
        for gradient in gradients(distances[name], x, y):
            assert gradient.isfinite().all()
            assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_reach_both_and_point_uphill(distances: dict[str, Distance], name: str) -> None:
    x, y = pictures(1)
    for_x, for_y = gradients(distances[name], x, y)
    for gradient, on_x in ((for_x, 1), (for_y, 0)):
        step = 1e-3 * gradient / gradient.abs().max()
        up, down = (distances[name](x + on_x * s, y + (1 - on_x) * s).item() for s in (step, -step))
        assert (up - down) / 2 == pytest.approx((gradient * step).sum().item(), rel=0.05)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_fixed_picture_changes_nothing_for_the_other(distances: dict[str, Distance], name: str) -> None:
    x, y = pictures()
    _, expected = gradients(distances[name], x, y)
    moving = y.clone().requires_grad_()
    value = distances[name](x, moving)
    (gradient,) = torch.autograd.grad(value.sum(), moving)
    torch.testing.assert_close(value, distances[name](x, y))
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_picture_counts_alone_in_any_memory_layout(distances: dict[str, Distance], name: str) -> None:
    x, y = pictures(3)
    y[1] = 1 - x[1]
    together = distances[name](*(t.contiguous(memory_format=torch.channels_last) for t in (x, y)))
    alone = torch.cat([distances[name](x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert together[1] != pytest.approx(together[0].item(), rel=0.01)


@pytest.mark.parametrize("name", DISTANCES)
def test_only_the_backbone_follows_autocast(distances: dict[str, Distance], name: str) -> None:
    x, y = pictures(1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = distances[name](x, y)
    full = distances[name](x, y)
    assert rounded.dtype == torch.float32
    if name in ON_FEATURES:
        assert not torch.equal(rounded, full)
        torch.testing.assert_close(rounded, full, rtol=0.03, atol=0)
    else:
        assert torch.equal(rounded, full)


@pytest.mark.parametrize("name", DISTANCES)
def test_frozen(distances: dict[str, Distance], name: str) -> None:
    assert not distances[name].training
    assert not any(parameter.requires_grad for parameter in distances[name].parameters())
    assert len(list(distances[name].parameters())) == {"lpips": 31, "dists": 26, "vgg": 20}.get(name, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", DISTANCES)
def test_cuda_agrees(backbone: Path, distances: dict[str, Distance], name: str) -> None:
    x, y = pictures(2)
    on_gpu = make_distance(name, backbone).to("cuda")
    torch.testing.assert_close(on_gpu(x.cuda(), y.cuda()).cpu(), distances[name](x, y), rtol=1e-2, atol=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients(on_gpu, x.cuda(), x.cuda()))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(1, 3, 63, 64), torch.zeros(1, 3, 63, 64)),
        (torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)),
        (torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)),
        (torch.zeros(1, 3, 64, 64), torch.zeros(2, 3, 64, 64)),
        (torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64).double()),
        (torch.zeros(1, 3, 64, 64).half(), torch.zeros(1, 3, 64, 64).half()),
    ],
)
def test_other_inputs_are_refused(x: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match="expected two float32 batches"):
        make_distance("mse")(x, y)


def test_unknown_distance_is_refused_and_asking_for_it_loads_nothing() -> None:
    with pytest.raises(UsageError, match=r"expected one of lpips, .*ms-ssim, got 'ssim'"):
        make_distance("ssim")


def test_importing_the_names_loads_no_torch() -> None:
    code = "import sys, slic_cli.training.distances; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Agreement with the references


def lpips_of_the_package(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    lpips = pytest.importorskip("lpips")
    monkeypatch.setattr(pytest.importorskip("torchvision").models, "vgg16", lambda **_: plain_vgg(weights))
    module: nn.Module = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    return module


def assert_equals_package(ours: nn.Module, package: nn.Module) -> None:
    """Values to 1e-4, gradients to 1 % of the largest: the packages' order of sums differs."""
    x, y = (t.requires_grad_() for t in pictures(1))
    got, expected = ours(x, y), package(x, y, normalize=True).flatten()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=0)
    for for_ours, for_package in zip(*(torch.autograd.grad(d.sum(), (x, y)) for d in (got, expected)), strict=True):
        torch.testing.assert_close(for_ours, for_package, rtol=0, atol=0.01 * for_package.abs().max().item())


def test_lpips_equals_the_package(
    weights: dict[str, Tensor], distances: dict[str, Distance], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_equals_package(distances["lpips"], lpips_of_the_package(weights, monkeypatch))


@pytest.mark.skipif(not REAL_BACKBONE.is_file(), reason="needs ../shared/weights")
def test_lpips_with_trained_weights_equals_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = lpips_of_the_package(load_file(REAL_BACKBONE), monkeypatch)
    assert_equals_package(make_distance("lpips", REAL_BACKBONE), package)


def test_dists_equals_the_package(
    weights: dict[str, Tensor], distances: dict[str, Distance], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("DISTS_pytorch")
    monkeypatch.setattr(pytest.importorskip("torchvision").models, "vgg16", lambda **_: plain_vgg(weights))
    reference = package.DISTS(load_weights=False)
    stored = Path(package.__file__).with_name("weights.pt")
    for name, tensor in torch.load(stored, map_location="cpu", weights_only=True).items():
        getattr(reference, name).data = tensor.data
    x, y = pictures(2, 64, 96)
    torch.testing.assert_close(distances["dists"](x, y), reference(x, y), rtol=1e-4, atol=0)


def test_vgg_loss_equals_torchvision_layers(weights: dict[str, Tensor], distances: dict[str, Distance]) -> None:
    x, y = pictures(2)
    mean, std = (torch.tensor(t).view(1, 3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    u, v = (x - mean) / std, (y - mean) / std
    expected = torch.zeros(2)
    for index, layer in enumerate(plain_vgg(weights).features[:23]):
        u, v = layer(u), layer(v)
        if index in (3, 8, 15, 22):  # the ReLUs after conv1_2, conv2_2, conv3_3, conv4_3
            expected += (u - v).square().flatten(1).mean(1).detach()
    torch.testing.assert_close(distances["vgg"](x, y), expected, rtol=1e-4, atol=0)


def test_gmsd_equals_piq() -> None:
    piq = pytest.importorskip("piq")
    x, y = pictures(2, 64, 96)
    expected = piq.gmsd(x, y, reduction="none")
    torch.testing.assert_close(make_distance("gmsd")(x, y), expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_ms_ssim_equals_pytorch_msssim_at_five_scales(noise: float) -> None:
    package = pytest.importorskip("pytorch_msssim")
    x, y = pictures(2, 176, 192, noise)
    expected = 1 - package.ms_ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(make_distance("ms-ssim")(x, y), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("side", "scales"), [(64, 3), (80, 3), (81, 4), (160, 4), (161, 5), (400, 5)])
def test_ms_ssim_of_flat_pictures_is_their_luminance_term(side: int, scales: int) -> None:
    """Without structure only the coarsest scale differs, by (2 a b + c) / (a^2 + b^2 + c) to its share of exponents."""
    a, b, c = 0.8, 0.2, 0.01**2
    exponents = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    exponent = exponents[scales - 1] * sum(exponents) / sum(exponents[:scales])
    expected = 1 - ((2 * a * b + c) / (a * a + b * b + c)) ** exponent
    x = torch.full((1, 3, side, side), a)
    assert make_distance("ms-ssim")(x, torch.full_like(x, b)).item() == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_of_a_negative_is_the_greatest_distance_with_finite_gradients() -> None:
    x = pictures(1)[0]
    distance = make_distance("ms-ssim")
    assert distance(x, 1 - x).item() == pytest.approx(1)
    assert all(gradient.isfinite().all() for gradient in gradients(distance, x, 1 - x))


def test_mse_by_hand() -> None:
    x = torch.full((2, 3, 64, 64), 0.5)
    y = x.clone()
    y[1, 0, :32] += 0.3  # half of one channel of three
    assert make_distance("mse")(x, y).tolist() == pytest.approx([0, 0.3**2 / 6])


def test_nlpd_of_white_and_black_by_hand() -> None:
    """All levels of a flat picture are 0 but the rest, 2 x 2 pixels, each with one neighbour to its left or right."""
    white = torch.ones(1, 3, 64, 64)
    left, right = 1 / (0.2782 + 0.2215), 1 / (0.2782 + 0.0717)
    expected = ((left**2 + right**2) / 2) ** 0.5 / 6
    assert make_distance("nlpd")(white, 0 * white).item() == pytest.approx(expected, rel=1e-4)


def convolved(z: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """True convolution (the kernel turned) with a 5 x 5 kernel, zeros around, same size."""
    padded, result = np.pad(z, 2), np.zeros_like(z)
    for i, j in np.ndindex(5, 5):
        result += kernel[4 - i, 4 - j] * padded[i:, j:][: z.shape[0], : z.shape[1]]
    return result


def nlpd_by_definition(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Both pyramids of two luma pictures as the paper and its NLP_dist.m define them, in float64."""
    sigmas = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)
    crosses = (  # top, left, right, bottom of a 3 x 3 kernel of a true convolution
        (0.1011, 0.1493, 0.1460, 0.1015),
        (0.0757, 0.1986, 0.1846, 0.0837),
        (0.0477, 0.2138, 0.2243, 0.0467),
        (0, 0.2503, 0.2616, 0),
        (0, 0.2598, 0.2552, 0),
        (0, 0.2215, 0.0717, 0),
    )
    blur = np.outer([0.05, 0.25, 0.4, 0.25, 0.05], [0.05, 0.25, 0.4, 0.25, 0.05])

    def normalised(z: npt.NDArray[np.float64], level: int) -> npt.NDArray[np.float64]:
        kernel = np.zeros((5, 5))
        kernel[1, 2], kernel[2, 1], kernel[2, 3], kernel[3, 2] = crosses[level]
        kernel[2, 4] = 0.0072 if level == 0 else 0
        return z / (sigmas[level] + convolved(np.abs(z), kernel))

    def pyramid(z: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        levels = []
        for level in range(5):
            low = convolved(np.pad(z, 2, mode="symmetric"), blur)[2:-2:2, 2:-2:2]
            framed = np.pad(low, 1, mode="edge")
            spread = np.zeros((2 * framed.shape[0], 2 * framed.shape[1]))
            spread[::2, ::2] = 4 * framed
            enlarged = convolved(spread, blur)[2:, 2:][: z.shape[0], : z.shape[1]]
            levels.append(normalised(z - enlarged, level))
            z = low
        return [*levels, normalised(z, 5)]

    return float(np.mean([np.sqrt(np.mean((u - v) ** 2)) for u, v in zip(pyramid(x), pyramid(y), strict=True)]))


@pytest.mark.parametrize("size", [(64, 64), (67, 98)])
def test_nlpd_equals_its_definition(size: tuple[int, int]) -> None:
    x, y = pictures(1, *size)
    lumas = [np.tensordot((0.299, 0.587, 0.114), t[0].double().numpy(), 1) for t in (x, y)]
    assert make_distance("nlpd")(x, y).item() == pytest.approx(nlpd_by_definition(*lumas), rel=1e-4)


# Where VGG16's weights come from


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise URLError("no network")

    monkeypatch.delenv(BACKBONE_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


def assert_same(got: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    assert got.keys() == weights.keys()
    assert all(
        tensor.dtype == torch.float32 and torch.equal(tensor, weights[key].float()) for key, tensor in got.items()
    )


def as_jax(weights: dict[str, Tensor]) -> dict[str, Any]:
    layers = {}
    for position, (index, _, _) in enumerate(LAYERS):
        kernel = weights[f"features.{index}.weight"].permute(2, 3, 1, 0).contiguous().numpy()
        layers[f"Conv_{position}"] = {"kernel": kernel, "bias": weights[f"features.{index}.bias"].numpy()}
    return {"VGG16_0": layers, "NetLinLayer_0": {}}


def test_files_of_all_kinds_hold_the_same_weights(weights: dict[str, Tensor], backbone: Path, tmp_path: Path) -> None:
    assert_same(load_vgg16_weights(backbone), weights)
    torch.save({**weights, "classifier.0.bias": torch.zeros(4)}, tmp_path / "vgg16.pth")
    assert_same(load_vgg16_weights(tmp_path / "vgg16.pth"), weights)
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps(as_jax(weights), protocol=3))
    assert_same(load_vgg16_weights(tmp_path / "vgg16.ckpt"), weights)


def test_path_goes_before_variable_before_download(
    weights: dict[str, Tensor], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float | None] = []

    def download(url: str, **options: object) -> dict[str, Tensor]:
        assert url == TORCHVISION_URL and options["check_hash"] and options["weights_only"]
        calls.append(socket.getdefaulttimeout())
        return weights

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setenv(BACKBONE_VARIABLE, str(tmp_path / "absent.safetensors"))
    assert_same(load_vgg16_weights(backbone), weights)
    with pytest.raises(MissingModel, match=r"absent\.safetensors: expected a file of VGG16 weights, got none there"):
        load_vgg16_weights()
    assert not calls
    monkeypatch.delenv(BACKBONE_VARIABLE)
    assert_same(load_vgg16_weights(), weights)
    assert len(calls) == 1 and calls[0] is not None and calls[0] <= 15
    assert socket.getdefaulttimeout() is None


def test_without_network_the_error_says_what_to_pass() -> None:
    with pytest.raises(MissingModel, match=rf"no network.*--backbone PATH or set {BACKBONE_VARIABLE}") as caught:
        make_distance("lpips")
    assert "\n" not in str(caught.value)


def test_the_address_is_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision")
    assert torchvision.models.VGG16_Weights.IMAGENET1K_V1.url == TORCHVISION_URL


def test_pickles_with_code_are_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    for suffix in ("ckpt", "pth"):
        path = tmp_path / f"evil.{suffix}"
        path.write_bytes(pickle.dumps({"VGG16_0": Evil()}, protocol=2))
        with pytest.raises(BadModelFile, match=f"evil.{suffix}: expected readable VGG16 weights, got"):
            load_vgg16_weights(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_arrays_pickled_by_either_numpy_are_read(module: str, tmp_path: Path) -> None:
    path = tmp_path / "array.pickle"
    pickled = pickle.dumps(np.arange(5.0), protocol=3)
    path.write_bytes(pickled.replace(np.empty(0).__reduce__()[0].__module__.encode(), module.encode()))
    assert module.encode() in path.read_bytes()
    with path.open("rb") as stream:
        assert vgg16_weights._ArrayUnpickler(stream).load().tolist() == [0, 1, 2, 3, 4]


def test_damaged_files_are_refused(weights: dict[str, Tensor], backbone: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(backbone.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match=r"damaged\.safetensors: expected readable VGG16 weights"):
        load_vgg16_weights(damaged)
    broken: dict[str, tuple[str, Tensor | None]] = {
        "lacking": ("features.28.bias of shape .512,., got none", None),
        "misshapen": ("features.28.bias of shape .512,., got .511,.", torch.zeros(511)),
        "infinite": ("expected finite weights, got others in features.28.bias", torch.full((512,), torch.inf)),
    }
    for message, tensor in broken.values():
        rest = {key: value for key, value in weights.items() if key != "features.28.bias"}
        save_file(rest if tensor is None else {**rest, "features.28.bias": tensor}, damaged)
        with pytest.raises(BadModelFile, match=message):
            load_vgg16_weights(damaged)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vgg16.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"expected VGG16 weights as \.safetensors, \.pth, \.pt, \.ckpt, got \.onnx"):
        load_vgg16_weights(tmp_path / "vgg16.onnx")


def test_weights_of_absent_packages_are_missed(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingModel, match=r"weights.pt of the package DISTS_pytorch, got none; pip install"):
        make_distance("dists", backbone)
