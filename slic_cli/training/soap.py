"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo
using Adam"), for convolution kernels; all other weights have plain Adam.

A kernel counts as an array of outputs x taps x inputs. For each of its sides the second moments of the gradient's
slices are kept, and their eigenvectors, brought up to date by one step of the power method every few steps. Adam's
means are kept in that basis; what it makes of them is turned back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class Soap(torch.optim.Optimizer):
    """For `groups` as Adam takes them. Eigenvectors are looked for every `every` steps; arrays are turned in `turning`,
    a precision."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        every: int = 10,
        eps: float = 1e-8,
        turning: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "every": every, "eps": eps})
        self._turning = turning

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Change all weights that have a gradient."""
        assert closure is None, "gradients are expected to be there"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, parameter.grad, group)

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        array = _as_array(gradient)
        if not state:
            state |= _fresh(array, sides=array.shape if gradient.dim() == 4 else ())
        state["step"] += 1
        steps = state["step"]
        self._observe(state, array, second)
        if steps == 1 or steps % group["every"] == 0:
            self._turn(state)
        turned = self._rotated(array, state["bases"])
        state["mean"].lerp_(turned, 1 - first)
        state["square"].mul_(second).addcmul_(turned, turned, value=1 - second)
        change = state["mean"] / state["square"].sqrt().add_(group["eps"])
        change = self._rotated(change, [basis.T for basis in state["bases"]])
        scale = math.sqrt(1 - second**steps) / (1 - first**steps)
        parameter.sub_(_as_weights(change, parameter), alpha=group["lr"] * scale)

    def _observe(self, state: State, gradient: Tensor, memory: float) -> None:
        gradient = gradient.to(self._turning)
        for side, moments in enumerate(state["moments"]):
            slices = gradient.movedim(side, 0).flatten(1)
            moments.lerp_((slices @ slices.T).float(), 1 - memory)

    def _turn(self, state: State) -> None:
        """Adam's mean goes with the basis; its mean square stays, nearly right for a basis that is nearly the same."""
        old = state["bases"]
        state["bases"] = [
            _eigenvectors(moments) if state["step"] == 1 else torch.linalg.qr(moments @ basis)[0]
            for basis, moments in zip(old, state["moments"], strict=True)
        ]
        between = [before.T @ after for before, after in zip(old, state["bases"], strict=True)]
        state["mean"] = self._rotated(state["mean"], between)

    def _rotated(self, array: Tensor, bases: Sequence[Tensor]) -> Tensor:
        """Coefficients of `array` on the columns of a basis for each side; as it is without any."""
        if not bases:
            return array
        outputs, taps, inputs = (basis.to(self._turning) for basis in bases)
        o, t, i = array.shape
        turned = (outputs.T @ array.to(self._turning).reshape(o, t * i)).reshape(o * t, i) @ inputs
        return (taps.T @ turned.reshape(o, t, i)).float()


def _as_array(gradient: Tensor) -> Tensor:
    """Outputs x taps x inputs of a kernel (outputs, inputs, rows, columns); anything else as it is."""
    return gradient.flatten(2).permute(0, 2, 1).contiguous() if gradient.dim() == 4 else gradient


def _as_weights(array: Tensor, like: Tensor) -> Tensor:
    return array.permute(0, 2, 1).reshape(like.shape) if like.dim() == 4 else array


def _fresh(array: Tensor, sides: Sequence[int]) -> State:
    return {
        "step": 0,
        "mean": torch.zeros_like(array),
        "square": torch.zeros_like(array),
        "moments": [array.new_zeros(n, n) for n in sides],
        "bases": [torch.eye(n).to(array) for n in sides],
    }


def _eigenvectors(moments: Tensor) -> Tensor:
    """The largest first. In float32, LAPACK's solver gives NaN for some matrices of which half is zero."""
    return torch.linalg.eigh(moments.double())[1].flip(1).to(moments)
