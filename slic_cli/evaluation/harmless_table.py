"""Harmlessness: what `slic recompress` does to photographs that never met SLIC, and how often it would accuse them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from slic_cli.evaluation import detection
from slic_cli.evaluation.records import Job
from slic_cli.evaluation.results import Results, edit_label
from slic_cli.evaluation.table import Column, Row, Table
from slic_cli.registry import ModelSpec


def detections(results: Results, dataset: str, spec: ModelSpec) -> dict[str, tuple[list[float], list[float]]]:
    """PSNRs after re-compression by edit: those of SLIC's first decodes, and of photographs that never met it."""
    pairs = {}
    for edit in ("", *results.plan.edits):
        secured = results.values(dataset, Job(spec.digest, edit, spec.digest))
        innocent = results.values(dataset, Job("", edit, spec.digest))
        if secured and innocent:
            pairs[edit] = secured, innocent
    return pairs


def table_harmless(results: Results) -> Iterator[Table]:
    """What re-compression does to photographs that never met SLIC, and how often it accuses them."""
    columns = (
        Column("edit", "edit"), Column("innocent_db", "photographs (dB), mean"), Column("innocent_lowest_db", "lowest"),
        Column("secured_db", "SLIC's (dB), mean"), Column("threshold_db", "threshold (dB)"),
        Column("caught", "caught", 1, percent=True), Column("false_alarms", "false alarms", 1, percent=True),
        Column("area", "area under the curve", 4), Column("pictures", "pictures", 0),
    )  # fmt: skip
    note = (
        "Photographs that never met SLIC and SLIC's first decodes, both edited alike, through `slic recompress`. The "
        f"threshold is the lowest that catches {detection.CAUGHT:.0%} of SLIC's; a picture at or below it is accused."
    )
    for dataset in results.pictures:
        for spec in results.plan.secured:
            pairs = detections(results, dataset, spec)
            rows = [_detection_row(edit_label(edit), *pair) for edit, pair in pairs.items()]
            if len(pairs) > 1:
                pooled = ([value for pair in pairs.values() for value in pair[side]] for side in (0, 1))
                rows.append(_detection_row("all of these together", *pooled))
            title = f"Harmlessness: {spec.name}"
            yield Table("harmless", title, note, dataset, spec.name, columns, tuple(rows))


def _detection_row(label: str, secured: list[float], innocent: list[float]) -> Row:
    limit = detection.threshold(secured)
    return {
        "edit": label, "innocent_db": fmean(innocent), "innocent_lowest_db": min(innocent),
        "secured_db": fmean(secured), "threshold_db": limit, "caught": detection.false_alarm_rate(secured, limit),
        "false_alarms": detection.false_alarm_rate(innocent, limit),
        "area": detection.area_under(detection.operating_curve(secured, innocent)), "pictures": len(innocent),
    }  # fmt: skip
