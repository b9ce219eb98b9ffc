"""Give a finished model another carrier: python scripts/carry.py MODEL CARRIER TARGET.safetensors --data PHOTOS

CARRIER is a checkpoint of a carrier stage (carrier.ckpt) or a model that has one. All other weights stay as they are;
tables and what the encoder pays for exactness are found anew with the PHOTOS.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from slic_cli.registry import find_model, read_spec
from slic_cli.training.finish import leave, leaving_crops
from slic_cli.training.photographs import read_photographs
from slic_cli.training.recarry import read_carrier, recarry
from slic_cli.training.recipe import DataTable, ModelTable

_PATCH = 192  # as in the recipes of the models that share a carrier
_KEPT = ("architecture", "quality", "metric", "N", "M", "gain", "recipe", "photographs")


def main() -> None:
    """Write the model, and say what it does to held-out photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a registered model or a .safetensors file")
    parser.add_argument("carrier", help="carrier.ckpt, or a model")
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="training photographs")
    parser.add_argument("--levels", type=float, help="the wave's, where not the carrier's own")
    parser.add_argument("--pattern", type=float, help="levels of the pattern's luma, where not the carrier's own")
    parser.add_argument("--sums", type=float, default=1.0, help="what its sums over latents are multiplied by")
    parser.add_argument("--unit", type=int, help="as in a recipe's [model]")
    parser.add_argument("--distortion-weight", type=float, help="as in a recipe's [model]")
    given = parser.parse_args()
    model = find_model(given.model)
    carrier = read_carrier(given.carrier)
    carrier.levels = given.levels or carrier.levels
    carrier.pattern = carrier.pattern if given.pattern is None else given.pattern
    arrays = recarry(model.path, carrier, given.sums)
    n, m = arrays["g_a.6.weight"].shape[1::-1]
    table = ModelTable(
        model.name, model.quality, model.architecture, n, m, distortion_weight=given.distortion_weight, unit=given.unit
    )
    photographs = read_photographs(given.data, DataTable(patch=_PATCH), torch.device("cpu"))
    crops = leaving_crops(photographs, _PATCH)
    said = {key: value for key, value in model.metadata.items() if key in _KEPT}
    figures = leave(given.target, arrays, said, table, crops, photographs.validation, "cpu")
    spec = read_spec(given.target)
    print(f"{given.target}: {spec.digest[:12]}", *(f"{key} {value:.3f}" for key, value in figures.items()), sep="\n  ")


if __name__ == "__main__":
    main()
