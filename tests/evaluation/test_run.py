"""`slic evaluate` as a command: going on after a stop, what it skips, what it refuses, LPIPS when it can be had."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from test_cli import Result, names, save_photograph, slic

from evaluation.conftest import OPTIONS, SECURED, VANILLA, Report
from slic_cli.attacks import missing_format
from slic_cli.evaluation import measure
from slic_cli.evaluation.plan import EDITS, TABLES

GENERATED = ("report.html", "tables.md", "tables.json", "records.csv")
QUICK = ("--tables", "4", "--op", "blur")


@pytest.fixture(autouse=True)
def _here(workplace: Path) -> None:
    pass


def evaluate(*arguments: str | Path) -> Result:
    return slic("evaluate", *arguments)


def whole(report: Report, output: Path) -> Result:
    """The run of the fixture once more, into another directory."""
    return evaluate(report.photographs, "--model", SECURED, *OPTIONS, "-o", output)


def rows(output: Path, table: str = "4") -> list[dict[str, object]]:
    tables = json.loads((output / "tables.json").read_text())["tables"]
    return [row for one in tables if one["table"] == table for row in one["rows"]]


def test_a_second_run_repeats_every_byte(report: Report) -> None:
    for output in ("one", "two"):
        options = ("--limit", "1", "--tables", "4,5,sheets", "--op", "noise", "--op", "splice", "-o", output)
        assert evaluate(report.photographs, "--model", SECURED, *options).code == 0
    assert len(names(Path("one"))) == 9  # records, four files, a directory with three sheets
    for name in names(Path("one")):
        assert Path("one", name).is_dir() or Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


def test_a_finished_run_measures_nothing_again(report: Report) -> None:
    shutil.copytree(report.output, "copy")
    for name in GENERATED:
        Path("copy", name).unlink()
    with patch.object(measure.Bench, "compress", side_effect=AssertionError):
        assert whole(report, Path("copy")).code == 0
    for name in GENERATED:
        assert Path("copy", name).read_bytes() == (report.output / name).read_bytes()


def test_a_killed_run_goes_on(report: Report) -> None:
    """The records end in the middle of a line of the second photograph."""
    lines = (report.output / "records.jsonl").read_bytes().splitlines(keepends=True)
    kept = len(lines) // 2
    Path("copy").mkdir()
    Path("copy/records.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
    with patch.object(measure, "compare", wraps=measure.compare) as compared:
        result = whole(report, Path("copy"))
    assert result.code == 0
    assert compared.call_count == len(lines) - kept
    assert "1 damaged" in result.err
    for name in GENERATED:
        assert Path("copy", name).read_bytes() == (report.output / name).read_bytes(), name
    with patch.object(measure.Bench, "compress", side_effect=AssertionError):  # all that was added can be read
        assert whole(report, Path("copy")).code == 0


def test_force_begins_anew(report: Report) -> None:
    shutil.copytree(report.output, "copy")
    record = json.loads(Path("copy/records.jsonl").read_text().splitlines()[0])
    Path("copy/records.jsonl").write_text(json.dumps({**record, "psnr_db": 99.0}) + "\n")
    arguments = (report.photographs, "--model", SECURED, *QUICK, "-o", "copy")
    assert evaluate(*arguments).code == 0
    assert "99.0" in Path("copy/records.csv").read_text()
    assert evaluate(*arguments, "--force").code == 0
    assert "99.0" not in Path("copy/records.csv").read_text()


@pytest.mark.parametrize("change", [{"version": "0.0.1"}, {"settings": "cpu float8"}, {"picture": "0" * 64}])
def test_records_of_something_else_do_not_count(change: dict[str, str]) -> None:
    photo = save_photograph(Path("photo.png"))
    assert evaluate(photo, "--model", SECURED, *QUICK).code == 0
    before, journal = rows(Path("report")), Path("report/records.jsonl")
    foreign = [{**json.loads(line), **change, "psnr_db": 99.0} for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(record) + "\n" for record in foreign))
    assert evaluate(photo, "--model", SECURED, *QUICK).code == 0
    assert rows(Path("report")) == before
    assert len(journal.read_text().splitlines()) == 2 * len(foreign)


def test_another_strength_adds_its_records_alone() -> None:
    photo = save_photograph(Path("photo.png"))
    assert evaluate(photo, "--model", SECURED, *QUICK).code == 0
    with patch.object(measure, "compare", wraps=measure.compare) as compared:
        assert evaluate(photo, "--model", SECURED, *QUICK, "--op", "blur:radius=2").code == 0
    assert compared.call_count == 1
    assert [row["edit"] for row in rows(Path("report"))] == ["no edit", "blur r=1", "blur r=2"]


def test_unreadable_photographs_are_reported_and_skipped() -> None:
    Path("set").mkdir()
    save_photograph(Path("set/good.png"))
    Path("set/bad.png").write_bytes(b"no picture")
    Path("set/notes.txt").write_text("not looked at")
    result = evaluate("set", "--model", SECURED, *QUICK, "-q")
    assert result.code == 0
    assert "bad.png" in result.error(0)
    assert [row["pictures"] for row in rows(Path("report"))] == [1, 1]
    assert "bad.png" in Path("report/report.html").read_text().split("Not measured")[1]


def test_no_readable_photograph_is_bad_input() -> None:
    Path("set").mkdir()
    assert "set" in evaluate("set", "--model", SECURED).error(3)
    assert "missing" in evaluate("missing", "--model", SECURED).error(3)
    Path("set/bad.png").write_bytes(b"no picture")
    result = evaluate("set", "--model", SECURED, *QUICK)
    assert result.code == 3
    assert "set/bad.png" in result.lines[0]
    assert not Path("report/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--tables", "4,seven"], 2, "seven"),
        (["--tables", ""], 2, ",".join(TABLES)),
        (["--op", "nope"], 2, "nope"),
        (["--model", "no-such-model"], 4, "no-such-model"),
        (["--limit", "0"], 2, "limit"),
        (["--backbone", "missing.safetensors"], 4, "missing.safetensors"),
    ],
)
def test_refusals_come_before_any_work(arguments: list[str], code: int, word: str) -> None:
    save_photograph(Path("photo.png"))
    assert word in evaluate("photo.png", "--op", "blur", *arguments).error(code)
    assert names(Path()) == {"photo.png"}


def test_a_report_of_someone_else_is_kept() -> None:
    save_photograph(Path("photo.png"))
    Path("report").mkdir()
    Path("report/report.html").write_text("mine")
    assert "--force" in evaluate("photo.png", "--model", SECURED, *QUICK).error(2)
    assert Path("report/report.html").read_text() == "mine"
    assert evaluate("photo.png", "--model", SECURED, *QUICK, "--force").code == 0
    assert Path("report/report.html").read_text() != "mine"


def test_an_output_that_is_no_directory() -> None:
    save_photograph(Path("photo.png"))
    Path("file").write_text("x")
    assert "file" in evaluate("photo.png", "--model", SECURED, *QUICK, "-o", "file").error(5)


def test_every_default_edit_and_data_set_has_its_rows() -> None:
    for directory in ("one", "deep/one", "two"):
        Path(directory).mkdir(parents=True)
        for number in range(2):
            save_photograph(Path(directory, f"{number}.png"), 20, 30, seed=number + len(directory))
    result = evaluate("one", "deep/one", "two", "--model", SECURED, "--limit", "1", "--json", "-q", "--tables", "4,3")
    assert (result.code, result.err) == (0, "")
    (printed,) = result.records
    assert printed["datasets"] == {"one": ["0.png"], "deep/one": ["0.png"], "two": ["0.png"]}
    assert [(one["table"], one["dataset"]) for one in printed["tables"]] == [
        (table, dataset) for table in "34" for dataset in printed["datasets"]
    ]
    possible = [text for text in EDITS if not missing_format(text.partition(":")[0])]
    assert len(printed["tables"][-1]["rows"]) == 1 + len(possible) > 20


def test_equal_pictures() -> None:
    """JPEG keeps an even grey exactly: that is no PSNR, in JSON null and in words "equal"."""
    Image.new("RGB", (64, 48), (128, 128, 128)).save("flat.png")
    assert evaluate("flat.png", "--model", SECURED, "--op", "blur").code == 0
    (row,) = (row for row in rows(Path("report"), "rd") if row["setting"] == "quality 98")
    assert row["psnr_db"] is None
    lines = Path("report/tables.md").read_text().splitlines()
    assert any(line.startswith("| JPEG | quality 98 |") and "| equal |" in line for line in lines)
    before = Path("report/tables.json").read_bytes()
    assert evaluate("flat.png", "--model", SECURED, "--op", "blur").code == 0  # null is read back as what it was
    assert Path("report/tables.json").read_bytes() == before
    assert any("| equal |" in line for line in Path("report/tables.md").read_text().splitlines())


def test_by_default_the_models_that_self_destruct_are_evaluated(both_models: Path) -> None:
    with patch("slic_cli.registry.search_path", return_value=[both_models]):
        save_photograph(Path("photo.png"))
        assert evaluate("photo.png", "--tables", "4,5", "--op", "blur").code == 0
    (row,) = rows(Path("report"), "5")
    assert (row["model"], row["base"]) == (SECURED, VANILLA)
    tables = json.loads(Path("report/tables.json").read_text())["tables"]
    assert [one["model"] for one in tables if one["table"] == "4"] == [SECURED]


def test_a_vanilla_model_can_be_evaluated_by_name() -> None:
    save_photograph(Path("photo.png"))
    assert evaluate("photo.png", "--model", VANILLA, "--tables", "3,4,harmless", "--op", "blur").code == 0
    assert [row["metric"] for row in rows(Path("report"), "3")] == ["none"]
    assert rows(Path("report"), "harmless") == []  # it has nothing to detect


def test_several_models_share_a_sheet() -> None:
    photo = save_photograph(Path("photo.png"), 40, 48)
    arguments = (photo, "--model", VANILLA, "--model", SECURED, "--tables", "sheets", "--op", "blur")
    assert evaluate(*arguments).code == 0
    (path,) = Path("report/sheets").glob("models-*.jpg")
    page = Image.open(path)
    assert page.width > page.height > 0  # the photograph and two pairs, side by side
    text = Path("report/report.html").read_text()
    assert "Table 3: the first decode of each model, and re-compressed (photo.png of photo.png)" in text
    before = path.stat().st_mtime_ns
    assert evaluate(*arguments).code == 0
    assert path.stat().st_mtime_ns == before


def test_a_format_that_cannot_hold_a_picture_is_skipped() -> None:
    save_photograph(Path("wide.png"), 1, 16400)
    result = evaluate("wide.png", "--model", SECURED, "--tables", "4", "--op", "webp", "--op", "sharpen", "-q")
    assert result.code == 0
    assert "WEBP" in result.error(0)
    assert [row["edit"] for row in rows(Path("report"))] == ["no edit", "sharpen"]


def test_lpips_is_a_column_when_there_is_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the distances of training: the mean difference of two batches in 0 to 1."""
    photo = save_photograph(Path("photo.png"), 64, 64)
    arguments = (photo, "--model", SECURED, *QUICK)
    assert evaluate(*arguments).code == 0

    def make_distance(name: str, backbone: Path) -> object:
        assert (name, backbone) == ("lpips", Path("vgg.safetensors"))
        return lambda x, y: (x - y).abs().mean((1, 2, 3)) if x.shape == (1, 3, 64, 64) else torch.tensor([9.0])

    module = ModuleType("slic_cli.training.distances")
    module.make_distance = make_distance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slic_cli.training.distances", module)
    assert evaluate(*arguments, "--backbone", "vgg.safetensors").code == 0
    values = [row["lpips"] for row in rows(Path("report"))]
    assert all(isinstance(value, float) and 0 < value < 1 for value in values)
    assert "LPIPS" in Path("report/tables.md").read_text()
    with patch.object(measure.Bench, "compress", side_effect=AssertionError):
        assert evaluate(*arguments, "--backbone", "vgg.safetensors").code == 0
        assert evaluate(*arguments).code == 0
