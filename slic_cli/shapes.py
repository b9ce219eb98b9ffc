"""The shapes that a model's tensors must have, so that a wrong model file is refused and not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy.typing as npt

from slic_cli.errors import BadModelFile

Shapes = dict[str, tuple[int, ...]]


def hyperprior_shapes(n: int, m: int) -> Shapes:
    """bmshj2018-hyperprior with N = `n` and M = `m` channels, under CompressAI's names."""
    shapes: Shapes = {"entropy_bottleneck.quantiles": (n, 1, 3)}
    plain = {"g_a": (3, n, n, n, m), "h_a": (m, n, n, n)}
    transposed = {"g_s": (m, n, n, n, 3), "h_s": (n, n, n, m)}
    for name, widths in (plain | transposed).items():
        for index, (cin, cout) in enumerate(pairwise(widths)):
            layer = f"{name}.{2 * index}"
            kernel = 3 if layer in ("h_a.0", "h_s.4") else 5
            turned = name in transposed and layer != "h_s.4"
            shapes[f"{layer}.weight"] = (*((cin, cout) if turned else (cout, cin)), kernel, kernel)
            shapes[f"{layer}.bias"] = (cout,)
    for name in ("g_a", "g_s"):
        for index in (1, 3, 5):
            shapes |= {f"{name}.{index}.beta": (n,), f"{name}.{index}.gamma": (n, n)}
    return shapes


def joint_shapes(n: int, m: int) -> Shapes:
    """mbt2018 with N = `n` and M = `m` channels."""
    shapes = hyperprior_shapes(n, m)
    widths = (n, m, m * 3 // 2, 2 * m)
    for index, (cin, cout) in enumerate(pairwise(widths)):
        layer = f"h_s.{2 * index}"
        shapes[f"{layer}.weight"] = (cout, cin, 3, 3) if index == 2 else (cin, cout, 5, 5)
        shapes[f"{layer}.bias"] = (cout,)
    return shapes | context_shapes(m)


def context_shapes(m: int) -> Shapes:
    """The context model and the entropy parameters of M = `m` channels of y."""
    shapes: Shapes = {"context_prediction.weight": (2 * m, m, 5, 5), "context_prediction.bias": (2 * m,)}
    for index, (cin, cout) in enumerate(pairwise((m * 12 // 3, m * 10 // 3, m * 8 // 3, m * 6 // 3))):
        layer = f"entropy_parameters.{2 * index}"
        shapes |= {f"{layer}.weight": (cout, cin, 1, 1), f"{layer}.bias": (cout,)}
    return shapes


def anchor_shapes(n: int, m: int) -> Shapes:
    """cheng2020-anchor with `n` channels everywhere; `m` is as many in a sound model."""
    shapes: Shapes = {"entropy_bottleneck.quantiles": (n, 1, 3), "g_a.6.weight": (n, n, 3, 3), "g_a.6.bias": (n,)}
    for index in range(6):
        shapes |= _residual_shapes(f"g_a.{index}", 3 if index == 0 else n, n, resizing=index % 2 == 0)
    for index in range(7):
        shapes |= _residual_shapes(f"g_s.{index}", n, n) if index % 2 == 0 else _upsampling_shapes(f"g_s.{index}", n)
    wide = n * 3 // 2
    plain = {f"h_a.{2 * index}": (n, n) for index in range(5)} | {"g_s.7.0": (n, 12)}
    plain |= {"h_s.0": (n, n), "h_s.2.0": (n, 4 * n), "h_s.4": (n, wide), "h_s.6.0": (wide, 4 * wide)}
    for layer, (cin, cout) in (plain | {"h_s.8": (wide, 2 * n)}).items():
        shapes |= _convolution_shapes(layer, cin, cout)
    return shapes | context_shapes(m)


def _convolution_shapes(layer: str, cin: int, cout: int, kernel: int = 3) -> Shapes:
    return {f"{layer}.weight": (cout, cin, kernel, kernel), f"{layer}.bias": (cout,)}


def _residual_shapes(block: str, cin: int, n: int, resizing: bool = False) -> Shapes:
    shapes = _convolution_shapes(f"{block}.conv1", cin, n) | _convolution_shapes(f"{block}.conv2", n, n)
    if resizing:
        shapes |= _convolution_shapes(f"{block}.skip", cin, n, 1)
        shapes |= {f"{block}.gdn.beta": (n,), f"{block}.gdn.gamma": (n, n)}
    return shapes


def _upsampling_shapes(block: str, n: int) -> Shapes:
    shapes = _convolution_shapes(f"{block}.conv", n, n)
    for part in ("subpel_conv.0", "upsample.0"):
        shapes |= _convolution_shapes(f"{block}.{part}", n, 4 * n)
    return shapes | {f"{block}.igdn.beta": (n,), f"{block}.igdn.gamma": (n, n)}


def check_shapes(
    tensors: Mapping[str, npt.NDArray[Any]], shapes: Callable[[int, int], Shapes] = hyperprior_shapes
) -> None:
    """Raises BadModelFile where a tensor in `shapes` of N and M is missing, no half-precision one, or misshapen."""
    last = tensors.get("g_a.6.weight")
    if last is None or last.ndim != 4:
        raise BadModelFile("expected the four-dimensional tensor g_a.6.weight, got a model without it")
    for name, shape in shapes(last.shape[1], last.shape[0]).items():
        if name not in tensors:
            raise BadModelFile(f"expected the tensor {name}, got a model without it")
        if tensors[name].shape != shape or tensors[name].dtype != "float16":
            got = f"{tensors[name].dtype} {tensors[name].shape}"
            raise BadModelFile(f"expected {name} to be float16 {shape}, got {got}")
