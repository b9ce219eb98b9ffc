"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from slic_cli import __version__
from slic_cli.evaluation import plots
from slic_cli.evaluation.harmless_table import detections
from slic_cli.evaluation.rate_tables import rate_curves
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.sheets import Sheet
from slic_cli.evaluation.table import Table
from slic_cli.evaluation.text import format_cell

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .3rem; }
p { margin: .3rem 0 .8rem; color: #444; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem .22rem 0; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; border-bottom-color: #888; font-weight: 600; }
th.words, td.words { text-align: left; }
tr:hover td { background: #f6f6f6; }
svg, img { max-width: 100%; height: auto; }
figure { margin: 1.2rem 0; }
figcaption, .small { font-size: .86rem; color: #666; }
"""
_ABOUT = (
    "PSNR between an (edited) first decode and what the codec makes of it. A codec that protects gives a low one: "
    "at 10 dB and below the picture is destroyed, above about 20 dB it has come through."
)
_EDIT_KEY = "Dot: mean; line: lowest to highest. Blue: below 10 dB, the dashed line; orange: above 20 dB."
_CURVE_KEY = (
    "Catches (upwards) against false alarms (to the right) as the threshold moves, and the area under the curve."
)


def page(results: Results, tables: Sequence[Table], sheets: Sequence[Sheet]) -> str:
    """The whole page. Raises OutputError for a sheet that has gone."""
    models = ", ".join(spec.name for spec in results.plan.subjects) or "no model"
    sets = ", ".join(f"{name} ({len(pictures)})" for name, pictures in results.pictures.items())
    made = f"slic {__version__}, {results.settings}; data sets: {sets}"
    body = "".join(_section(results, table) for table in tables)
    figures = "".join(_figure(sheet) for sheet in sheets)
    skipped = "".join(f"<li>{escape(reason)}</li>" for reason in results.skipped)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>slic evaluate: {escape(models)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>slic evaluate</h1><p>{escape(models)}</p><p class="small">{escape(made)}</p><p>{_ABOUT}</p>'
        f"{body}{f'<h2>Pictures</h2>{figures}' if figures else ''}"
        f"{f'<h2>Not measured</h2><ul>{skipped}</ul>' if skipped else ''}</body></html>\n"
    )


def _section(results: Results, table: Table) -> str:
    heading = f"<h2>{escape(table.title)} ({escape(table.dataset)})</h2><p>{escape(table.note)}</p>"
    drawing, key = _drawing(results, table)
    figure = f"<figure>{drawing}<figcaption>{escape(key)}</figcaption></figure>" if drawing else ""
    return f"{heading}{figure}{_html_table(table)}\n"


def _drawing(results: Results, table: Table) -> tuple[str, str]:
    title = f"{table.title} ({table.dataset})"
    if table.name == "4":
        return plots.plot_edits(table), _EDIT_KEY
    if table.name == "rd":
        return plots.plot_rates(rate_curves(results, table.dataset), title), ""
    if table.name == "harmless":
        (spec,) = (spec for spec in results.plan.secured if spec.name == table.model)
        return plots.plot_detections(detections(results, table.dataset, spec), title), _CURVE_KEY
    return "", ""


def _html_table(table: Table) -> str:
    columns = table.shown()
    words = {c.key for c in columns if any(isinstance(row.get(c.key), str) for row in table.rows)}
    style = {c.key: ' class="words"' if c.key in words else "" for c in columns}
    head = "".join(f"<th{style[c.key]}>{escape(c.heading)}</th>" for c in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{style[c.key]}>{escape(format_cell(row.get(c.key), c))}</td>" for c in columns) + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _figure(sheet: Sheet) -> str:
    data = base64.b64encode(sheet.path.read_bytes()).decode()
    caption = escape(sheet.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
