"""The stages of a recipe, put together for the loop: base, slic, entropy."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slic_cli.errors import UsageError
from slic_cli.training.attacker import Attacker
from slic_cli.training.edits import make_edit
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.objectives import BaseObjective, EntropyObjective, SlicObjective
from slic_cli.training.photographs import Photographs
from slic_cli.training.precision import Context
from slic_cli.training.recipe import ALPHAS, BaseTable, EntropyTable, ModelTable, Recipe, SlicTable, StageTable
from slic_cli.training.validation import Validation, validate

_QUANTILE_RATE = 1e-3  # CompressAI's learning rate of the auxiliary loss

Groups = list[dict[str, Any]]


@dataclass
class CodecStage:
    """A stage that trains the codec."""

    name: str
    table: StageTable
    identity: Mapping[str, Any]
    trained: Hyperprior
    objective: nn.Module
    photographs: Photographs
    patch: int
    hyper_rate: float
    measure: Callable[[], Validation]
    norm_rate: float = 1.0

    def parameter_groups(self) -> Groups:
        """Weights that are not frozen, by pace: the networks around the hyper-latents, GDN, the prior's quantiles."""
        rates = {
            "plain": 1.0,
            "hyper": self.hyper_rate,
            "quantiles": _QUANTILE_RATE / self.table.learning_rate,
            "norms": self.norm_rate,
        }
        groups: Groups = [{"params": [], "rate": rate, "clipped": name != "quantiles"} for name, rate in rates.items()]
        members = dict(zip(rates, groups, strict=True))
        for name, parameter in self.trained.net.named_parameters():
            if parameter.requires_grad:
                members[_kind_of(name)]["params"].append(parameter)
        return groups

    def batch(self, draw: random.Random, count: int) -> Tensor:
        """Crops of the training photographs."""
        return self.photographs.crops(draw, count, self.patch)

    def validate(self) -> Validation:
        """As the stage's builder says."""
        return self.measure()


def _kind_of(parameter: str) -> str:
    if parameter.endswith(".quantiles"):
        return "quantiles"
    if parameter.endswith((".beta", ".gamma")):
        return "norms"
    return "hyper" if parameter.startswith(("h_", "entropy_bottleneck")) else "plain"


def identity_of(model: ModelTable, widths: Sequence[int], seed: int, gain: float) -> dict[str, Any]:
    """What a checkpoint of the codec must agree with to be gone on from."""
    return {
        "architecture": model.architecture,
        "n": model.n,
        "m": model.m,
        "widths": list(widths),
        "gain": gain,
        "seed": seed,
    }


def base_stage(recipe: Recipe, codec: Hyperprior, photographs: Photographs, context: Context) -> CodecStage:
    """Rate-distortion training of the vanilla codec. Raises UsageError for frozen weights that it has not."""
    table = recipe.base or BaseTable(minutes=1.0)
    rate_weight = recipe.model.rate_weight
    _freeze(codec.net, table.frozen)
    return CodecStage(
        "base",
        table,
        identity_of(recipe.model, codec.widths, recipe.data.seed, codec.gain),
        codec,
        BaseObjective(codec, table, rate_weight),
        photographs,
        recipe.data.patch,
        table.hyper_rate,
        partial(validate, codec, photographs.validation, rate_weight, context),
        table.norm_rate or 1.0,
    )


def slic_stage(
    recipe: Recipe,
    table: SlicTable,
    codec: Hyperprior,
    photographs: Photographs,
    context: Context,
    distance: nn.Module,
    load_codec: Callable[[str], nn.Module],
    unet: Path,
) -> CodecStage:
    """Adversarial fine-tuning; `unet` is where the jpeg-sim stage leaves its network."""
    device = codec.spread.device
    rate_weight = recipe.model.rate_weight
    alpha = ALPHAS[recipe.model.quality - 1] if table.alpha is None else table.alpha
    edits = [make_edit(_with_unet(edit, unet), load_codec=load_codec) for edit in table.edits]
    attacker = Attacker(edits, 0.0 if table.passes == "both" else table.clean_share, table.shift, table.group)
    return CodecStage(
        "slic",
        table,
        identity_of(recipe.model, codec.widths, recipe.data.seed, codec.gain),
        codec,
        SlicObjective(codec, distance.to(device), attacker, table, (rate_weight, alpha)),
        photographs,
        recipe.data.patch,
        1.0,
        partial(validate, codec, photographs.validation, rate_weight, context, distance, alpha, table.margin),
    )


def entropy_stage(
    recipe: Recipe, table: EntropyTable, codec: Hyperprior, photographs: Photographs, context: Context
) -> CodecStage:
    """Training of the entropy model; the transforms are frozen."""
    _freeze(codec.net, ("g_a.", "g_s."))
    return CodecStage(
        "entropy",
        table,
        identity_of(recipe.model, codec.widths, recipe.data.seed, codec.gain),
        codec,
        EntropyObjective(codec),
        photographs,
        recipe.data.patch,
        table.hyper_rate,
        partial(validate, codec, photographs.validation, recipe.model.rate_weight, context),
    )


def _freeze(net: nn.Module, frozen: Sequence[str]) -> None:
    """Leave the parameters whose names begin with one of `frozen` out of training. Raises UsageError for what none
    begins with."""
    parameters = dict(net.named_parameters())
    for start in frozen:
        if not any(name.startswith(start) for name in parameters):
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in parameters))
            raise UsageError(f"base.frozen: expected beginnings of weights in {parts}, got {start!r}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(not name.startswith(tuple(frozen)))


def _with_unet(edit: Mapping[str, Any], unet: Path) -> Mapping[str, Any]:
    """The network that this run's own jpeg-sim stage made, where the recipe names no other."""
    if edit.get("simulation") == "unet" and "weights" not in edit:
        return {**edit, "weights": str(unet)}
    return edit
