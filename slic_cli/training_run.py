"""What `slic train` does: reads the request, checks that the extra is there, runs the recipe, prints the result."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slic_cli.console import Console
from slic_cli.errors import UsageError
from slic_cli.training.recipe import Recipe, SlicTable, read_recipe, recipe_names, scale_budgets

_EXTRA = ("compressai", "torchvision")


@dataclass(frozen=True)
class Request:
    """A recipe as asked for: by name or path, perhaps renamed, with another quality, metric or budget."""

    recipe: str
    name: str | None = None
    quality: int | None = None
    metric: str | None = None
    minutes: float | None = None
    steps: int | None = None


def print_recipes(console: Console) -> None:
    """One record a recipe, with the stages it has."""
    for name in recipe_names():
        recipe, _ = read_recipe(name)
        stages = ", ".join(f"{stage} {_budget(recipe, stage)}" for stage in recipe.stages)
        record = {"recipe": name, "model": recipe.model.name, "stages": recipe.stages, "about": recipe.about}
        console.record(record, f"{name}: {recipe.about} ({stages})")


def _budget(recipe: Recipe, stage: str) -> str:
    table = recipe.stage(stage)
    return " ".join(f"{value:g} {unit}" for unit, value in table.budget.items()) if table else ""


def train(request: Request, settings: Mapping[str, Any], console: Console) -> None:
    """Run a recipe to its model. Raises UsageError, BadInput, ModelError, OutputError."""
    recipe, text = read_recipe(request.recipe)
    if request.minutes is not None and request.steps is not None:
        raise UsageError("--minutes, --steps: expected one of the two, got both")
    model: dict[str, Any] = {} if request.name is None else {"name": request.name}
    if request.quality is not None:  # a lambda and a unit that the recipe gives belong to its own quality
        model |= {"quality": request.quality, "distortion_weight": None, "unit": None}
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **model))
    if request.metric is not None:
        recipe = dataclasses.replace(recipe, slic=_with_metric(recipe, request.metric))
    stages = list(settings["stages"]) or recipe.stages
    recipe = scale_budgets(recipe, request.minutes, request.steps, stages)
    missing = [module for module in _EXTRA if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageError(f"train: expected the extra `train` (pip install 'slic-cli[train]'), got no {missing[0]}")
    from slic_cli.training.run import Settings, train

    out = settings["out"] or Path("runs") / recipe.model.name
    record = train(recipe, text, Settings(**{**settings, "out": out}), console)
    console.record(record, f"{record['out']}: trained {', '.join(record['stages'])}")


def _with_metric(recipe: Recipe, metric: str) -> SlicTable:
    """The recipe's slic stage with another metric; a tau that the recipe gives belongs to its own metric."""
    if recipe.slic is None:
        raise UsageError(f"--metric: expected a recipe with a slic stage, got one of {', '.join(recipe.stages)}")
    try:
        return dataclasses.replace(recipe.slic, metric=metric, tau=None)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
