"""Tables and records as text: Markdown, CSV and what JSON takes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from slic_cli import __version__
from slic_cli.evaluation.records import FIGURES
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.table import Cell, Column, Row, Table


def format_cell(cell: Cell, column: Column) -> str:
    """A cell as people read it; nothing for one that was not measured."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if not math.isfinite(cell):
        return "equal"
    return f"{cell:.{column.digits}%}" if column.percent else f"{cell:.{column.digits}f}"


def markdown(tables: Sequence[Table]) -> str:
    """All tables, each under a heading of its own."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    columns = table.shown()
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [[format_cell(row.get(column.key), column) for column in columns] for row in table.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"## {table.title} ({table.dataset})\n\n{table.note}\n\n{body}\n"


def summary(results: Results, tables: Sequence[Table]) -> dict[str, Any]:
    """One object for JSON: what was measured, and the tables with every digit."""
    models = [{"name": s.name, "digest": s.digest, "metric": s.metric} for s in results.plan.models]
    return {
        "version": __version__, "settings": results.settings, "models": models,
        "datasets": {name: list(pictures.values()) for name, pictures in results.pictures.items()},
        "skipped": results.skipped,
        "tables": [_table_object(table) for table in tables],
    }  # fmt: skip


def _table_object(table: Table) -> dict[str, Any]:
    rows = [_finite(row) for row in table.rows]
    names = {"table": table.name, "title": table.title, "dataset": table.dataset, "model": table.model}
    return {**names, "note": table.note, "rows": rows}


def _finite(row: Row) -> Row:
    """JSON knows no infinity: the PSNR of equal pictures becomes null."""
    return {key: None if isinstance(cell, float) and not math.isfinite(cell) else cell for key, cell in row.items()}


def csv_text(results: Results) -> str:
    """Every single figure: a line for each picture and job. Equal pictures have the PSNR inf."""
    names = results.model_names()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("dataset", "picture", "source", "edit", "coder", *FIGURES))
    for dataset, pictures in results.pictures.items():
        for job in results.plan.jobs():
            for digest, picture in pictures.items():
                figures = results.figures.get((digest, job))
                if figures is not None:
                    words = names.get(job.source, "photograph"), job.edit, names.get(job.coder, job.coder)
                    writer.writerow((dataset, picture, *words, *(figures.get(name, "") for name in FIGURES)))
    return stream.getvalue()
