"""Which weights learn at which pace."""

from __future__ import annotations

import dataclasses
import random
from contextlib import nullcontext
from functools import partial

import pytest
import torch

pytest.importorskip("compressai")

from slic_cli.errors import UsageError
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.photographs import Photographs
from slic_cli.training.recipe import BaseTable, EntropyTable, ModelTable, Recipe
from slic_cli.training.stages import base_stage, entropy_stage

PHOTOGRAPHS = Photographs([torch.zeros(3, 64, 64, dtype=torch.uint8)], [], 0, 0)


def rates_of(recipe: Recipe, codec: Hyperprior) -> dict[str, float]:
    """Of every parameter by name, relative to the learning rate."""
    entropy = recipe.entropy or EntropyTable(steps=1)
    make = base_stage if recipe.base else partial(entropy_stage, table=entropy)
    groups = make(recipe, codec=codec, photographs=PHOTOGRAPHS, context=nullcontext).parameter_groups()
    by_id = {id(parameter): group["rate"] for group in groups for parameter in group["params"]}
    assert len(by_id) == sum(len(group["params"]) for group in groups)
    return {name: by_id[id(value)] for name, value in codec.net.named_parameters() if id(value) in by_id}


def test_every_weight_has_the_pace_of_its_kind() -> None:
    base = BaseTable(steps=1, learning_rate=1e-4, hyper_rate=5.0, norm_rate=25.0)
    rates = rates_of(Recipe(ModelTable("mine", 8), base=base), Hyperprior(8, 12))
    assert rates["g_a.0.weight"] == rates["g_s.6.bias"] == 1
    assert rates["h_a.0.weight"] == rates["h_s.4.bias"] == rates["entropy_bottleneck.matrices.0"] == 5
    assert rates["g_a.1.gamma"] == rates["g_s.5.gamma"] == rates["g_a.3.beta"] == 25
    assert rates["entropy_bottleneck.quantiles"] == pytest.approx(10)


def test_frozen_weights_are_in_no_group() -> None:
    recipe = Recipe(ModelTable("mine", 8), entropy=EntropyTable(steps=1))
    assert not [name for name in rates_of(recipe, Hyperprior(8, 12)) if name.startswith("g_")]


def test_a_base_leaves_out_what_a_recipe_freezes() -> None:
    def learning(*frozen: str) -> set[str]:
        base = BaseTable(steps=1, frozen=frozen)
        return set(rates_of(Recipe(ModelTable("mine", 8), base=base), Hyperprior(8, 12)))

    assert learning("h_s", "g_a.6.bias") == {
        name for name in learning() if not name.startswith("h_s") and name != "g_a.6.bias"
    }
    with pytest.raises(
        UsageError, match=r"base\.frozen: expected beginnings of weights in entropy_bottleneck, .*, got 'g_x'"
    ):
        learning("g_x")


def test_norms_that_learn_fast_move_further() -> None:
    moved = []
    for rate in (0.0, 100.0):
        torch.manual_seed(0)
        base = dataclasses.replace(BaseTable(steps=1, learning_rate=1e-4), norm_rate=rate)
        codec = Hyperprior(8, 12)
        stage = base_stage(Recipe(ModelTable("mine", 8), base=base), codec, PHOTOGRAPHS, nullcontext)
        groups = [{**group, "lr": 1e-4 * group["rate"]} for group in stage.parameter_groups()]
        before = codec.net.g_a[1].gamma.detach().clone()
        torch.autograd.backward(stage.objective(torch.rand(1, 3, 64, 64), random.Random(0), 0.0).loss)
        torch.optim.Adam(groups).step()
        moved.append((codec.net.g_a[1].gamma - before).abs().max().item())
    assert moved[1] > 10 * moved[0]
