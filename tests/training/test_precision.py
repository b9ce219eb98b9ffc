"""What is computed in bfloat16 in training, and what stays exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli import codec as product
from slic_cli.errors import UsageError
from slic_cli.training import precision
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.objectives import rate_distortion
from slic_cli.training.precision import HalfGradients, precision_of

CPU = torch.device("cpu")
CONVOLUTIONS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "plain": (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=2), (6, 4, 5, 5)),
    "one by one": (lambda x, w, b: F.conv2d(x, w, b), (6, 4, 1, 1)),
    "transposed": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 2, output_padding=1), (4, 6, 5, 5)),
    "without bias": (lambda x, w, b: F.conv2d(x, w, padding=(1, 0)) + b[:, None, None], (6, 4, 3, 1)),
}


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


def gradients(run: Callable[[], Tensor], inputs: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    y = run()
    return y.detach(), torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), inputs)


def relative(got: Tensor, wanted: Tensor) -> float:
    return ((got - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_results_are_exact_and_gradients_nearly(name: str) -> None:
    convolution, shape = CONVOLUTIONS[name]
    inputs = tensors((3, 4, 12, 16), shape, (6,))
    y, exact = gradients(lambda: convolution(*inputs), inputs)

    def halved() -> Tensor:
        with HalfGradients():
            return convolution(*inputs)

    again, near = gradients(halved, inputs)
    assert torch.equal(again, y)
    assert all(grad.dtype == torch.float32 for grad in near)
    assert 0 < relative(near[0], exact[0]) < 0.01
    assert 0 < relative(near[1], exact[1]) < 0.01
    assert relative(near[2], exact[2]) < 1e-5


@pytest.mark.parametrize("kind", ["grouped", "double"])
def test_other_convolutions_are_left_alone(kind: str) -> None:
    if kind == "grouped":
        inputs = tensors((2, 4, 8, 8), (4, 1, 3, 3))
    else:
        inputs = [t.detach().double().requires_grad_() for t in tensors((2, 4, 8, 8), (4, 4, 3, 3))]

    def run() -> Tensor:
        x, weight = inputs
        return F.conv2d(x, weight, groups=4 if kind == "grouped" else 1)

    _, exact = gradients(run, inputs)
    with HalfGradients():
        _, within = gradients(run, inputs)
    assert all(torch.equal(a, b) for a, b in zip(within, exact, strict=True))


def test_what_needs_no_gradient_gets_none() -> None:
    x, weight = tensors((1, 4, 8, 8), (4, 4, 3, 3))
    with HalfGradients():
        y = F.conv2d(x.detach(), weight)
        frozen = F.conv2d(x, weight.detach())
        with torch.no_grad():
            assert not F.conv2d(x, weight).requires_grad
    torch.autograd.backward(y.sum())
    assert weight.grad is not None and x.grad is None
    torch.autograd.backward(frozen.sum())
    assert x.grad is not None


def test_a_fine_codec_learns_from_photographs_and_not_from_rounding() -> None:
    """At 1/gain of a grey level its gradients in bfloat16 are mostly rounding; mixed they are within 2%."""
    torch.manual_seed(0)
    codec = Hyperprior(8, 12, gain=20.0)
    crops = F.interpolate(torch.rand(4, 3, 8, 8), size=64, mode="bicubic").clamp(0, 1)
    karhunen_loeve(codec, list(crops))

    def gradient(name: str) -> Tensor:
        torch.manual_seed(1)
        codec.zero_grad()
        with precision_of(name, CPU)[1]():
            loss = rate_distortion(codec(crops), crops, 0.2).loss
        torch.autograd.backward(loss)
        return torch.cat([p.grad.flatten() for p in codec.net.g_a.parameters() if p.grad is not None])

    exact = gradient("fp32")
    assert relative(gradient("mixed"), exact) < 0.02
    assert relative(gradient("bf16"), exact) > 0.1


@pytest.mark.parametrize(("quick", "chosen"), [(True, "mixed"), (False, "fp32")])
def test_auto_is_mixed_where_bfloat16_is_quick(quick: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "multiplies_bfloat16", lambda: quick)
    assert precision_of("auto", CPU)[0] == chosen


def test_a_precision_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="fp8"):
        precision.precision_of("fp8", CPU)
