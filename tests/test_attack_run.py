"""`slic attack`: which files it writes, what begins each attack, and figures that agree with the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from conftest import TINY_NAME
from PIL import Image
from test_cli import MODEL, names, pixels_of, psnr, save_photograph, slic

from slic_cli import attack_run
from slic_cli.attacks import EDITS, parse_attack
from slic_cli.contact_sheet import Column, contact_sheet

COMMON = [name for name, edit in EDITS.items() if edit.common]
BLUR, JPEG = parse_attack("blur"), parse_attack("jpeg:quality=75")


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)
    save_photograph(tmp_path / "photo.png")
    assert slic("encode", "photo.png", *MODEL, "-q", "-o", "coded.slic").code == 0
    assert slic("decode", "coded.slic", "-q", "-o", "first.png").code == 0


def attack(*arguments: str) -> list[dict[str, Any]]:
    """The records of an attack that succeeds."""
    result = slic("attack", *arguments, "--json", "-q")
    assert (result.code, result.err) == (0, "")
    return result.records


# --- names ---------------------------------------------------------------------------------------------


def test_edits_lie_in_a_directory_beside_the_input() -> None:
    attack("photo.png", *MODEL, "--op", "jpeg:quality=75", "--op", "blur")
    assert names(Path("photo.attacks")) == {"photo.jpeg-75.png", "photo.blur-r=1.png"}


def test_recompression_adds_the_second_decodes_and_a_sheet() -> None:
    records = attack("photo.png", *MODEL, "--op", "blur", "--recompress", "-o", "new/deep")
    expected = {"photo.no-edit", "photo.no-edit.recompressed", "photo.blur-r=1", "photo.blur-r=1.recompressed"}
    assert names(Path("new/deep")) == {f"{name}.png" for name in expected | {"photo.contact-sheet"}}
    written = [name for record in records for name in record["outputs"]]
    assert {Path(name).stem for name in written} == expected | {"photo.contact-sheet"}


def test_all_edits_have_files_of_their_own() -> None:
    records = attack("coded.slic", "--op", "all", "-o", "all/")
    assert [record["edit"] for record in records] == COMMON
    assert len(names(Path("all"))) == len(COMMON)


def test_one_edit_to_one_file() -> None:
    (record,) = attack("coded.slic", "--op", "blur", "-o", "one.png")
    assert record["outputs"] == ["one.png"]
    assert np.array_equal(pixels_of(Path("one.png")), BLUR.apply(pixels_of(Path("first.png"))))


def test_one_edit_to_standard_output() -> None:
    result = slic("attack", "coded.slic", "--op", "blur", "-o", "-")
    attack("coded.slic", "--op", "blur", "-o", "one.png")
    assert result.out == Path("one.png").read_bytes()


def test_standard_input_has_a_name_too() -> None:
    result = slic("attack", "-", "--op", "blur", stdin=Path("coded.slic").read_bytes())
    assert result.code == 0
    assert names(Path("stdin.attacks")) == {"stdin.blur-r=1.png"}


def test_several_edits_need_a_directory() -> None:
    before = names(Path())
    assert "directory" in slic("attack", "coded.slic", "--op", "blur", "--op", "crop", "-o", "x.png").error(2)
    assert "directory" in slic("attack", "coded.slic", "first.png", *MODEL, "--op", "blur", "-o", "x.png").error(2)
    assert names(Path()) == before


@pytest.mark.parametrize(
    "op", ["nope", "", "jpeg:quality=0", "jpeg:quality=7.5", "jpeg:speed=1", "blur:radius=x", "all:"]
)
def test_edits_that_are_not_offered(op: str) -> None:
    before = names(Path())
    assert slic("attack", "coded.slic", "--op", op).error(2)
    assert names(Path()) == before


def test_old_results_are_kept() -> None:
    attack("coded.slic", "--op", "blur")
    before = Path("coded.attacks/coded.blur-r=1.png").read_bytes()
    assert "--force" in slic("attack", "coded.slic", "--op", "crop", "--op", "blur").error(2)
    assert names(Path("coded.attacks")) == {"coded.blur-r=1.png"}
    attack("coded.slic", "--op", "crop", "--op", "blur", "--force")
    assert Path("coded.attacks/coded.blur-r=1.png").read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_no_two_inputs_share_their_files(options: list[str]) -> None:
    Path("sub").mkdir()
    save_photograph(Path("sub/photo.png"), seed=1)
    result = slic("attack", "photo.png", "sub/photo.png", *MODEL, "--op", "blur", "-o", "out", *options)
    assert "photo" in result.error(2)


def test_a_missing_input_leaves_no_directory() -> None:
    before = names(Path())
    assert slic("attack", "nowhere/missing.png", *MODEL, "--op", "blur").code == 3
    assert names(Path()) == before


def test_no_directory_looks_like_a_picture() -> None:
    assert slic("attack", "coded.slic", "--op", "blur", "-o", "x.jpg").code == 2


def test_a_model_that_cannot_be_used_is_never_ignored() -> None:
    assert slic("attack", "coded.slic", "--model", "no-such-model", "--op", "blur").code == 4


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_inputs_without_a_name(name: str) -> None:
    assert slic("attack", name, *MODEL, "--op", "blur").code in (2, 3)


def test_an_empty_name_is_no_output() -> None:
    assert slic("attack", "coded.slic", "--op", "blur", "-o", "").error(2)


# --- what begins an attack -----------------------------------------------------------------------------


def start_of(*arguments: str) -> Any:
    """The picture that is attacked, as written for "no edit"."""
    attack(*arguments, "--op", "blur", "--recompress", "-o", "start", "--force")
    (path,) = Path("start").glob("*.no-edit.png")
    return pixels_of(path)


def test_photographs_are_coded_first_and_first_decodes_are_not() -> None:
    first = pixels_of(Path("first.png"))
    for name in ("photo.png", "coded.slic", "first.png"):
        assert np.array_equal(start_of(name, *MODEL), first), name
        for path in Path("start").iterdir():
            path.unlink()


def test_a_first_decode_without_its_mark_can_be_named_so() -> None:
    Image.fromarray(pixels_of(Path("first.png"))).save("unmarked.png")
    assert np.array_equal(start_of("unmarked.png", *MODEL, "--decoded"), pixels_of(Path("first.png")))


def test_an_unmarked_picture_is_a_photograph() -> None:
    Image.fromarray(pixels_of(Path("first.png"))).save("unmarked.png")
    assert not np.array_equal(start_of("unmarked.png", *MODEL), pixels_of(Path("first.png")))


def test_edited_pictures_keep_the_mark_and_recompressed_ones_lose_it() -> None:
    attack("coded.slic", "--op", "blur", "--recompress", "-o", "out")
    marks = {}
    for path in Path("out").glob("*.png"):
        with Image.open(path) as image:
            marks[path.name.removeprefix("coded.").removesuffix(".png")] = image.info.get("slic-decoded-by")
    assert marks == {
        "no-edit": TINY_NAME, "blur-r=1": TINY_NAME,
        "no-edit.recompressed": None, "blur-r=1.recompressed": None, "contact-sheet": None,
    }  # fmt: skip


# --- figures and sheets --------------------------------------------------------------------------------


def test_figures_agree_with_the_files() -> None:
    records = attack("photo.png", *MODEL, "--op", "jpeg:quality=75", "--op", "crop", "--recompress", "-o", "out")
    *edits, sheet = records
    assert sheet["contact_sheet"] == "out/photo.contact-sheet.png"
    assert [record["edit"] for record in edits] == [None, "jpeg", "crop"]
    assert [record["parameters"] for record in edits] == [{}, {"quality": 75.0}, {"fraction": 0.9}]
    for record in edits:
        edited, recompressed = (Path(name) for name in record["outputs"])
        assert record["psnr_db"] == pytest.approx(psnr(pixels_of(edited), pixels_of(recompressed)))
        assert slic("encode", edited, *MODEL, "--strip", "-o", "check.slic", "--force").code == 0
        assert record["bytes"] == Path("check.slic").stat().st_size
        height, width, _ = pixels_of(edited).shape
        assert record["bpp"] == pytest.approx(8 * record["bytes"] / (height * width))
        assert (record["input"], record["model"]) == ("photo.png", TINY_NAME)


def test_edits_are_those_of_the_library() -> None:
    attack("coded.slic", "--op", "jpeg:quality=75", "--recompress", "-o", "out")
    first = pixels_of(Path("first.png"))
    assert np.array_equal(pixels_of(Path("out/coded.jpeg-75.png")), JPEG.apply(first))


def test_without_recompression_there_are_no_figures() -> None:
    (record,) = attack("coded.slic", "--op", "blur")
    assert record.keys() == {"input", "model", "edit", "parameters", "outputs"}


def test_the_sheet_has_a_column_for_each_edit_and_one_for_none() -> None:
    attack("coded.slic", "--op", "blur", "--op", "crop", "--recompress", "-o", "sheet.png")
    assert {path.name for path in Path().glob("*sheet*")} == {"sheet.png"}
    blank = np.zeros((48, 64, 3), np.uint8)
    three = contact_sheet([Column("", blank, blank, "")] * 3, "")
    assert pixels_of(Path("sheet.png")).shape == three.shape


def test_columns_say_what_was_done() -> None:
    with patch.object(attack_run, "contact_sheet", wraps=contact_sheet) as drawn:
        attack("coded.slic", "--op", "blur", "--op", "jpeg", "--recompress", "-o", "sheet.png")
    columns, title = drawn.call_args.args
    assert [column.label for column in columns] == ["no edit", "blur r=1", "jpeg 85"]
    assert np.array_equal(columns[0].top, pixels_of(Path("first.png")))
    assert all(column.caption.startswith("PSNR ") for column in columns)
    assert TINY_NAME in title


def test_every_file_is_in_the_records() -> None:
    records = attack("coded.slic", "--op", "blur", "--recompress", "-o", "out")
    assert {Path(name) for record in records for name in record["outputs"]} == set(Path("out").iterdir())


def test_logs_say_where_things_went() -> None:
    result = slic("attack", "coded.slic", "--op", "blur", "--recompress", "-o", "out")
    assert (result.code, result.out, len(result.lines)) == (0, b"", 3)
    assert "out/coded.blur-r=1.png" in result.lines[1]
    assert result.lines[2].endswith("-> out/coded.contact-sheet.png")


def test_a_bad_input_does_not_stop_the_others() -> None:
    Path("bad.png").write_bytes(b"bad")
    result = slic("attack", "bad.png", "coded.slic", *MODEL, "--op", "blur", "-o", "out")
    assert result.code == 3
    assert names(Path("out")) == {"coded.blur-r=1.png"}


def test_one_pixel_can_be_attacked() -> None:
    save_photograph(Path("dot.png"), 1, 1)
    assert len(attack("dot.png", *MODEL, "--op", "all", "--recompress", "-o", "dot.sheet.png")) == len(COMMON) + 2


def test_the_list_of_edits_names_all() -> None:
    text = slic("edits").out.decode()
    assert [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")] == list(EDITS)
