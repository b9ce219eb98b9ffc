"""Patches per second of training's stages on this machine, and what the time goes to.

python scripts/training_speed.py PHOTOS [--recipe balle2018-lpips-q8] [--steps 12] [--backbone PATH] [--profile]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch

from slic_cli.console import Console
from slic_cli.training.recipe import Recipe, read_recipe
from slic_cli.training.reporting import read_metrics
from slic_cli.training.run import Settings, train

# What the transforms and the perceptual network are made of; everything else should not matter.
NETWORKS = ("conv", "mkldnn", "addmm", "cudnn", "gemm")


def short(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with `steps` for each of its stages, one validation photograph, and no jpeg-sim."""
    stages: dict[str, Any] = {
        name: dataclasses.replace(table, minutes=None, steps=steps, validate_minutes=1e6)
        for name in ("base", "slic")
        if (table := recipe.stage(name))
    }
    return dataclasses.replace(recipe, **stages, jpeg_sim=None, data=dataclasses.replace(recipe.data, validation=1))


def speeds(recipe: Recipe, settings: Settings) -> dict[str, float]:
    """Patches per second of each stage, from the clock that validations and checkpoints do not count in."""
    train(recipe, "", settings, Console(quiet=True))
    found = {}
    for name in ("base", "slic"):
        table = recipe.stage(name)
        mine = [r for r in read_metrics(settings.out) if r["stage"] == name and r["kind"] == "step"]
        if table and len(mine) > 1:
            first, last = mine[0], mine[-1]
            found[name] = table.batch * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
    return found


def network_share(run: Any) -> tuple[float, list[tuple[str, float]]]:
    """Share of the time inside convolutions and matrix products, and the ten largest operations with theirs."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    cuda = torch.cuda.is_available()
    if cuda:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    averages = profile.key_averages()
    times = {e.key: float(e.self_device_time_total if cuda else e.self_cpu_time_total) for e in averages}
    total = sum(times.values())
    share = sum(time for name, time in times.items() if any(part in name for part in NETWORKS)) / total
    largest = sorted(times.items(), key=lambda item: -item[1])[:10]
    return share, [(name, time / total) for name, time in largest]


def main() -> None:
    """Parse, train a few steps, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--recipe", default="balle2018-lpips-q8")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--profile", action="store_true", help="also say what the time goes to")
    arguments = parser.parse_args()
    recipe = short(read_recipe(arguments.recipe)[0], arguments.steps)
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(arguments.photos, Path(out), backbone=arguments.backbone, register=False)
        for stage, speed in speeds(recipe, settings).items():
            print(f"{stage}: {speed:.2f} patches of {recipe.data.patch} x {recipe.data.patch} pixels a second")
    if not arguments.profile:
        return
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(arguments.photos, Path(out), backbone=arguments.backbone, register=False)
        share, largest = network_share(lambda: train(recipe, "", settings, Console(quiet=True)))
    print(f"convolutions and matrix products: {100 * share:.1f}% of the time")
    for name, part in largest:
        print(f"  {100 * part:5.1f}%  {name}")


if __name__ == "__main__":
    main()
