"""The plots of the report, drawn from the same values as its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from slic_cli.evaluation import detection, paper, svg
from slic_cli.evaluation.rate_tables import RatePoint
from slic_cli.evaluation.results import edit_label
from slic_cli.evaluation.table import Table

DESTROYED, DAMAGED, SURVIVED = "#1f6fb4", "#8a8a8a", "#d1611a"
SURVIVES_DB = 20.0  # about where a picture has come through
_COLOURS = ("#1f6fb4", "#d1611a", "#2c8a4b", "#7a4fb0", "#b0307a", "#7a6a2c", "#3a8fa0", "#8a8a8a")


def plot_edits(table: Table) -> str:
    """PSNR after re-compression, edit by edit: the mean as a dot, lowest to highest as a line."""
    row_height, left, right, top = 21, 190, 640, 12
    bottom = top + row_height * len(table.rows)
    most = max((_number(row["highest_db"]) for row in table.rows), default=40.0)
    axis = svg.Axis(0, max(40.0, min(60.0, most)), left, right)
    parts = _x_axis(axis, top, bottom, "PSNR after re-compression (dB)")
    mark = axis.at(paper.DESTROYED_DB)
    parts.append(svg.line(mark, top, mark, bottom, svg.FAINT, dash="4 3"))
    for index, row in enumerate(table.rows):
        y = top + row_height * (index + 0.5)
        mean = _number(row["psnr_db"])
        colour = DESTROYED if mean < paper.DESTROYED_DB else DAMAGED if mean < SURVIVES_DB else SURVIVED
        lowest, highest = (axis.at(_number(row[key])) for key in ("lowest_db", "highest_db"))
        parts.append(svg.text(left - 10, y + 4, str(row["edit"]), "end"))
        parts.append(svg.line(lowest, y, highest, y, colour, 2))
        parts += [svg.dot(axis.at(mean), y, colour), svg.text(right + 12, y + 4, f"{mean:.1f}", fill=svg.FAINT)]
    return svg.svg(right + 60, bottom + 42, parts, f"{table.title} ({table.dataset})")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _x_axis(axis: svg.Axis, top: float, bottom: float, name: str) -> list[str]:
    parts = []
    for value in axis.ticks():
        x = axis.at(value)
        parts += [svg.line(x, top, x, bottom), svg.text(x, bottom + 16, f"{value:g}", "middle", svg.FAINT)]
    return [*parts, svg.text((axis.start + axis.stop) / 2, bottom + 34, name, "middle", svg.FAINT)]


def _y_axis(axis: svg.Axis, left: float, right: float, name: str) -> list[str]:
    parts = []
    for value in axis.ticks():
        y = axis.at(value)
        parts += [svg.line(left, y, right, y), svg.text(left - 8, y + 4, f"{value:g}", "end", svg.FAINT)]
    return [*parts, svg.text(left - 40, axis.stop - 12, name, fill=svg.FAINT)]


def plot_rates(curves: Mapping[str, Sequence[RatePoint]], title: str) -> str:
    """Rate-distortion curves; a codec with one setting is a point. Rates far above the models' are left out."""
    left, right, top, bottom = 60, 560, 30, 370
    own = [p.bpp for name, points in curves.items() if "SLIC" in name or "vanilla" in name for p in points]
    most = 1.25 * max(own or [p.bpp for points in curves.values() for p in points])
    kept = {name: [p for p in points if p.bpp <= most] for name, points in curves.items()}
    levels = [p.psnr_db for points in kept.values() for p in points if math.isfinite(p.psnr_db)] or [0.0, 50.0]
    x = svg.Axis(0, most, left, right)
    y = svg.Axis(math.floor(min(levels)) - 1, math.ceil(max(levels)) + 1, bottom, top)
    parts = _x_axis(x, top, bottom, "bits per pixel, whole files") + _y_axis(y, left, right, "PSNR (dB)")
    for index, (name, points) in enumerate(kept.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [(x.at(p.bpp), y.at(p.psnr_db)) for p in points]
        slic = "SLIC" in name
        parts.append(svg.path(places, colour, 2.4 if slic else 1.4, "" if slic else "5 3"))
        parts += [svg.dot(*place, colour, 4.5 if slic else 2.8) for place in places]
        row = top + 8 + 20 * index
        parts += [svg.dot(right + 24, row, colour, 4.5 if slic else 3), svg.text(right + 36, row + 4, name)]
    return svg.svg(right + 320, bottom + 42, parts, title)


def plot_detections(pairs: Mapping[str, tuple[list[float], list[float]]], title: str) -> str:
    """A small operating curve for each edit: false alarms to the right, catches upwards."""
    side, across, width, height = 100, 5, 176, 144
    parts = []
    for index, (edit, (secured, innocent)) in enumerate(pairs.items()):
        left, top = index % across * width + 8, index // across * height + 22
        x, y = svg.Axis(0, 1, left, left + side), svg.Axis(0, 1, top + side, top)
        curve = detection.operating_curve(secured, innocent)
        area = detection.area_under(curve)
        corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
        parts += [svg.path(corners, svg.RULE, 1), svg.path([corners[3], corners[1]], svg.RULE, 1, "3 3")]
        colour = DESTROYED if area > 0.995 else SURVIVED if area < 0.9 else DAMAGED
        parts.append(svg.path([(x.at(alarms), y.at(caught)) for alarms, caught in curve], colour, 2))
        parts.append(svg.text(left, top - 6, edit_label(edit), size=11))
        parts.append(svg.text(left + side - 4, top + side - 6, f"{area:.3f}", "end", svg.FAINT, 11))
    rows = -(-len(pairs) // across)
    return svg.svg(across * width, rows * height + 8, parts, title)
