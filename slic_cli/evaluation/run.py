"""`slic evaluate`: measure what is missing, then write the report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slic_cli.console import Console
from slic_cli.errors import BadInput, OutputExists, SlicError
from slic_cli.evaluation.measure import Bench, Distance, lpips_distance
from slic_cli.evaluation.page import page
from slic_cli.evaluation.photographs import Photograph, find_photographs, read_photograph
from slic_cli.evaluation.plan import Plan, make_plan
from slic_cli.evaluation.records import Journal
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.sheets import Sheet, make_sheets
from slic_cli.evaluation.simulations import load_simulations
from slic_cli.evaluation.tables import build
from slic_cli.evaluation.text import csv_text, markdown, summary
from slic_cli.files import write_atomically
from slic_cli.operations import Workshop
from slic_cli.outputs import make_directory

RECORDS = "records.jsonl"
REPORT, MARKDOWN, JSON, CSV = "report.html", "tables.md", "tables.json", "records.csv"


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see `slic evaluate --help`."""

    inputs: Sequence[str]
    models: Sequence[str]
    tables: str
    edits: Sequence[str]
    output: Path
    backbone: Path | None = None
    unet: Path | None = None
    limit: int | None = None
    device: str = "auto"
    precision: str = "auto"
    force: bool = False


class Evaluation:
    """One run: the plan, the models, the records and what came of them."""

    def __init__(self, request: Request, plan: Plan, console: Console) -> None:
        from slic_cli.codec import choose_device, choose_precision

        device = choose_device(request.device)
        precision = str(choose_precision(request.precision, device)).removeprefix("torch.")
        self.request, self.plan, self.console = request, plan, console
        self.distance: Distance | None = lpips_distance(request.backbone) if request.backbone else None
        self.workshop = Workshop(request.device, request.precision)
        self.simulations = load_simulations(plan.simulations, request.unet, device)
        self.models = {spec.digest: spec for spec in plan.models}
        self.jobs = plan.jobs()
        self.results = Results(plan, f"{device.type} {precision}")
        self._started, self._measured = time.perf_counter(), 0

    def measure(self, datasets: dict[str, list[Path]], journal: Journal) -> None:
        """Take what is known from the journal, measure the rest, and say how far it is."""
        files = [(dataset, path) for dataset, paths in datasets.items() for path in paths]
        for number, (dataset, path) in enumerate(files, 1):
            pictures = self.results.pictures.setdefault(dataset, {})
            try:
                photograph = read_photograph(dataset, path)
                measured = self._measure(photograph, journal)
            except BadInput as error:
                self._skip(str(error))
                continue
            pictures[photograph.digest] = path.name
            left = self._time_left(len(files) - number)
            self.console.log(f"{path} ({number} of {len(files)}): {measured} of {len(self.jobs)} measured now{left}")

    def _measure(self, photograph: Photograph, journal: Journal) -> int:
        known = {job: journal.find(photograph.digest, job, self.distance is not None) for job in self.jobs}
        missing = [job for job, figures in known.items() if figures is None]
        self.results.figures |= {(photograph.digest, job): figures for job, figures in known.items() if figures}
        if not missing:
            return 0
        for job, figures in self._bench(photograph).measure(missing):
            if isinstance(figures, SlicError):
                self._skip(f"{photograph.path}: {figures}")
                continue
            journal.add(photograph.digest, photograph.path.name, job, figures)
            self.results.figures[photograph.digest, job] = figures
        self._measured += 1
        return len(missing)

    def _bench(self, photograph: Photograph) -> Bench:
        return Bench(photograph.pixels(), self.models, self.simulations, self.workshop, self.distance)

    def _skip(self, reason: str) -> None:
        self.console.error(reason)
        self.results.skipped.append(reason)

    def _time_left(self, pictures: int) -> str:
        """As if all that follow have to be measured like those so far."""
        if not pictures or not self._measured:
            return ""
        seconds = (time.perf_counter() - self._started) / self._measured * pictures
        return f", about {seconds:.0f} s left" if seconds < 90 else f", about {seconds / 60:.0f} minutes left"

    def sheets(self, datasets: dict[str, list[Path]]) -> list[Sheet]:
        """The pages to look at, for the first photograph of each data set that could be read."""
        made: list[Sheet] = []
        if "sheets" not in self.plan.tables:
            return made
        for dataset, paths in datasets.items():
            first = next(iter(self.results.pictures[dataset].items()), None)
            if first is not None:
                (path,) = (path for path in paths if path.name == first[1])
                made += self._sheets_of(dataset, path, first)
        return made

    def _sheets_of(self, dataset: str, path: Path, picture: tuple[str, str]) -> list[Sheet]:
        benches: list[Bench] = []

        def bench() -> Bench:
            if not benches:
                self.console.log(f"{path}: drawing contact sheets")
                benches.append(self._bench(read_photograph(dataset, path)))
            return benches[0]

        return list(make_sheets(self.plan, dataset, picture, bench, self.request.output))

    def write(self, sheets: Sequence[Sheet]) -> dict[str, Any]:
        """All files of the report, each whole or not at all; the object that --json prints. Raises OutputError."""
        tables = build(self.results)
        report = summary(self.results, tables)
        texts = {
            JSON: json.dumps(report, indent=1) + "\n",
            MARKDOWN: markdown(tables),
            CSV: csv_text(self.results),
            REPORT: page(self.results, tables, sheets),
        }
        for name, text in texts.items():
            write_atomically(self.request.output / name, text.encode(errors="backslashreplace"), force=True)
        return {"report": str(self.request.output / REPORT), **report}


def evaluate(request: Request, console: Console) -> None:
    """Evaluate and write the report; going on with the records of an earlier run unless `force` is set.

    Photographs that cannot be read are reported and skipped. Raises BadInput if none can be read, and UsageError,
    ModelError or OutputError before anything is measured.
    """
    plan, notes = make_plan(request.models, request.tables, request.edits, request.unet)
    datasets = find_photographs(request.inputs, request.limit)
    _check_output(request)
    evaluation = Evaluation(request, plan, console)
    for note in notes:
        console.log(note)
    journal = Journal(make_directory(request.output) / RECORDS, evaluation.results.settings, request.force)
    if journal.damaged:
        console.log(f"{journal.path}: {journal.damaged} damaged lines are measured again")
    with journal:
        evaluation.measure(datasets, journal)
    if not any(evaluation.results.pictures.values()):
        raise BadInput(f"{', '.join(request.inputs)}: expected photographs, got none that can be read")
    report = evaluation.write(evaluation.sheets(datasets))
    console.record(report, f"{', '.join(datasets)} -> {report['report']}")


def _check_output(request: Request) -> None:
    """A directory with a report in it but no records is not this command's. Raises OutputExists."""
    taken = [name for name in (REPORT, MARKDOWN, JSON, CSV) if (request.output / name).exists()]
    if taken and not (request.output / RECORDS).exists() and not request.force:
        raise OutputExists(f"{request.output / taken[0]}: exists already; expected a new directory or --force")
