"""What training computes in bfloat16, and what not.

With weights and activations rounded to bfloat16, the gradients of a codec of 40 dB are mostly an answer to the
rounding, probably because it shifts the brightness of whole areas by a part of a level. The same rounding within a
gradient costs half a percent of it. So where bfloat16 is quick, pictures and bits are computed in float32, and the
convolutions' gradients, two thirds of the work, in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

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
        if func in _ORDERS and torch.is_grad_enabled():
            given = _DEFAULTS | dict(zip(_ORDERS[func], args, strict=False)) | dict(kwargs or {})
            x, weight, padding = given["input"], given["weight"], given["padding"]
            if given["groups"] == 1 and x.dtype == weight.dtype == torch.float32 and not isinstance(padding, str):
                return _Convolution.apply(x, weight, given["bias"], _geometry(given, func is torch.conv_transpose2d))
        return func(*args, **(kwargs or {}))


_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "groups": 1}
_ORDERS: Mapping[Any, Sequence[str]] = {
    torch.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    torch.conv_transpose2d: ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
}


def _geometry(given: Mapping[str, Any], transposed: bool) -> tuple[Any, ...]:
    """All but the tensors, as aten's convolution takes it."""
    stride, padding, dilation, more = (_pair(given[k]) for k in ("stride", "padding", "dilation", "output_padding"))
    return stride, padding, dilation, transposed, more, given["groups"]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
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
