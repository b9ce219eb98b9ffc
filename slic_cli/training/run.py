"""`slic train`: the stages of a recipe one after another in a run's directory, then the export.

A run's directory holds recipe.toml, metrics.jsonl, pictures/, a checkpoint for each stage (base.ckpt, jpeg-sim.ckpt,
slic.ckpt, entropy.ckpt), unet-jpeg.safetensors, plot.png and the model, NAME.safetensors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slic_cli.codec import choose_device
from slic_cli.console import Console
from slic_cli.errors import OutputExists, UsageError
from slic_cli.files import write_atomically
from slic_cli.outputs import make_directory
from slic_cli.registry import find_model, list_models
from slic_cli.training.attacker import Attacker
from slic_cli.training.carrier import Carrier, load_carrier
from slic_cli.training.carrier_stage import carrier_stage
from slic_cli.training.codecs import new_codec
from slic_cli.training.distances import make_distance
from slic_cli.training.edits import make_edit
from slic_cli.training.finish import export_run
from slic_cli.training.graft import check_filters, filters_of, graft
from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.jpeg_stage import jpeg_stage
from slic_cli.training.loop import Stage, run_stage
from slic_cli.training.norms import set_units, wake
from slic_cli.training.photographs import Photographs, read_photographs
from slic_cli.training.precision import Context, precision_of
from slic_cli.training.recarry import read_carrier
from slic_cli.training.recipe import (
    CODEC_STAGES,
    BaseTable,
    CarrierTable,
    EntropyTable,
    JpegSimTable,
    Recipe,
    SlicTable,
)
from slic_cli.training.reporting import Reporter, plot
from slic_cli.training.stages import base_stage, entropy_stage, slic_stage
from slic_cli.training.start import KARHUNEN_LOEVE, path_of, read_codec, start_codec
from slic_cli.training.unet_jpeg import UNetJpeg, save_unet
from slic_cli.training.world import World, join_world, leave_world

UNET_FILE = "unet-jpeg.safetensors"
RECIPE_FILE = "recipe.toml"
_START_CROPS, _START_SIZE = 64, 256


@dataclass(frozen=True)
class Settings:
    """How a recipe is run: all that is not part of the recipe itself."""

    data: Path
    out: Path
    stages: tuple[str, ...] = ()
    start: str | None = None
    backbone: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    resume: bool = False
    force: bool = False
    register: bool = True


@dataclass
class Run:
    """A recipe on its way: what every stage needs."""

    recipe: Recipe
    settings: Settings
    photographs: Photographs
    world: World
    report: Reporter
    context: Context
    distance: nn.Module  # of the slic stage

    def checkpoint(self, stage: str) -> Path:
        """Where a stage keeps itself."""
        return self.settings.out / f"{stage}.ckpt"

    def path_of_unet(self) -> Path:
        """Where the jpeg-sim stage leaves its network."""
        return self.settings.out / UNET_FILE


def train(recipe: Recipe, text: str, settings: Settings, console: Console) -> dict[str, Any]:
    """Run the stages of a recipe, and export; returns the record that --json prints.

    `text` is the recipe as it was written, kept beside the weights. Raises every SlicError of the parts.
    """
    device = choose_device(settings.device)
    precision, context = precision_of(settings.precision, device)
    stages = list(settings.stages or recipe.stages)
    for name in stages:
        if recipe.stage(name) is None:
            raise UsageError(f"--stage {name}: expected one of the recipe's: {', '.join(recipe.stages)}")
    _check_name(recipe.model.name, settings)
    _check_stages(settings, stages)
    distance = _check_adversary(recipe, settings) if "slic" in stages else nn.Identity()
    world = join_world(device)
    try:
        quiet = console if world.leads else Console(quiet=True)
        photographs = read_photographs(settings.data, recipe.data, world.device)
        if world.leads:
            _prepare(settings, text, stages)
        world.wait()
        quiet.log(
            f"{len(photographs.train)} photographs to train on, {len(photographs.validation)} held out, "
            f"{photographs.unreadable} unreadable, {photographs.too_small} too small; {world.device}, {precision}"
        )
        report = Reporter(settings.out, quiet, world.leads)
        run = Run(recipe, settings, photographs, world, report, context, distance)
        return _run_stages(run, stages, quiet)
    finally:
        leave_world(world)


def _check_stages(settings: Settings, stages: list[str]) -> None:
    """Refuse to train again what is there already."""
    there = [name for name in stages if (settings.out / f"{name}.ckpt").exists()]
    if there and not (settings.resume or settings.force):
        raise OutputExists(f"{settings.out}: holds {', '.join(there)}; expected --resume, --force or another --out")


def _prepare(settings: Settings, text: str, stages: list[str]) -> None:
    """The run's directory, with the recipe and without what is to be trained anew."""
    out = make_directory(settings.out)
    for name in () if settings.resume else stages:
        (out / f"{name}.ckpt").unlink(missing_ok=True)
    write_atomically(out / RECIPE_FILE, text.encode(), force=True)


