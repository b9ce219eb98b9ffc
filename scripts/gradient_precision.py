"""What bfloat16 does to the gradients of a codec, and to the time they take.

python scripts/gradient_precision.py PHOTOS --model balle2018-vanilla-q8 [--crops 16] [--threads 2]

For each precision of `slic train`: the error of the transforms' gradient, as a share of it, and seconds for a forward
and a backward pass. Beside it, how far the gradient of another batch is from it: what steps average over anyway.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from slic_cli.registry import find_model
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.objectives import rate_distortion
from slic_cli.training.photographs import read_photographs
from slic_cli.training.precision import precision_of
from slic_cli.training.recipe import LAMBDAS, DataTable
from slic_cli.training.start import read_codec

_PASSES = 5


def gradient(codec: Hyperprior, x: Tensor, rate_weight: float, precision: str) -> tuple[Tensor, float]:
    """Of g_a and g_s, all weights in one row, and the seconds it took."""
    torch.manual_seed(0)
    codec.zero_grad()
    start = time.perf_counter()
    with precision_of(precision, x.device)[1]():
        loss = rate_distortion(codec(x), x, rate_weight).loss
    torch.autograd.backward(loss)
    seconds = time.perf_counter() - start
    learnt = [p for part in (codec.net.g_a, codec.net.g_s) for p in part.parameters()]
    return torch.cat([p.grad.flatten() for p in learnt if p.grad is not None]), seconds


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="balle2018-vanilla-q8")
    parser.add_argument("--crops", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = find_model(arguments.model)
    codec = read_codec(spec.path).to(memory_format=torch.channels_last).train()
    photographs = read_photographs(arguments.photos, DataTable(memory_gib=0.5), torch.device("cpu"))
    draw = random.Random(0)
    x, other = (photographs.crops(draw, arguments.crops, 128) for _ in range(2))
    rate_weight = LAMBDAS[spec.quality - 1]
    exact, _ = gradient(codec, x, rate_weight, "fp32")
    print(f"{spec.name}, lambda {rate_weight}, {arguments.crops} crops, {arguments.threads} threads")
    differs = (gradient(codec, other, rate_weight, "fp32")[0] - exact).norm() / exact.norm()
    print(f"another batch: {differs:.2f}")
    for precision in ("fp32", "mixed", "bf16"):
        runs = [gradient(codec, x, rate_weight, precision) for _ in range(_PASSES)]
        error = (runs[0][0] - exact).norm() / exact.norm()
        print(f"{precision}: error {error:.3f}, {statistics.median(seconds for _, seconds in runs):.3f} s")


if __name__ == "__main__":
    main()
