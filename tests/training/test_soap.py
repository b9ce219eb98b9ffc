"""SOAP against what it stands for: Adam where there is nothing to turn, and better than Adam where there is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from slic_cli.training.soap import Soap

STEPS = 600


def slanted_loss(kernel: Tensor) -> Tensor:
    """A narrow valley that lies across all axes of a kernel (8, 6, 3, 3): Adam zigzags in it."""
    generator = torch.Generator().manual_seed(1)
    outputs, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
    inputs, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    error = torch.einsum("pqhw,po,qi->oihw", kernel - torch.randn(8, 6, 3, 3, generator=generator), outputs, inputs)
    stiffness = torch.logspace(0, 3, 8)[:, None] * torch.logspace(0, 3, 6)[None, :]
    return (error.square() * stiffness[:, :, None, None]).sum()


def descend(optimiser: torch.optim.Optimizer, kernel: nn.Parameter, steps: int = STEPS) -> float:
    for _ in range(steps):
        optimiser.zero_grad()
        loss = slanted_loss(kernel)
        torch.autograd.backward(loss)
        optimiser.step()
    return slanted_loss(kernel).item()


def fresh() -> nn.Parameter:
    return nn.Parameter(torch.zeros(8, 6, 3, 3))


def soap(kernel: nn.Parameter, **more: object) -> Soap:
    return Soap([{"params": [kernel]}], 0.03, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("turning", [torch.float32, torch.bfloat16])
def test_kernels_are_trained_faster_than_by_adam(turning: torch.dtype) -> None:
    by_soap, by_adam = fresh(), fresh()
    found = descend(soap(by_soap, turning=turning), by_soap)
    assert found < 0.2 * descend(torch.optim.Adam([by_adam], 0.03, betas=(0.95, 0.95)), by_adam)


def test_without_turning_it_is_adam() -> None:
    start, gradients = torch.randn(7), torch.randn(5, 7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pair = [(ours, Soap([{"params": [ours]}], 0.1)), (theirs, torch.optim.Adam([theirs], 0.1, betas=(0.95, 0.95)))]
    for parameter, optimiser in pair:
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_it_remembers_survives_a_checkpoint() -> None:
    kernel = fresh()
    optimiser = soap(kernel)
    descend(optimiser, kernel, 25)
    other = nn.Parameter(kernel.detach().clone())
    resumed = soap(other)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert descend(optimiser, kernel, 25) == descend(resumed, other, 25)


def test_weights_without_a_gradient_stay() -> None:
    kernel = fresh()
    soap(kernel).step()
    assert not kernel.any()
