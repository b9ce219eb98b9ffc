"""`slic train` with the architectures that have a context model: from photographs to a file that decodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import AUTOREGRESSIVE, photograph

pytest.importorskip("compressai")

from small import RECIPE, run

from slic_cli.codec import Codec
from slic_cli.entropy.trellis_coder import STEPS
from slic_cli.errors import BadModelFile, UsageError
from slic_cli.metrics import psnr_db
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec
from slic_cli.training.recipe import parse_recipe
from slic_cli.training.reporting import read_metrics

LARGER = RECIPE.replace("n = 8", "n = 16").replace("m = 12", "m = 24").replace("steps = 4", "steps = 1")
ENTROPY = """
[entropy]
steps = 30
batch = 4
warmup_steps = 5
learning_rate = 3e-3
metric = "mse"
"""


def of(architecture: str, text: str = RECIPE) -> str:
    """The recipe for another architecture."""
    text = text.replace("quality = 4", f'quality = 4\narchitecture = "{architecture}"')
    return text.replace("m = 12", "m = 8") if architecture == "cheng2020-anchor" else text


def entropy_alone(text: str = LARGER) -> str:
    """mbt2018's entropy model and nothing else."""
    return of("mbt2018", text[: text.index("[base]")]) + ENTROPY


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_a_trained_model_encodes_and_decodes(architecture: str, photograph_folder: Path, tmp_path: Path) -> None:
    record = run(photograph_folder, tmp_path / "run", of(architecture))
    spec = read_spec(Path(record["path"]))
    assert (spec.architecture, spec.metric) == (architecture, "mse")
    assert load_tensors(spec)[STEPS].tolist() == [64]
    codec, pixels = Codec(spec, "cpu", "fp32"), photograph(128, 192, seed=50)
    decoded = codec.decode(codec.encode(pixels))
    assert psnr_db(pixels, decoded) > 15
    estimated = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "validation"][-1]
    assert record["validation_psnr_db"] == pytest.approx(estimated["psnr_db"], abs=0.3)
    run(photograph_folder, tmp_path / "run", of(architecture), resume=True)


def test_the_entropy_stage_lowers_the_rate_and_nothing_else(photograph_folder: Path, tmp_path: Path) -> None:
    first = run(photograph_folder, tmp_path / "first", LARGER)
    second = run(photograph_folder, tmp_path / "second", entropy_alone(), start=first["path"])
    spec = read_spec(Path(second["path"]))
    assert (spec.architecture, spec.metric, spec.metadata["steps_entropy"]) == ("mbt2018", "mse", "30")
    rows = [row for row in read_metrics(tmp_path / "second") if row["kind"] == "validation"]
    assert rows[-1]["bpp"] < 0.97 * rows[0]["bpp"]
    assert rows[-1]["psnr_db"] == pytest.approx(rows[0]["psnr_db"], abs=0.2)
    pixels = photograph(128, 192, seed=50)
    decoded = [codec.decode(codec.encode(pixels)) for codec in map(Codec, map(read_spec, models(first, second)))]
    assert psnr_db(decoded[0], decoded[1]) > psnr_db(pixels, decoded[0])
    again = run(photograph_folder, tmp_path / "third", entropy_alone(), start=str(tmp_path / "first" / "slic.ckpt"))
    assert again["validation_bpp"] == pytest.approx(second["validation_bpp"], rel=0.1)


def models(*records: dict[str, str]) -> list[Path]:
    """Where runs left their models."""
    return [Path(record["path"]) for record in records]


def test_the_entropy_stage_follows_the_others(photograph_folder: Path, tmp_path: Path) -> None:
    record = run(photograph_folder, tmp_path / "run", of("mbt2018") + ENTROPY.replace("30", "2"))
    assert record["stages"] == ["base", "slic", "entropy"]
    assert read_spec(Path(record["path"])).metric == "mse"


def test_what_does_not_fit_is_said(photograph_folder: Path, tmp_path: Path) -> None:
    first = run(photograph_folder, tmp_path / "first", LARGER, stages=("base",))
    with pytest.raises(UsageError, match="entropy: expected a codec to start from"):
        run(photograph_folder, tmp_path / "a", entropy_alone())
    with pytest.raises(BadModelFile, match=r"expected mbt2018 weights with g_.* of shape"):
        run(photograph_folder, tmp_path / "b", entropy_alone(RECIPE), start=first["path"])
    with pytest.raises(BadModelFile, match="expected cheng2020-anchor weights with"):
        wrong = of("cheng2020-anchor", LARGER.replace("m = 24", "m = 16"))
        run(photograph_folder, tmp_path / "c", wrong, stages=("slic",), start=first["path"])
    with pytest.raises(BadModelFile, match="with architecture 'mbt2018', got 'bmshj2018-hyperprior'"):
        run(photograph_folder, tmp_path / "first", of("mbt2018", LARGER), stages=("base",), resume=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "quality = 4",
            'quality = 4\narchitecture = "vvc"',
            "model.architecture: expected one of bmshj2018-hyperprior",
        ),
        ("quality = 4", 'quality = 4\narchitecture = "cheng2020-anchor"', "model.n and m: expected equal numbers"),
        (
            "quality = 4\nn = 8\nm = 12",
            'quality = 4\narchitecture = "cheng2020-anchor"\nn = 64\nm = 64\n[carrier]\nsteps = 1',
            "model.widths: expected (8, 24, 32, 17) channels less than (64, 64, 64, 64)",
        ),
    ],
)
def test_wrong_recipes_are_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match="expected") as refusal:
        parse_recipe(RECIPE.replace(old, new), "mine.toml")
    assert said in str(refusal.value)