def _check_name(name: str, settings: Settings) -> None:
    """Refuse now what would only fail after hours of training: a name that is taken."""
    if not settings.register or settings.force or settings.resume:
        return
    taken = next((spec for spec in list_models()[0] if spec.name == name), None)
    if taken:
        raise OutputExists(f"a model {name} is registered already; expected --name, --no-register or --force")


def _check_adversary(recipe: Recipe, settings: Settings) -> nn.Module:
    """The slic stage's distance. What is wrong with it or the edits is found now, not after the base stage."""
    table = recipe.slic or SlicTable(minutes=1.0)
    for edit in table.edits:
        if edit.get("simulation") != "unet" and edit.get("name") != "codec":
            make_edit(edit)
    return make_distance(table.metric, settings.backbone)


def _run_stages(run: Run, stages: list[str], console: Console) -> dict[str, Any]:
    codec: Hyperprior | None = None
    for name in stages:
        if name == "jpeg-sim":
            _finish(
                run,
                name,
                jpeg_stage(_table(run, JpegSimTable), run.photographs, run.recipe, run.world.device),
            )
        elif name == "carrier":
            _finish(run, name, _carrier_stage(run))
            if "slic" not in run.recipe.stages and (run.settings.start or run.checkpoint("base").is_file()):
                codec = _new_codec(run, name)
        else:
            codec = _new_codec(run, name)
            _finish(run, name, _codec_stage(run, name, codec))
    record: dict[str, Any] = {"out": str(run.settings.out), "stages": stages}
    if run.world.leads:
        plot(run.settings.out)
        if codec is not None:
            record |= export_run(run.recipe, run.settings.out, codec, run.photographs, run.settings, console)
    return record


def _finish(run: Run, name: str, stage: Stage) -> None:
    """Train a stage to its end; a signal leaves from within, after saving."""
    run.report.begin(name)
    try:
        run_stage(stage, run.checkpoint(name), run.world, run.report, run.context, run.settings.resume)
    finally:
        run.report.end()
    if isinstance(stage.trained, UNetJpeg) and run.world.leads:
        save_unet(run.path_of_unet(), stage.trained, {"recipe": run.recipe.model.name})
    run.world.wait()


def _table(run: Run, kind: type[Any]) -> Any:
    return next(table for name in run.recipe.stages if type(table := run.recipe.stage(name)) is kind)


def _codec_stage(run: Run, name: str, codec: Hyperprior) -> Stage:
    if name == "base":
        return base_stage(run.recipe, codec, run.photographs, run.context)
    if name == "entropy":
        return entropy_stage(run.recipe, _table(run, EntropyTable), codec, run.photographs, run.context)
    load = partial(_frozen_codec, run)
    table, unet = _table(run, SlicTable), run.path_of_unet()
    return slic_stage(run.recipe, table, codec, run.photographs, run.context, run.distance, load, unet)


