"""Table A2: how closely differentiable simulations follow the real JPEG encoder."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from slic_cli.evaluation import simulations
from slic_cli.evaluation.records import Job
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.table import Column, Row, Table


def table_a2(results: Results) -> Iterator[Table]:
    """One row for each quality and simulation; those of "no JPEG" are what a simulation has to beat."""
    columns = (
        Column("quality", "JPEG quality", 0), Column("simulation", "simulation"), Column("psnr_db", "PSNR (dB), mean"),
        Column("lowest_db", "lowest"), Column("ms_ssim", "MS-SSIM", 4), Column("lpips", "LPIPS", 4),
        Column("pictures", "pictures", 0),
    )  # fmt: skip
    note = (
        "What a simulation makes of a photograph against what the real encoder (libjpeg, chroma 4:2:0) makes of it, "
        "both in 8 bits. No JPEG: the photograph itself against the real encoder's."
    )
    for dataset in results.pictures:
        settings = [(quality, coder) for quality in simulations.QUALITIES for coder in results.plan.simulations]
        rows = tuple(row for setting in settings if (row := _row(results, dataset, *setting)))
        yield Table("A2", "Table A2: simulations of JPEG", note, dataset, "", columns, rows)


def _row(results: Results, dataset: str, quality: int, coder: str) -> Row:
    job = Job("", f"jpeg:quality={quality}", coder)
    values = results.values(dataset, job)
    if not values:
        return {}
    return {
        "quality": quality, "simulation": simulations.label(coder), "psnr_db": fmean(values), "lowest_db": min(values),
        "ms_ssim": results.mean(dataset, job, "ms_ssim"), "lpips": results.mean(dataset, job, "lpips"),
        "pictures": len(values),
    }  # fmt: skip
