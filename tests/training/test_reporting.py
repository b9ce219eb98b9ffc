"""What a run records and shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("compressai")

from slic_cli.console import Console
from slic_cli.errors import OutputError
from slic_cli.training.recipe import BaseTable
from slic_cli.training.reporting import METRICS, Reporter, last_rows, plot, read_metrics
from slic_cli.training.schedule import Clock
from slic_cli.training.validation import Validation, format_row

TABLE = BaseTable(steps=100)


def clock(step: int) -> Clock:
    return Clock(TABLE, step, step * 2.0)


def validation(value: float) -> Validation:
    return Validation({"bpp": value, "clean_db": 5.0}, 1.0, np.zeros((4, 8, 3), np.uint8))


def filled(directory: Path) -> Reporter:
    report = Reporter(directory, Console(quiet=True))
    for stage in ("base", "slic"):
        for step in (0, 5, 10):
            report.step(stage, clock(step), {"loss": 3.0 - step / 10, "bpp": 1.0, "mse": 0.01, "d_clean": 0.1})
            report.validation(stage, clock(step), validation(step / 10))
    return report


def test_records_are_json_lines(tmp_path: Path) -> None:
    filled(tmp_path)
    records = read_metrics(tmp_path)
    assert len(records) == 12
    assert records[2] == {"kind": "step", "stage": "base", "step": 5, "seconds": 10.0, "loss": 2.5, "bpp": 1.0,
                          "mse": 0.01, "d_clean": 0.1}  # fmt: skip
    assert last_rows(tmp_path)["slic"]["bpp"] == 1.0
    assert {path.name for path in (tmp_path / "pictures").iterdir()} >= {"base-0000000.png", "slic-0000010.png"}


def test_infinite_figures_become_null(tmp_path: Path) -> None:
    Reporter(tmp_path, Console(quiet=True)).step("base", clock(1), {"loss": math.inf})
    assert json.loads((tmp_path / METRICS).read_text())["loss"] is None


def test_rewinding_forgets_one_stage_from_a_step_on(tmp_path: Path) -> None:
    report = filled(tmp_path)
    report.rewind("slic", 5)
    assert [r["step"] for r in read_metrics(tmp_path) if r["stage"] == "slic"] == [0, 0, 5, 5]
    assert len([r for r in read_metrics(tmp_path) if r["stage"] == "base"]) == 6
    report.rewind("base", 0)
    assert not [r for r in read_metrics(tmp_path) if r["stage"] == "base"]


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    filled(tmp_path)
    with (tmp_path / METRICS).open("a") as stream:
        stream.write('{"kind": "st')
    assert len(read_metrics(tmp_path)) == 12
    assert read_metrics(tmp_path / "nowhere") == []


def test_without_a_terminal_lines_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter(tmp_path, Console())
    report.begin("base")
    report.step("base", clock(50), {"loss": 2.0, "mse": 0.01})
    report.end()
    said = capsys.readouterr().err
    assert "base: step 50, 100 min left" not in said
    assert "base: step 50, 2 min left, loss 2.000, psnr 20.000 dB" in said


def test_others_than_the_first_process_write_nothing(tmp_path: Path) -> None:
    report = Reporter(tmp_path, Console(quiet=True), leads=False)
    report.begin("base")
    report.rewind("base", 0)
    report.end()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    report = Reporter(tmp_path / "gone", Console(quiet=True))
    with pytest.raises(OutputError, match="could not be written"):
        report.step("base", clock(0), {"loss": 1.0})


def test_the_plot_shows_every_stage(tmp_path: Path) -> None:
    filled(tmp_path)
    assert plot(tmp_path).read_bytes().startswith(b"\x89PNG")
    (tmp_path / METRICS).unlink()
    assert plot(tmp_path).exists()  # nothing to show is no error


def test_rows_for_people() -> None:
    assert format_row({"bpp": 1.0, "clean_db": 5.25, "other": math.nan}) == "bpp 1.000, clean 5.250 dB"


def test_on_a_terminal_a_line_says_what_matters(tmp_path: Path) -> None:
    report = filled(tmp_path)
    report.begin("slic")
    report.step("slic", clock(5), {"loss": 1.0, "bpp": 0.5, "mse": 0.001, "d_clean": 0.9, "d_jpeg": 0.2, "d_blur": 0.4})
    assert report._summary() == "0.50 bpp, 30.0 dB, d 0.90 and 0.30, again 5.0 dB"
