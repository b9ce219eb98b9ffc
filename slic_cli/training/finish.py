"""The last stage: from a trained codec to a model file with measured figures, under a name that encode knows."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slic_cli.attacks import parse_attack
from slic_cli.codec import Codec, Pixels
from slic_cli.console import Console
from slic_cli.container import serialise
from slic_cli.files import write_atomically
from slic_cli.latent_tables import USUAL_UNIT
from slic_cli.metrics import bits_per_pixel, psnr_db
from slic_cli.outputs import make_directory
from slic_cli.registry import own_models_directory, read_spec
from slic_cli.training.drafts import choose, prepare
from slic_cli.training.graft import answering
from slic_cli.training.hyperprior import Arrays, Hyperprior
from slic_cli.training.photographs import Photographs
from slic_cli.training.pixels import to_pixels
from slic_cli.training.recipe import ModelTable, Recipe
from slic_cli.training.reporting import last_rows
from slic_cli.training.sleeping import let_sleep
from slic_cli.training.validation import EDITS

if TYPE_CHECKING:
    from slic_cli.training.run import Settings

_CARRIER = "carrier"  # the metric of a codec that has been fine-tuned with none
_CEILING_DB = 100.0
_CROPS, _CROP = 96, 256  # from which it is told what sleeps: their number, and their side where patches are as large
_FITTED = 48  # of them, which tables are fitted to


def export_run(
    recipe: Recipe, out: Path, codec: Hyperprior, photographs: Photographs, settings: Settings, console: Console
) -> dict[str, Any]:
    """Write OUT/NAME.safetensors with what the real codec does to the held-out photographs, and register it."""
    crops = leaving_crops(photographs, recipe.data.patch)
    arrays = let_sleep(codec.folded(), codec.architecture, _latents(codec, crops))
    metadata = _metadata(recipe, out, codec, photographs)
    if metadata["metric"] == _CARRIER:  # alone: after the slic stage its latents may mean something to other channels
        arrays |= answering(codec)
    path = out / f"{recipe.model.name}.safetensors"
    figures = leave(path, arrays, metadata, recipe.model, crops, photographs.validation, settings.device)
    spec = read_spec(path)
    record = {"model": spec.name, "path": str(path), "digest": spec.digest, **figures}
    if settings.register:
        record["registered"] = str(_register(path, settings.force or settings.resume))
    console.log(f"{path}: {', '.join(f'{key} {value:.2f}' for key, value in figures.items())}")
    return record


def leaving_crops(photographs: Photographs, patch: int) -> Tensor:
    """What a codec that leaves is shown of the training photographs: floats (n, 3, side, side) in [0, 1]."""
    return photographs.crops(random.Random("leaving"), _CROPS, min(_CROP, patch))


def leave(
    path: Path,
    arrays: Arrays,
    metadata: Mapping[str, str],
    model: ModelTable,
    crops: Tensor,
    held_out: Sequence[Tensor],
    device: str,
) -> dict[str, float]:
    """Write a model file of plain weights, with tables fitted to half of `crops`, floats in [0, 1]; what the codec does
    to the `held_out` photographs, uint8 (3, h, w)."""
    pictures = [to_pixels(photo.float() / 255) for photo in held_out]
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        leaving = prepare(Path(scratch) / path.name, arrays, metadata, device, model.unit or USUAL_UNIT)
        seen = [to_pixels(crop) for crop in crops[:_FITTED]]
        tradeoff, tables = choose(leaving, seen, pictures, model.rate_weight)
        figures = _measure(leaving.codec(tradeoff, tables), pictures)
    leaving.write(path, tradeoff, tables, {key: f"{value:.3f}" for key, value in figures.items()})
    return figures


@torch.no_grad()
def _latents(codec: Hyperprior, crops: Tensor) -> list[npt.NDArray[np.float32]]:
    """Before rounding: float32 (M, rows, columns) for each crop, zeros beyond what a narrow codec has."""
    beyond = ((0, codec.m - codec.widths[3]), (0, 0), (0, 0))
    device = codec.spread.device
    return [np.pad(codec.analyse(crop[None].to(device))[0].cpu().numpy(), beyond) for crop in crops]


def _metadata(recipe: Recipe, out: Path, codec: Hyperprior, photographs: Photographs) -> dict[str, str]:
    model, rows = recipe.model, last_rows(out)
    steps = {f"steps_{stage.replace('-', '_')}": str(row["step"]) for stage, row in rows.items()}
    return {
        "architecture": model.architecture,
        "quality": str(model.quality),
        "metric": _metric(recipe, rows),
        "N": str(model.n),
        "M": str(model.m),
        "gain": repr(codec.gain),
        "recipe": model.name,
        "photographs": str(len(photographs.train)),
        **steps,
    }


def _metric(recipe: Recipe, stages: Collection[str]) -> str:
    """The distance that the codec was fine-tuned with, here or before its entropy model was trained anew, or that it
    has a carrier alone."""
    if recipe.slic and "slic" in stages:
        return recipe.slic.metric
    if recipe.carrier and not recipe.slic and "carrier" in stages:
        return _CARRIER
    return recipe.entropy.metric if recipe.entropy and "entropy" in stages else "none"


def _measure(codec: Codec, pictures: Sequence[Pixels]) -> dict[str, float]:
    """Means over the pictures, from real files and real edits: rate and re-compression PSNR."""
    rows = [_measure_one(codec, pixels) for pixels in pictures]
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _measure_one(codec: Codec, pixels: Pixels) -> dict[str, float]:
    file = codec.encode(pixels)
    first = codec.decode(file)
    row = {
        "validation_bpp": bits_per_pixel(len(serialise(file)), *pixels.shape[:2]),
        "validation_psnr_db": min(_CEILING_DB, psnr_db(pixels, first)),
        "validation_clean_db": min(_CEILING_DB, psnr_db(first, codec.recompress(first)[1])),
    }
    for edit in map(parse_attack, EDITS):
        edited = edit.apply(first)
        row[f"validation_{edit.slug}_db"] = min(_CEILING_DB, psnr_db(edited, codec.recompress(edited)[1]))
    return row


def _register(path: Path, force: bool) -> Path:
    """A copy where the registry looks; an older one of that name is replaced only if asked for."""
    target = make_directory(own_models_directory()) / path.name
    write_atomically(target, path.read_bytes(), force)
    return target
