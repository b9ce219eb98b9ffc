"""What each distance of training gives for ruined photographs: the scale that tau has to fit.

python scripts/distance_scales.py PHOTOS [--model balle2018-lpips-q8] [--backbone PATH]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from slic_cli.codec import Codec
from slic_cli.image_io import decode_image
from slic_cli.registry import DEFAULT_MODEL, find_model
from slic_cli.training.distances import DISTANCES, TAUS, make_distance
from slic_cli.training.pixels import Pixels, to_tensor

SIZE = 64  # pixels a side of a crop, the least that all distances take
PHOTOGRAPHS = 8
SQUARE = 8  # pixels a side of the checkerboard's


def crops(pixels: Pixels) -> Tensor:
    """Four crops, (4, 3, SIZE, SIZE) in [0, 1], around the middle of uint8 (h, w, 3)."""
    top, left = (side // 2 - SIZE for side in pixels.shape[:2])
    whole = to_tensor(pixels, torch.device("cpu"))[..., top : top + 2 * SIZE, left : left + 2 * SIZE]
    return torch.cat([crop for half in torch.split(whole, SIZE, 2) for crop in torch.split(half, SIZE, 3)])


def ruins(paths: list[Path], model: str) -> tuple[Tensor, dict[str, Tensor]]:
    """First decodes of photographs, and by name what they are compared with."""
    codec = Codec(find_model(model))
    first, second = [], []
    for path in paths:
        _, decoded = codec.recompress(decode_image(path.read_bytes(), str(path)).pixels)
        first.append(crops(decoded))
        second.append(crops(codec.recompress(decoded)[1]))
    pictures = torch.cat(first)
    squares = torch.arange(SIZE) // SQUARE % 2
    return pictures, {
        "second decode": torch.cat(second),
        "another photograph": pictures.roll(4, 0),
        "noise": torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0)),
        "checkerboard": (squares[:, None] ^ squares).float().expand_as(pictures),
    }


@torch.inference_mode()
def rows(pictures: Tensor, others: dict[str, Tensor], backbone: Path | None) -> Iterator[list[str]]:
    """Name, mean distance of each ruin, their mean, tau."""
    batches = torch.split(pictures, 4)
    for name in DISTANCES:
        distance = make_distance(name, backbone)
        means = [
            torch.cat([distance(a, b) for a, b in zip(batches, torch.split(ruin, 4), strict=True)]).mean().item()
            for ruin in others.values()
        ]
        yield [name, *(f"{value:.3g}" for value in (*means, sum(means) / len(means), TAUS[name]))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--backbone", type=Path)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.photographs.iterdir() if path.suffix in (".png", ".jpg"))[:PHOTOGRAPHS]
    pictures, others = ruins(paths, arguments.model)
    head = ["metric", *others, "mean", "tau"]
    for line in (head, ["---"] * len(head), *rows(pictures, others, arguments.backbone)):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
