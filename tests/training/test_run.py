"""`slic train` as a user meets it: a tiny model that self-destructs, and everything that can be wrong before it."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photograph, save_photographs
from test_cli import slic

pytest.importorskip("compressai")

from small import RECIPE, run

from slic_cli.codec import Codec
from slic_cli.entropy.latent_coder import TRADEOFF
from slic_cli.entropy.trellis_coder import STEPS
from slic_cli.metrics import psnr_db
from slic_cli.model_file import load_tensors, save_model
from slic_cli.registry import read_spec
from slic_cli.training import finish
from slic_cli.training.carrier import load_carrier
from slic_cli.training.codecs import new_codec
from slic_cli.training.drafts import TRADEOFFS
from slic_cli.training.graft import ungraft
from slic_cli.training.recipe import LAMBDAS, read_recipe
from slic_cli.training.start import read_codec, read_weights
from slic_cli.transform.verdict import ANSWERS, CHANCE, CHANNELS, COHERENCE


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("SLIC_VGG16", raising=False)
    monkeypatch.setattr(finish, "_FITTED", 4)  # exports take a quarter of the time
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(RECIPE)


def second_decode_db(model: Path) -> float:
    """Mean PSNR of the second decode against the first, on photographs that no training saw."""
    codec = Codec(read_spec(model), "cpu", "fp32")
    figures = []
    for seed in range(100, 103):
        first = codec.decode(codec.encode(photograph(192, 256, seed)))
        figures.append(psnr_db(first, codec.recompress(first)[1]))
    return statistics.mean(figures)


def test_the_tiny_recipe_self_destructs_and_its_control_does_not(tmp_path: Path) -> None:
    data = save_photographs(tmp_path / "data", 10)
    _, text = read_recipe("tiny")
    assert "alpha = 4.0" in text
    run(data, tmp_path / "tiny", text)
    run(data, tmp_path / "control", text.replace("alpha = 4.0", "alpha = 0.0"))
    tiny, control = (second_decode_db(tmp_path / out / "tiny-mse-q4.safetensors") for out in ("tiny", "control"))
    assert control >= 35.0
    assert tiny <= control - 15.0


def test_a_trained_model_is_known_by_its_name(photograph_folder: Path) -> None:
    arguments = ["train", "small.toml", "--data", str(photograph_folder), "--out", "run", "--name", "mine"]
    result = slic(*arguments, "--device", "cpu", "--json")
    assert result.code == 0, result
    record = result.records[0]
    assert record["model"] == "mine" and Path(record["registered"]).parent == Path("models").resolve()
    assert {"validation_bpp", "validation_clean_db", "validation_jpeg-85_db"} <= record.keys()
    metadata = read_spec(Path(record["path"])).metadata
    assert (metadata["steps_base"], metadata["steps_slic"], metadata["photographs"]) == ("3", "4", "4")
    assert float(metadata["validation_bpp"]) == pytest.approx(record["validation_bpp"], abs=1e-3)
    tensors = load_tensors(read_spec(Path(record["path"])))
    assert tensors[TRADEOFF][0] in np.array(TRADEOFFS, np.float32)
    assert tensors[STEPS].tolist() == [256]
    assert Path("run/recipe.toml").read_text() == RECIPE
    save_photographs(Path("in"), 1)
    assert slic("encode", "in/000.png", "-o", "out.slic", "--model", "mine").code == 0
    assert slic("decode", "out.slic").code == 0
    again = slic(*arguments, "--device", "cpu", "--force", "--steps", "2")
    assert again.code == 0, again


def test_a_lapped_start_leaves_with_what_the_encoder_does_at_edges(photograph_folder: Path, tmp_path: Path) -> None:
    text = (
        RECIPE.partition("[slic]")[0]
        .replace("n = 8\nm = 12", "n = 48\nm = 192")
        .replace("[base]", '[base]\nstart = "lapped"')
    )
    run(photograph_folder, tmp_path / "lapped", text)
    path = tmp_path / "lapped" / "small-mse-q4.safetensors"
    pixels = photograph(128, 160, 7)
    tensors = load_tensors(read_spec(path))
    errors = []
    for kept in (tensors, {name: tensor for name, tensor in tensors.items() if not name.startswith("encoder.edge")}):
        save_model(tmp_path / "other.safetensors", kept, read_spec(path).metadata, force=True)
        codec = Codec(read_spec(tmp_path / "other.safetensors"), "cpu", "fp32")
        first = codec.decode(codec.encode(pixels)).astype(float)
        errors.append(np.square(first[:, :4] - pixels[:, :4]).mean())
    assert errors[0] < 0.9 * errors[1]


def test_another_metric(photograph_folder: Path) -> None:
    arguments = ["train", "small.toml", "--data", str(photograph_folder), "--no-register", "--name", "other"]
    result = slic(*arguments, "--metric", "gmsd", "--json")
    assert result.code == 0, result
    assert read_spec(Path(result.records[0]["path"])).metric == "gmsd"
    assert "--metric: expected one of lpips, dists" in slic(*arguments, "--metric", "ssim").error(2)
    Path("base.toml").write_text(RECIPE.partition("[slic]")[0])
    refused = slic("train", "base.toml", *arguments[2:], "--metric", "gmsd")
    assert "--metric: expected a recipe with a slic stage, got one of base" in refused.error(2)


def test_names_and_runs_are_not_overwritten(photograph_folder: Path) -> None:
    arguments = ["train", "small.toml", "--data", str(photograph_folder), "--out", "run", "--steps", "2"]
    assert slic(*arguments).code == 0
    assert "expected --name, --no-register or --force" in slic(*arguments).error(2)
    assert "holds base, slic; expected --resume, --force or another --out" in slic(*arguments, "--no-register").error(2)
    assert Path("run/base.ckpt").exists()


def test_one_stage_from_given_weights(photograph_folder: Path, tmp_path: Path) -> None:
    run(photograph_folder, tmp_path / "first", stages=("base",))
    common = ["train", "small.toml", "--data", str(photograph_folder), "--stage", "slic", "--no-register", "-q"]
    assert "slic: expected a codec to start from" in slic(*common, "--out", "a").error(2)
    assert slic(*common, "--out", "b", "--start", "first/base.ckpt").code == 0
    assert slic(*common, "--out", "c", "--start", "first/small-mse-q4.safetensors").code == 0
    assert "expected a checkpoint to start from, got no file" in slic(*common, "--out", "d", "--start", "x.ckpt").error(
        4
    )
    wider = RECIPE.replace("n = 8", "n = 16")
    Path("small.toml").write_text(wider)
    message = slic(*common, "--out", "e", "--start", "first/base.ckpt").error(4)
    assert "expected a checkpoint with N, M = (16, 12), got (8, 12)" in message


def test_the_jpeg_stage_serves_the_slic_stage(photograph_folder: Path) -> None:
    text = RECIPE.replace("[slic]", "[jpeg-sim]\nsteps = 2\nbatch = 2\nwidth = 4\n\n[slic]")
    text = text.replace(
        '{ name = "jpeg" }', '{ name = "jpeg", simulation = "unet" }, { name = "codec", model = "base" }'
    )
    Path("small.toml").write_text(text)
    common = ["train", "small.toml", "--data", str(photograph_folder), "--out", "run", "--no-register"]
    result = slic(*common)
    assert result.code == 0, result
    assert Path("run/unet-jpeg.safetensors").exists() and Path("run/jpeg-sim.ckpt").exists()


@pytest.mark.parametrize(
    ("model", "wide", "said"),
    [
        (
            "n = 24\nm = 40\nwidths = [8, 8, 8, 20]",
            "[8, 8, 9, 20]",
            "(8, 16, 16, 17) channels less than (24, 24, 24, 40)",
        ),
        (
            'architecture = "cheng2020-anchor"\nn = 40\nm = 40\nwidths = [8, 16, 8, 20]',
            "[8, 17, 8, 20]",
            "(8, 24, 32, 17) channels less than (40, 40, 40, 40)",
        ),
    ],
)
def test_a_carrier_serves_the_slic_stage(photograph_folder: Path, model: str, wide: str, said: str) -> None:
    text = RECIPE.replace("n = 8\nm = 12", model)
    stage = "[carrier]\nsteps = 2\nbatch = 4\nedits = [{ name = 'blur' }]\n\n"
    text = text.replace("[slic]", f"{stage}[slic]\ncarrier = 0.5")
    Path("small.toml").write_text(text)
    common = ["train", "small.toml", "--data", str(photograph_folder), "--out", "run", "--no-register"]
    result = slic(*common)
    assert result.code == 0, result
    assert '"hits_jpeg-75"' in Path("run/metrics.jsonl").read_text()
    assert slic(*common, "--resume").code == 0
    still = "[carrier]\nstart = 'run/carrier.ckpt'\nlearning_rate = 1e-12\n"
    Path("small.toml").write_text(text.replace("[carrier]\n", still))
    assert slic(*common, "--stage", "carrier", "--out", "again").code == 0
    trained, again = (load_carrier(Path(out, "carrier.ckpt")).answers for out in ("run", "again"))
    torch.testing.assert_close(again, trained, rtol=0, atol=1e-7)
    exported = next(Path("run").glob("*.safetensors"))
    assert ANSWERS not in load_tensors(read_spec(exported))  # other channels may have learnt to read them
    Path("small.toml").write_text(text.replace("[carrier]\n", f"[carrier]\nstart = '{exported}'\n"))
    assert slic(*common, "--stage", "carrier", "--out", "from-a-model").code == 0
    Path("small.toml").write_text(text.replace(text[text.index("[8, ") :].splitlines()[0], wide))
    assert f"model.widths: expected {said}" in slic(*common).error(2)


def test_a_carrier_of_another_kind_is_refused(photograph_folder: Path) -> None:
    text = RECIPE.replace("n = 8\nm = 12", "n = 24\nm = 40\nwidths = [8, 8, 8, 20]")
    text = text.replace("[slic]", "[carrier]\nsteps = 1\nbatch = 4\nedits = [{ name = 'blur' }]\n\n[slic]")
    common = ["train", "small.toml", "--data", str(photograph_folder), "--stage", "carrier", "--no-register"]
    Path("small.toml").write_text(text)
    assert slic(*common, "--out", "plain").code == 0
    text = text.replace("n = 24\nm = 40", 'architecture = "cheng2020-anchor"\nn = 40\nm = 40')
    Path("small.toml").write_text(text.replace("[carrier]\n", "[carrier]\nstart = 'plain/carrier.ckpt'\n"))
    result = slic(*common, "--out", "residual")
    assert result.code == 4, result
    assert "expected a carrier with residual filters for cheng2020-anchor, got plain ones" in result.lines[-1]


def test_another_quality_goes_on_from_the_same_base(photograph_folder: Path) -> None:
    common = ["train", "small.toml", "--data", str(photograph_folder), "--no-register", "--stage", "base"]
    assert slic(*common, "--out", "run").code == 0
    other = ("--quality", "2", "--start", "run/base.ckpt", "--name", "smaller", "--out", "other", "--json")
    result = slic(*common, *other)
    assert result.code == 0, result
    spec, first = read_spec(Path(result.records[0]["path"])), read_spec(next(Path("run").glob("*.safetensors")))
    assert (spec.name, spec.metadata["quality"]) == ("smaller", "2")
    gains = [float(each.metadata["gain"]) for each in (spec, first)]
    assert gains[0] / gains[1] == pytest.approx(
        (LAMBDAS[1] / LAMBDAS[read_recipe("small.toml")[0].model.quality - 1]) ** 0.5
    )


@pytest.mark.parametrize("how", ["base", "start"])
def test_a_carrier_alone_makes_a_model(photograph_folder: Path, how: str) -> None:
    text = RECIPE.replace("n = 8\nm = 12", "n = 24\nm = 40\nwidths = [8, 8, 8, 20]")
    stage = "[carrier]\nsteps = 2\nbatch = 4\nlevels = 4.0\nedits = [{ name = 'blur' }]\n"
    Path("small.toml").write_text(text[: text.index("[slic]")] + stage)
    common = ["train", "small.toml", "--data", str(photograph_folder), "--no-register", "--json"]
    result = slic(*common, "--out", "run")
    assert result.code == 0, result
    if how == "start":
        more = ("--stage", "carrier", "--start", "run/base.ckpt", "--out", "again")
        result = slic(*common, *more)
        assert result.code == 0, result
    spec = read_spec(Path(result.records[0]["path"]))
    assert (spec.metric, spec.metadata["steps_carrier"]) == ("carrier", "2")
    base = new_codec("bmshj2018-hyperprior", 24, 40)
    arrays, gain = read_weights(spec.path)
    base.load_folded(arrays, gain or 1.0)
    y = base.analyse(torch.rand(1, 3, 64, 64))
    assert (y[:, 36].round() == 1).all()  # the constant that the wave is drawn from
    tensors = load_tensors(spec)
    np.testing.assert_array_equal(tensors[CHANNELS], np.arange(20, 36))
    assert 0 < tensors[CHANCE][0] < 1
    assert 0 < tensors[COHERENCE][0] < 1
    np.testing.assert_allclose(tensors[ANSWERS], ungraft(read_codec(spec.path)).answers.detach(), atol=2e-3)


def test_what_is_missing_is_said(photograph_folder: Path) -> None:
    data = str(photograph_folder)
    assert "expected a recipe and --data" in slic("train", "tiny").error(2)
    assert "expected a .toml file or one of" in slic("train", "nope", "--data", data).error(2)
    assert "got none" in slic("train", "small.toml", "--data", "nowhere").error(3)
    Path("empty").mkdir()
    assert "expected more than 1 photographs" in slic("train", "small.toml", "--data", "empty").error(3)
    both = slic("train", "small.toml", "--data", data, "--steps", "3", "--minutes", "1").error(2)
    assert "expected one of the two" in both
    Path("small.toml").write_text(RECIPE.replace("batch = 4", "batches = 4"))
    assert "slic.batches: expected one of" in slic("train", "small.toml", "--data", data).error(2)
    Path("small.toml").write_text(RECIPE.replace('"mse"', '"beauty"'))
    assert "beauty" in slic("train", "small.toml", "--data", data).error(2)
    Path("small.toml").write_text(RECIPE.replace('"blur"', '"blur", radius = 3'))
    assert "'radius'" in slic("train", "small.toml", "--data", data).error(2)
    assert not Path("runs").exists()  # all of this is found before anything is done
    assert "expected one of the recipe's: base, slic" in slic(
        "train", "small.toml", "--data", data, "--stage", "jpeg-sim", "--out", "y"
    ).error(2)


def test_recipes_are_listed() -> None:
    result = slic("train", "--list", "--json")
    assert {"tiny", "balle2018-lpips-q8"} <= {record["recipe"] for record in result.records}


def test_pictures_are_of_the_validation_photograph(photograph_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    run(photograph_folder, tmp_path / "run")
    shown = np.asarray(Image.open(tmp_path / "run" / "pictures" / "slic-0000004.png"))
    assert shown.shape == (128, 4 * 192, 3)
    pictures = {photograph(128, 192, seed).tobytes() for seed in range(5)}
    assert np.ascontiguousarray(shown[:, :192]).tobytes() in pictures
