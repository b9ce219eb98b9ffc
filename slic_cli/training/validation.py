"""What a codec in training does to photographs it is not trained on, with the real edits of `slic attack`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from slic_cli.attacks import Attack, parse_attack
from slic_cli.metrics import psnr_db, worst_block_db
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.objectives import rate_distortion
from slic_cli.training.pixels import Pixels, to_pixels, to_tensor
from slic_cli.training.precision import Context

# Crop by odd offsets moves the picture off the codec's grid; the others are the paper's hardest and most common.
EDITS = ("crop", "blur:radius=1", "median:size=3", "jpeg:quality=85", "resize:scale=0.95")
_SHOWN_EDIT = "jpeg:quality=85"
_CEILING_DB = 100.0  # stands for the infinite PSNR of equal pictures in means


@dataclass(frozen=True)
class Validation:
    """`row` of means over the photographs (bpp, dB, d), `loss` for the schedule, `picture` to look at: one photograph,
    its first decode, its second decode, the second decode of the edited first, side by side."""

    row: dict[str, float]
    loss: float
    picture: Pixels


@torch.inference_mode()
def validate(
    codec: Hyperprior,
    photographs: Sequence[Tensor],
    rate_weight: float,
    context: Context,
    distance: nn.Module | None = None,
    adversarial_weight: float = 0.0,
    tau: float = 1.0,
) -> Validation:
    """Measure `codec` on uint8 photographs (3, h, w); `distance` None leaves out edits, for a vanilla codec.

    The loss is that of equations 5 and 6 for unedited pictures, distances in units of `tau`.
    """
    codec.eval()
    rows, pictures = [], []
    edits = [parse_attack(text) for text in EDITS] if distance else []
    for photo in photographs:
        with context():
            row, shown = _measure(codec, photo, rate_weight, edits, distance)
        rows.append(row)
        pictures.append(shown)
    codec.train()
    row = {key: sum(item[key] for item in rows) / len(rows) for key in rows[0]}
    loss = row["loss"] + adversarial_weight * max(0.0, 1 - row.get("d_clean", tau) / tau)
    return Validation({key: value for key, value in row.items() if key != "loss"}, loss, pictures[0])


def _measure(
    codec: Hyperprior, photo: Tensor, rate_weight: float, edits: Sequence[Attack], distance: nn.Module | None
) -> tuple[dict[str, float], Pixels]:
    x = photo[None].float() / 255
    original = to_pixels(x[0])
    coded = codec(x)
    terms = rate_distortion(coded, x, rate_weight)
    first = to_pixels(coded.pictures[0])
    second = _recompress(codec, first)
    row = {
        "loss": terms.loss.item(),
        "bpp": terms.figures["bpp"].item(),
        "psnr_db": _psnr(original, first),
        "worst_block_db": min(_CEILING_DB, worst_block_db(original, first)),
        "clean_db": _psnr(first, second),
    }
    shown = [original, first, second]
    for edit in edits:
        edited = edit.apply(first)
        again = _recompress(codec, edited)
        row[f"{edit.slug}_db"] = _psnr(edited, again)
        if edit == parse_attack(_SHOWN_EDIT):
            shown.append(again)
    if distance is not None:
        row["d_clean"] = distance(to_tensor(first, x.device), to_tensor(second, x.device)).item()
    return row, np.concatenate(shown, 1)


def _recompress(codec: Hyperprior, pixels: Pixels) -> Pixels:
    """A second pass, its borders repeated up to a whole number of latents as the product does."""
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    again = codec.recompress(to_tensor(padded, codec.spread.device))
    return to_pixels(again[0])[:height, :width]


def _psnr(a: Pixels, b: Pixels) -> float:
    return min(_CEILING_DB, psnr_db(a, b))


def format_row(row: Mapping[str, float]) -> str:
    """A row for people: name and value, units in the names."""
    return ", ".join(
        f"{key.removesuffix('_db')} {value:.3f}{' dB' * key.endswith('_db')}"
        for key, value in row.items()
        if not math.isnan(value)
    )
