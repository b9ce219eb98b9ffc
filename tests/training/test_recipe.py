"""Recipes: the shipped ones load, wrong ones are refused by key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slic_cli.entropy.latent_coder import LATENT_UNITS
from slic_cli.errors import UsageError
from slic_cli.training.distances import DISTANCES, TAUS
from slic_cli.training.recipe import (
    ALPHAS,
    LAMBDAS,
    BaseTable,
    DataTable,
    ModelTable,
    Recipe,
    SlicTable,
    parse_recipe,
    read_recipe,
    recipe_names,
    scale_budgets,
)

GOOD = """
[model]
name = "mine"
quality = 8

[base]
minutes = 30

[jpeg-sim]
steps = 5
quality = [60, 90]

[slic]
minutes = 60
edits = [{ name = "blur" }]
"""


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe, text = read_recipe(name)
    assert recipe.about and recipe.stages
    assert parse_recipe(text) == recipe


def test_a_recipe_says_what_it_says() -> None:
    recipe = parse_recipe(GOOD)
    assert recipe.stages == ["base", "jpeg-sim", "slic"]
    assert recipe.model == ModelTable("mine", 8)
    assert recipe.base == BaseTable(minutes=30.0)
    assert recipe.jpeg_sim is not None and recipe.jpeg_sim.quality == (60, 90)
    assert recipe.slic is not None and recipe.slic.edits == ({"name": "blur"},)
    assert recipe.data == DataTable()


def test_lambda_and_alpha_go_by_quality() -> None:
    assert [ModelTable("mine", quality).rate_weight for quality in range(1, 9)] == list(LAMBDAS)
    assert ModelTable("mine", 8, distortion_weight=0.1).rate_weight == 0.1
    assert len(ALPHAS) == 8 and ALPHAS[7] == 2.5


def test_a_unit_is_at_most_a_step() -> None:
    assert ModelTable("mine", 8, unit=LATENT_UNITS).unit == 64 and ModelTable("mine", 8).unit is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("quality = 8", "quality = 8\nunit = 65", "model.unit: expected 1 to 64, got 65"),
        ("quality = 8", "quality = 8\nunit = 0", "model.unit: expected 1 to 64, got 0"),
        ("quality = 8", "quality = 9", "model.quality: expected 1 to 8, got 9"),
        ("quality = 8", 'quality = "8"', "model.quality: expected a whole number, got '8'"),
        ("quality = 8", "quality = true", "model.quality: expected a whole number, got True"),
        ("quality = 8", "", "model.quality: expected a value, got None"),
        ("quality = 8", "quality = 8\nM = 3", "model.M: expected one of name, quality, architecture, n, m"),
        ('"mine"', '"Mine!"', "model.name: expected a-z"),
        ("[model]", "[mode]", "mode: expected one of model, data, base"),
        ("[60, 90]", "[90, 60]", "jpeg_sim.quality: expected two whole numbers in order"),
        ("[60, 90]", "[60]", "jpeg_sim.quality: expected two whole numbers in order"),
        ("minutes = 30", "minutes = 30\nsteps = 3", "base.minutes, steps: expected one of the two"),
        ("minutes = 30", "minutes = 30\nnorm_rate = -1", "base.norm_rate: expected 0 or more, got -1.0"),
        ("minutes = 30", "minutes = 30\nwake = -1", "base.wake: expected 0 or more, got -1.0"),
        ("minutes = 30", "minutes = 30\nfrozen = [3]", "base.frozen: expected a text, got 3"),
        ("[base]", "[data]\nscales = [1, 5]\n[base]", "data.scales: expected numbers above 0, up to 4, got (1.0, 5.0)"),
        ("[base]", "[data]\nscales = []\n[base]", "data.scales: expected numbers above 0, up to 4, got ()"),
        ("minutes = 30", "", "base.minutes, steps: expected one of the two"),
        ("minutes = 30", "minutes = -1", "base.minutes, steps: expected more than 0"),
        ("minutes = 30", 'minutes = 30\noptimiser = "sgd"', "base.optimiser: expected adam or soap"),
        ("minutes = 30", 'minutes = 30\nschedule = "linear"', "base.schedule: expected cosine or plateau"),
        ("[{ name", "[3, { name", "slic.edits: expected a list of tables"),
        ("minutes = 60", "minutes = 60\nshift = 2", "slic.shift: expected 0 to 1, got 2.0"),
        ("minutes = 60", 'minutes = 60\nmetric = "ssim"', "slic.metric: expected one of lpips, dists, vgg"),
        ("minutes = 60", "minutes = 60\ntau = 0", "slic.tau: expected more than 0, got 0.0"),
        ("minutes = 60", 'minutes = 60\npasses = "two"', "slic.passes: expected one or both"),
        ("[base]", "[base", "expected TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_key(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=r"^mine\.toml: ") as refusal:
        parse_recipe(GOOD.replace(old, new, 1), "mine.toml")
    assert said in str(refusal.value)


def test_residual_channels_are_not_woken() -> None:
    text = GOOD.replace("quality = 8", "quality = 3\nm = 192\narchitecture = 'cheng2020-anchor'", 1)
    parse_recipe(text)
    with pytest.raises(UsageError, match=r"base\.norm_rate and base\.wake: expected 0 for cheng2020-anchor, got"):
        parse_recipe(text.replace("minutes = 30", "minutes = 30\nwake = 0.1", 1))


def test_a_recipe_needs_a_stage() -> None:
    with pytest.raises(UsageError, match=r"expected one of \[base\]"):
        parse_recipe('[model]\nname = "mine"\nquality = 1\n')


def test_unknown_and_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a \.toml file or one of .*tiny"):
        read_recipe("nope")
    with pytest.raises(UsageError, match="expected a readable recipe"):
        read_recipe(str(tmp_path / "none.toml"))
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="expected a readable recipe"):
        read_recipe(str(path))


def budgets(recipe: Recipe) -> list[dict[str, float]]:
    return [table.budget for name in recipe.stages if (table := recipe.stage(name))]


def test_budgets_scale_in_proportion() -> None:
    recipe = dataclasses.replace(parse_recipe(GOOD), jpeg_sim=None)
    stages = ["base", "slic"]
    assert scale_budgets(recipe, None, None, stages) == recipe
    assert budgets(scale_budgets(recipe, 9.0, None, stages)) == [{"minutes": 3.0}, {"minutes": 6.0}]
    assert budgets(scale_budgets(recipe, None, 9, stages)) == [{"steps": 3}, {"steps": 6}]
    assert budgets(scale_budgets(recipe, 9.0, None, ["slic"])) == [{"minutes": 30.0}, {"minutes": 9.0}]


def test_slic_defaults_are_the_papers() -> None:
    table = SlicTable(minutes=1.0)
    assert (table.metric, table.margin, table.alpha) == ("lpips", 1.0, None)


def test_tau_goes_by_metric() -> None:
    for metric in DISTANCES:
        assert SlicTable(minutes=1.0, metric=metric).margin == TAUS[metric] > 0
    assert SlicTable(minutes=1.0, metric="mse", tau=0.3).margin == 0.3


def test_table_3_has_a_row_for_every_distance() -> None:
    script = Path(__file__).parents[2] / "scripts" / "table3.sh"
    assert f'metrics="{" ".join(DISTANCES)}"' in script.read_text()
