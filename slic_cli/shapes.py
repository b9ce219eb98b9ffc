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
