"""What training computes in bfloat16, and what not.

Weights and activations rounded to bfloat16 shift the brightness of whole areas by a part of a level. That is little to
look at, but a codec of 40 dB answers it with gradients many times as large as those of the photographs: it learns to
follow the rounding. The same rounding within a gradient costs half a percent of it. So where bfloat16 is quick,
pictures and bits are computed in float32, and the convolutions' gradients, two thirds of the work, in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from slic_cli.codec import choose_precision

Context = Callable[[], AbstractContextManager[Any]]


def precision_of(name: str, device: torch.device) -> tuple[str, Context]:
    """What `auto`, `mixed`, `bf16` or `fp32` is on `device`, and a context to compute a loss in.

    `auto` is mixed where bfloat16 is quick, else fp32; `bf16` is torch's autocast. Raises UsageError.
    """
    if name == "auto":
        name = "mixed" if choose_precision(name, device) == torch.bfloat16 else "fp32"
    if name == "mixed":
        return name, HalfGradients
    if choose_precision(name, device) == torch.bfloat16:
        return name, partial(torch.autocast, device.type, torch.bfloat16)
    return name, nullcontext


class HalfGradients(TorchFunctionMode):
    """Within it, convolutions of float32 maps have their gradients computed in bfloat16."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        geometry = _GEOMETRIES.get(func)
        if geometry and torch.is_grad_enabled():
            x, weight, bias, given = geometry(*args, **(kwargs or {}))
            if given.groups == 1 and x.dtype == weight.dtype == torch.float32 and not isinstance(given.padding, str):
                return _Convolution.apply(x, weight, bias, given)
        return func(*args, **(kwargs or {}))


class _Geometry(NamedTuple):
    """As aten's convolution takes it."""

    stride: Any
    padding: Any
    dilation: Any
    transposed: bool
    output_padding: Any
    groups: int


def _plain(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, _Geometry]:
    return input, weight, bias, _Geometry(_pair(stride), _pair(padding), _pair(dilation), False, (0, 0), groups)


def _transposed(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Tensor, Tensor, Tensor | None, _Geometry]:
    return (
        input,
        weight,
        bias,
        _Geometry(_pair(stride), _pair(padding), _pair(dilation), True, _pair(output_padding), groups),
    )


_GEOMETRIES: Mapping[Any, Any] = {torch.conv2d: _plain, torch.conv_transpose2d: _transposed}


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x.bfloat16(), weight.bfloat16())
        ctx.geometry = geometry
        y: Tensor = torch.convolution(x, weight, bias, *geometry)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad.bfloat16(), x, weight, None, *ctx.geometry, [needs_x, needs_weight, False]
        )
        return (
            grad_x.float() if needs_x else None,
            grad_weight.float() if needs_weight else None,
            grad.sum((0, 2, 3)) if needs_bias else None,
            None,
        )


def _pair(value: Any) -> Any:
    """aten takes two where Python takes one number."""
    return (value, value) if isinstance(value, int) else value
