"""How far a codec's output can be driven from its input by a perturbation of given strength, found with its gradients.

python scripts/robustness.py PHOTOS --model NAME [--model NAME ...] [--db 40 --db 34] [--steps 150] [--limit 4]

For the middle of each photograph, the strongest kind of attack: made for this picture and this model (projected
gradient ascent on the squared error, Madry et al. 2018). A perturbation that is the same for all pictures does less.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.image_io import decode_image
from slic_cli.registry import find_model
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.pixels import to_tensor
from slic_cli.training.rounding import to_eight_bits
from slic_cli.training.start import read_codec

SIZE = 128  # pixels a side of what is attacked


def middle(path: Path) -> Tensor:
    """The middle of a photograph: (1, 3, SIZE, SIZE) in [0, 1]."""
    picture = to_tensor(decode_image(path.read_bytes(), str(path)).pixels, torch.device("cpu"))
    top, left = ((side - SIZE) // 2 for side in picture.shape[2:])
    return picture[..., top : top + SIZE, left : left + SIZE]


def squared_error(codec: Hyperprior, x: Tensor) -> Tensor:
    """Between 8-bit pictures and what the codec makes of them."""
    return F.mse_loss(codec.recompress(x), x)


def in_db(error: float) -> float:
    """PSNR of a mean squared error in [0, 1] units."""
    return -10 * math.log10(error)


def worst(codec: Hyperprior, x: Tensor, strength_db: float, steps: int) -> float:
    """The largest squared error found for `x` with a perturbation of at least `strength_db` PSNR."""
    radius = (10 ** (-strength_db / 10) * x.numel()) ** 0.5
    perturbation = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    perturbation = (perturbation * radius / perturbation.norm()).requires_grad_()
    optimiser = torch.optim.Adam([perturbation], radius / x.numel() ** 0.5)
    largest = 0.0
    for _ in range(steps):
        error = squared_error(codec, to_eight_bits(x + perturbation))
        largest = max(largest, error.item())
        optimiser.zero_grad()
        torch.autograd.backward(-error.log())
        optimiser.step()
        with torch.no_grad():
            perturbation *= min(1.0, radius / perturbation.norm().item())
    return largest


def main() -> None:
    """Print a Markdown table, means over the photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--db", type=float, action="append")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--limit", type=int, default=4)
    arguments = parser.parse_args()
    strengths = arguments.db or [40.0, 34.0]
    pictures = [middle(path) for path in itertools.islice(sorted(arguments.photos.glob("*.png")), arguments.limit)]
    print(f"| model | no perturbation (dB) | {' | '.join(f'{db:g} dB of perturbation' for db in strengths)} |")
    print("|---" * (2 + len(strengths)) + "|")
    for name in arguments.model:
        codec = read_codec(find_model(name).path).eval().requires_grad_(False)
        columns = [[squared_error(codec, x).item() for x in pictures]]
        columns += [[worst(codec, x, db, arguments.steps) for x in pictures] for db in strengths]
        means = [sum(map(in_db, column)) / len(column) for column in columns]
        print(f"| {name} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
