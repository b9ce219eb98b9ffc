"""What was measured, kept line by line, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from slic_cli import __version__
from slic_cli.errors import OutputError

FIGURES = (
    "height", "width", "bytes", "bpp", "psnr_db", "ms_ssim", "lpips", "psnr_outside_db", "psnr_inside_db",
)  # fmt: skip
_REQUIRED = frozenset(FIGURES[:5])
LPIPS_SIDE = 64  # the shortest side that VGG's layers leave something of
Figures = Mapping[str, float]  # by names of FIGURES; what was not measured is absent


@dataclass(frozen=True)
class Job:
    """One compression to measure: how far a picture is from what a coder makes of it.

    A simulation of JPEG is a coder too, but one of the edit: it starts from the picture before the edit.

    source: digest of the model whose first decode of the photograph it is, or "" for the photograph itself.
    edit:   text of an Attack on it, or "" for none.
    coder:  digest of the model that compresses it, or a file format with its setting, such as "jpeg:quality=75",
            or one of evaluation/simulations.py.
    """

    source: str
    edit: str
    coder: str


class Journal:
    """The file of all records, one JSON object a line; used as a context manager, it appends.

    A record belongs to this run if picture, job, version of slic and `settings` (device and precision) are those of the
    run. Others stay in the file and are not looked at. With `anew` the file begins empty. Raises OutputError.
    """

    def __init__(self, path: Path, settings: str, anew: bool = False) -> None:
        self.path = path
        self.damaged = 0  # lines that are no record, such as the last one of a run that was killed
        self._stamp = {"version": __version__, "settings": settings}
        self._known: dict[tuple[str, Job], Figures] = {}
        self._stream: IO[str] | None = None
        try:
            text = "" if anew or not path.exists() else path.read_text(encoding="utf-8", errors="replace")
            self._begin = "w" if anew else "a"
            self._unfinished = bool(text) and not text.endswith("\n")
        except OSError as error:
            raise OutputError(f"{path}: expected a readable file of records, got: {error.strerror}") from error
        for line in text.splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        try:
            record = json.loads(line)
            job = Job(*(str(record[key]) for key in ("source", "edit", "coder")))
            figures = {key: _number(record[key]) for key in FIGURES if key in record}
            if {key: record[key] for key in self._stamp} == self._stamp and figures.keys() >= _REQUIRED:
                self._known[str(record["picture"]), job] = figures
        except (ValueError, TypeError, KeyError):
            self.damaged += 1

    def __enter__(self) -> Self:
        try:
            self._stream = self.path.open(self._begin, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written: {error.strerror}") from error
        if self._unfinished:
            self._write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def find(self, picture: str, job: Job, with_lpips: bool = False) -> Figures | None:
        """What a job gave on the picture of that digest; None if it has yet to be measured, or its LPIPS has."""
        figures = self._known.get((picture, job))
        if figures is None or not with_lpips or "lpips" in figures:
            return figures
        return figures if min(figures["height"], figures["width"]) < LPIPS_SIDE else None

    def add(self, picture: str, name: str, job: Job, figures: Figures) -> None:
        """Keep a record, on disk before this returns. Raises OutputError."""
        numbers = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        record = {"picture": picture, "name": name, **asdict(job), **numbers, **self._stamp}
        self._write(json.dumps(record) + "\n")
        self._known[picture, job] = dict(figures)

    def _write(self, text: str) -> None:
        if self._stream is None:
            raise ValueError("expected a journal that has been entered")
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written: {error.strerror}") from error


def _number(value: Any) -> float:
    """JSON has no infinity: null is the PSNR of equal pictures. Raises ValueError for what is no number."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return value
