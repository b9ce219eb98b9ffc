"""What one command does with one input: its record agrees with the files it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from conftest import TINY_NAME, photograph
from PIL import Image
from test_cli import MODEL, pixels_of, psnr, save_photograph, slic

from slic_cli import codec, container, operations
from slic_cli.errors import BadImage, BadSlicFile, MissingModel
from slic_cli.registry import find_model

RUN_KEYS = {"device", "precision", "seconds"}


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)
    save_photograph(tmp_path / "photo.png")


@pytest.fixture(scope="module")
def workshop() -> operations.Workshop:
    return operations.Workshop()


def record_of(*arguments: str) -> dict[str, Any]:
    result = slic(*arguments, "--json", "-q")
    assert (result.code, result.err) == (0, "")
    (record,) = result.records
    return record


def test_the_record_of_encode() -> None:
    record = record_of("encode", "photo.png", *MODEL)
    size = Path("photo.slic").stat().st_size
    keys = {"input", "output", "model", "digest", "width", "height", "bytes", "bpp", "notes"}
    assert record.keys() == keys | RUN_KEYS
    assert (record["input"], record["output"], record["model"]) == ("photo.png", "photo.slic", TINY_NAME)
    assert (record["width"], record["height"], record["bytes"], record["notes"]) == (64, 48, size, [])
    assert record["bpp"] == pytest.approx(8 * size / (64 * 48))
    assert record["digest"] == find_model(TINY_NAME).digest
    assert record["device"] in ("cpu", "cuda")
    assert record["precision"] in ("float32", "bfloat16")
    assert record["seconds"] >= 0


def test_encode_says_that_a_picture_is_a_first_decode() -> None:
    """Even where an edit has left the network nothing to find: what it writes then is ruins."""
    Image.fromarray(photograph(384, 512, seed=3)).save("large.png")
    assert record_of("encode", "large.png", "-o", "large.slic")["notes"] == []
    record_of("attack", "large.slic", "--op", "grey", "-o", "edited/")
    (edited,) = Path("edited").glob("*grey*.png")
    (note,) = record_of("encode", str(edited), "-o", "again.slic")["notes"]
    assert "looks like a first decode" in note


def test_a_checked_encode_measures_the_first_decode() -> None:
    record = record_of("encode", "photo.png", *MODEL, "--check")
    record_of("decode", "photo.slic", "-o", "first.png")
    expected = psnr(pixels_of(Path("photo.png")), pixels_of(Path("first.png")))
    assert record["psnr_db"] == record["worst_block_db"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("damaged_db", "behind_db", "warns"), [(0.0, -1.0, False), (99.0, -1.0, True), (99.0, 1.0, False)]
)
def test_a_checked_encode_warns_of_damage(
    monkeypatch: pytest.MonkeyPatch, damaged_db: float, behind_db: float, warns: bool
) -> None:
    """Of a part that is bad by itself and stands out: this picture is all one part."""
    monkeypatch.setattr(operations, "_DAMAGED_DB", damaged_db)
    monkeypatch.setattr(operations, "_BEHIND_DB", behind_db)
    result = slic("encode", "photo.png", *MODEL, "--check")
    assert result.code == 0 and Path("photo.slic").exists()
    assert "first decode " in result.err
    assert ("photo.png: the first decode is damaged in places" in result.err) == warns


def test_the_record_of_decode() -> None:
    record_of("encode", "photo.png", *MODEL)
    record = record_of("decode", "photo.slic", "-o", "first.png")
    assert record.keys() == {"input", "output", "model", "digest", "width", "height", "bytes"} | RUN_KEYS
    assert (record["width"], record["height"]) == (64, 48)
    assert record["bytes"] == Path("first.png").stat().st_size
    assert record["digest"] == find_model(TINY_NAME).digest


def test_the_record_of_recompress() -> None:
    record = record_of("recompress", "photo.png", *MODEL, "-o", "second.png")
    assert record.keys() == {"input", "output", "model", "rounds", "notes"} | RUN_KEYS
    (step,) = record["rounds"]
    assert step.keys() == {"round", "psnr_db", "bytes", "bpp"}
    assert step["psnr_db"] == pytest.approx(psnr(pixels_of(Path("photo.png")), pixels_of(Path("second.png"))))
    assert record_of("encode", "photo.png", *MODEL)["bytes"] == step["bytes"]
    assert step["bpp"] == pytest.approx(8 * step["bytes"] / (64 * 48))


def test_rounds_chain() -> None:
    """Three rounds at once are one round three times."""
    rounds = record_of("recompress", "photo.png", *MODEL, "-o", "third.png", "--rounds", "3")["rounds"]
    name = "photo.png"
    for number, step in enumerate(rounds, 1):
        output = f"round{number}.png"
        (alone,) = record_of("recompress", name, *MODEL, "-o", output)["rounds"]
        assert step == {**alone, "round": number}
        name = output
    assert [step["round"] for step in rounds] == [1, 2, 3]
    assert np.array_equal(pixels_of(Path("third.png")), pixels_of(Path("round3.png")))


def test_recompressing_a_slic_starts_from_its_first_decode() -> None:
    record_of("encode", "photo.png", *MODEL)
    record_of("decode", "photo.slic", "-o", "first.png")
    from_slic = record_of("recompress", "photo.slic", "-o", "a.png")
    from_png = record_of("recompress", "first.png", *MODEL, "-o", "b.png")
    assert from_slic["rounds"] == from_png["rounds"]
    assert np.array_equal(pixels_of(Path("a.png")), pixels_of(Path("b.png")))


def test_first_decodes_are_marked_and_second_ones_are_not() -> None:
    record_of("encode", "photo.png", *MODEL)
    record_of("decode", "photo.slic", "-o", "first.png")
    record_of("recompress", "first.png", *MODEL, "-o", "second.png")
    with Image.open("first.png") as first, Image.open("second.png") as second:
        assert first.info["slic-decoded-by"] == TINY_NAME
        assert "slic-decoded-by" not in second.info


def test_notes_are_in_the_record_and_in_the_log() -> None:
    Image.fromarray(photograph(16, 16)).convert("CMYK").save("cmyk.tif")
    result = slic("encode", "cmyk.tif", *MODEL, "--json")
    (note,) = result.records[0]["notes"]
    assert "CMYK" in note
    assert result.lines[0] == f"cmyk.tif: {note}"


def test_a_workshop_loads_each_model_once(workshop: operations.Workshop) -> None:
    spec = find_model(TINY_NAME)
    first = workshop.codec(spec)
    with patch.object(codec, "Codec", side_effect=AssertionError("loaded again")):
        assert workshop.codec(spec) is first


def test_inputs_are_judged_before_a_model_is_loaded() -> None:
    Path("bad").write_bytes(b"neither a picture nor a .slic")
    fresh = operations.Workshop()
    with patch.object(codec, "Codec", side_effect=AssertionError("loaded")):
        with pytest.raises(BadImage):
            operations.encode("bad", "out", TINY_NAME, fresh, None, False, False)
        with pytest.raises(BadSlicFile):
            operations.decode("bad", "out", None, fresh, False, False)
        with pytest.raises(BadImage):
            operations.recompress("bad", "out", TINY_NAME, fresh, 1, None, False)
        with pytest.raises(BadImage):
            operations.open_for_attack("bad", TINY_NAME, fresh, False, None)
        with pytest.raises(MissingModel):
            operations.encode("photo.png", "out", "no-such-model", fresh, None, False, False)
    assert not Path("out").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_taken_and_reported(precision: str) -> None:
    record = record_of("encode", "photo.png", *MODEL, "--precision", precision, "--device", "cpu")
    assert (record["device"], record["precision"]) == ("cpu", {"fp32": "float32", "bf16": "bfloat16"}[precision])
    assert slic("decode", "photo.slic", "-o", "x.png", "--precision", precision).code == 0


def test_describing_agrees_with_the_file(workshop: operations.Workshop) -> None:
    record_of("encode", "photo.png", *MODEL)
    described = operations.describe("photo.slic")
    file = container.parse(Path("photo.slic").read_bytes())
    assert described["strip_bytes"] == [len(strip) for strip in file.strips]
    assert described["digest"] == file.model_digest.hex() == workshop.codec(find_model(TINY_NAME)).spec.digest
