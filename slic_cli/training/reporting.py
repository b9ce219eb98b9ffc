"""What is seen of training while it runs: progress on stderr, metrics.jsonl, pictures, and a plot at the end."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn

from slic_cli.console import Console
from slic_cli.errors import OutputError
from slic_cli.files import write_atomically
from slic_cli.training.schedule import Clock
from slic_cli.training.validation import Validation, format_row

_SMOOTHING = 0.8
_LOG_SECONDS = 60.0  # between log lines where there is no terminal
METRICS = "metrics.jsonl"


@dataclass
class Reporter:
    """Where a run in `directory` reports to. Silent in all processes but the first."""

    directory: Path
    console: Console
    leads: bool = True
    _progress: Progress | None = None
    _smooth: dict[str, float] = field(default_factory=dict)
    _validated: Mapping[str, float] = field(default_factory=dict)
    _logged: float = -math.inf

    def begin(self, stage: str) -> None:
        """A stage starts: a bar on a terminal, lines elsewhere."""
        self._smooth, self._logged = {}, -math.inf
        terminal = RichConsole(stderr=True)
        if self.leads and not self.console.quiet and terminal.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(10), TextColumn("{task.fields[figures]}"))
            self._progress = Progress(*columns, console=terminal)
            self._progress.add_task(stage, total=1.0, figures="")
            self._progress.start()

    def end(self) -> None:
        """A stage ends or is stopped."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def rewind(self, stage: str, step: int) -> None:
        """Forget what was recorded of a stage after `step`, or all of it at 0: it is about to be done again."""
        records = read_metrics(self.directory) if self.leads else []
        kept = [r for r in records if r["stage"] != stage or 0 < step >= r["step"]]
        if len(kept) < len(records):
            lines = "".join(json.dumps(record) + "\n" for record in kept)
            write_atomically(self.directory / METRICS, lines.encode(), force=True)

    def step(self, stage: str, clock: Clock, figures: Mapping[str, float]) -> None:
        """The figures of one step; shown smoothed, recorded as they are."""
        shown = dict(figures)
        shown["psnr_db"] = -10 * math.log10(max(shown.pop("mse"), 1e-10)) if "mse" in shown else math.nan
        for key, value in shown.items():
            self._smooth[key] = _SMOOTHING * self._smooth.get(key, value) + (1 - _SMOOTHING) * value
        self._record(stage, clock, "step", figures)
        left = f"{_time(clock.seconds_left)} left"
        if self._progress:
            text = f"{left}, {self._summary()}"
            self._progress.update(self._progress.task_ids[0], completed=min(1.0, clock.progress), figures=text)
        elif time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            self.console.log(f"{stage}: step {clock.step}, {left}, {format_row(self._smooth)}")

    def _summary(self) -> str:
        """What fits on a line: rate, PSNR, distances of clean and edited pictures, the last second PSNR."""
        smooth = self._smooth
        edited = [value for key, value in smooth.items() if key.startswith("d_") and key != "d_clean"]
        parts = [f"{smooth['bpp']:.2f} bpp"] if "bpp" in smooth else []
        parts += [f"{smooth['psnr_db']:.1f} dB"]
        if edited:
            parts += [f"d {smooth.get('d_clean', math.nan):.2f} and {sum(edited) / len(edited):.2f}"]
        if "clean_db" in self._validated:
            parts += [f"again {self._validated['clean_db']:.1f} dB"]
        return ", ".join(parts)

    def validation(self, stage: str, clock: Clock, validation: Validation) -> None:
        """A validation row and its picture."""
        self._validated = validation.row
        self._record(stage, clock, "validation", validation.row)
        pictures = self.directory / "pictures"
        try:
            pictures.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{pictures}: could not be made: {error.strerror}") from error
        write_atomically(pictures / f"{stage}-{clock.step:07d}.png", _png(validation.picture), force=True)
        line = f"{stage}: validation at step {clock.step}: {format_row(validation.row)}"
        if self._progress:
            self._progress.console.print(line, highlight=False)
        else:
            self.console.log(line)

    def _record(self, stage: str, clock: Clock, kind: str, figures: Mapping[str, float]) -> None:
        record = {"kind": kind, "stage": stage, "step": clock.step, "seconds": round(clock.seconds, 2), **figures}
        try:
            with (self.directory / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({k: _finite(v) for k, v in record.items()}) + "\n")
        except OSError as error:
            raise OutputError(f"{self.directory / METRICS}: could not be written: {error.strerror}") from error


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown time"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def last_rows(directory: Path) -> dict[str, dict[str, Any]]:
    """The latest validation record of each stage in a run's metrics file."""
    rows: dict[str, dict[str, Any]] = {}
    for record in read_metrics(directory):
        if record.get("kind") == "validation":
            rows[record["stage"]] = record
    return rows


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """All whole records of a run's metrics file, none if there is no file; a line cut short by a kill is left out."""
    path = directory / METRICS
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def plot(directory: Path) -> Path:
    """Draw what the metrics file holds, a column of panels for each stage: plot.png. Needs matplotlib (extra train)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_metrics(directory)
    stages = list(dict.fromkeys(record["stage"] for record in records))
    figure = Figure(figsize=(6 * max(1, len(stages)), 9), layout="constrained")
    axes = figure.subplots(3, max(1, len(stages)), squeeze=False)
    for column, stage in zip(axes.T, stages, strict=False):
        mine = [record for record in records if record["stage"] == stage]
        _panel(column[0], mine, "step", lambda key: key in ("loss", "bpp"), f"{stage}: loss, bpp")
        _panel(column[1], mine, "step", lambda key: key.startswith("d_"), "distance to the second decode")
        _panel(column[2], mine, "validation", lambda key: key.endswith("_db"), "validation, dB")
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    write_atomically(directory / "plot.png", buffer.getvalue(), force=True)
    return directory / "plot.png"


def _panel(axes: Any, records: list[dict[str, Any]], kind: str, wanted: Any, title: str) -> None:
    mine = [record for record in records if record["kind"] == kind]
    for key in dict.fromkeys(key for record in mine for key in record if wanted(key)):
        points = [(r["step"], r[key]) for r in mine if r.get(key) is not None]
        axes.plot(*zip(*points, strict=True), label=key, linewidth=1)
    axes.set(title=title, xlabel="step")
    if axes.lines:
        axes.legend(fontsize=7)