def _carrier_stage(run: Run) -> Stage:
    table, recipe = _table(run, CarrierTable), run.recipe
    torch.manual_seed(random.Random(f"{recipe.data.seed} carrier").getrandbits(63))
    # Two at a time: where the wave ends up decides what a codec leaves of it, so a step should see many places.
    attacker = Attacker([make_edit(edit) for edit in table.edits], clean_share=0.0, shift_probability=0.9, group=2)
    filters = filters_of(recipe.model.architecture)
    identity = {"levels": table.levels, "pattern": table.pattern, "filters": filters, "seed": recipe.data.seed}
    carrier = Carrier(table.levels, filters, table.pattern)
    if table.start:
        earlier = read_carrier(table.start)
        check_filters(earlier, recipe.model.architecture)
        carrier.load_state_dict(earlier.state_dict())
    carrier.to(run.world.device)
    return carrier_stage(table, identity, carrier, run.photographs, recipe.data.patch, attacker)


def _new_codec(run: Run, name: str) -> Hyperprior:
    """The codec as a stage finds it: `--start`, the recipe's start, or what the base stage of this run left."""
    model, draw = run.recipe.model, random.Random(f"{run.recipe.data.seed} start")
    torch.manual_seed(draw.getrandbits(63))
    carried = name != "base" and run.recipe.carrier is not None
    gain, widths = best_gain(model.rate_weight), run.recipe.widths(carried)
    codec = new_codec(model.architecture, model.n, model.m, gain, widths)
    size = min(_START_SIZE, run.recipe.data.patch)
    crops = list(run.photographs.crops(draw, _START_CROPS, size).cpu())
    start_codec(codec, _start(run, name), model, crops)
    if name == "base":
        codec.regain(gain)
        _prepare_norms(codec, _table(run, BaseTable), crops)
    if carried and (name == "slic" or "slic" not in run.recipe.stages) and run.checkpoint("carrier").is_file():
        table = _table(run, CarrierTable)
        graft(codec, load_carrier(run.checkpoint("carrier")), table.sensitivity, table.sums)
    return codec.to(run.world.device).to(memory_format=torch.channels_last).train()


def _prepare_norms(codec: Hyperprior, table: BaseTable, crops: Sequence[torch.Tensor]) -> None:
    if table.wake:
        wake(codec, crops, table.wake)
    if table.norm_rate:
        set_units(codec, crops)


def _start(run: Run, name: str) -> str:
    """What a stage starts from: `--start` for the first that needs a codec, else the recipe's, else this run's own."""
    takers = [stage for stage in run.settings.stages or run.recipe.stages if stage in (*CODEC_STAGES, name)]
    if run.settings.start and name == takers[0]:
        return path_of(run.settings.start)
    if name == "base":
        return path_of(_table(run, BaseTable).start or KARHUNEN_LOEVE)
    start = "" if name == "carrier" else _table(run, SlicTable if name == "slic" else EntropyTable).start
    before = [path for stage in ("slic", "base") if stage != name and (path := run.checkpoint(stage)).is_file()]
    if not start and not before:
        raise UsageError(
            f"{name}: expected a codec to start from: --start, `start` in the recipe, or the base stage first"
        )
    return path_of(start) if start else str(before[0])


def _frozen_codec(run: Run, name: str) -> nn.Module:
    """A vanilla codec for the noise attacker: "base" is this run's own, others are the registry's."""
    if name == "base":
        model = run.recipe.model
        codec = new_codec(model.architecture, model.n, model.m, best_gain(model.rate_weight), model.widths)
        start_codec(codec, str(run.checkpoint("base")), model, [])
    else:
        codec = read_codec(find_model(name).path)
    codec.to(run.world.device).eval().requires_grad_(False)
    return _Recompress(codec)


class _Recompress(nn.Module):
    """A codec as an edit."""

    def __init__(self, codec: Hyperprior) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures through the codec and back."""
        return self.codec.recompress(x)
