"""Fig. 8: what SLIC, vanilla codecs and conventional files give for their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slic_cli.evaluation import bjontegaard, file_codecs, paper
from slic_cli.evaluation.plan import VANILLA
from slic_cli.evaluation.records import Job
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.table import Column, Row, Table
from slic_cli.registry import ModelSpec

PUBLISHED = "bmshj2018-hyperprior, published"  # by CompressAI


@dataclass(frozen=True)
class RatePoint:
    """Means over a data set at one setting of a codec."""

    label: str
    bpp: float
    psnr_db: float
    ms_ssim: float | None = None


def rate_curves(results: Results, dataset: str) -> dict[str, list[RatePoint]]:
    """The points of each codec by rate: models of one architecture and metric make one curve, SLIC's first."""
    curves: dict[str, list[RatePoint]] = {}
    models = sorted(results.plan.models, key=lambda spec: spec.metric == VANILLA)
    settings = [(_curve_name(spec), spec.name, spec.digest) for spec in models]
    settings += [(file_codecs.name_of(f)[0], f"quality {file_codecs.name_of(f)[1]}", f) for f in results.plan.files]
    for curve, label, coder in settings:
        job = Job("", "", coder)
        bpp, psnr_db = results.mean(dataset, job, "bpp"), results.mean(dataset, job)
        if bpp is not None and psnr_db is not None:
            point = RatePoint(label, bpp, psnr_db, results.mean(dataset, job, "ms_ssim"))
            curves.setdefault(curve, []).append(point)
    if "kodak" in dataset.lower():
        points = enumerate(paper.BALLE2018_KODAK, 1)
        curves[PUBLISHED] = [RatePoint(f"quality {q}", bpp, psnr_db) for q, (bpp, psnr_db) in points]
    return {name: sorted(points, key=lambda point: point.bpp) for name, points in curves.items()}


def _curve_name(spec: ModelSpec) -> str:
    return f"{spec.architecture}, {'vanilla' if spec.metric == VANILLA else f'SLIC {spec.metric}'}"


def table_rd(results: Results) -> Iterator[Table]:
    """All points of the rate-distortion curves (Fig. 8), then the differences of SLIC's to the others."""
    columns = (
        Column("codec", "codec"), Column("setting", "setting"), Column("bpp", "bpp", 3),
        Column("psnr_db", "PSNR (dB)"), Column("ms_ssim", "MS-SSIM", 4),
    )  # fmt: skip
    note = "Means over the data set; bpp counts whole files. JPEG and AVIF have full chroma from quality 85 on."
    for dataset in results.pictures:
        curves = rate_curves(results, dataset)
        rows: list[Row] = [
            {"codec": name, "setting": p.label, "bpp": p.bpp, "psnr_db": p.psnr_db, "ms_ssim": p.ms_ssim}
            for name, points in curves.items() for p in points
        ]  # fmt: skip
        yield Table("rd", "Fig. 8: rate and distortion", note, dataset, "", columns, tuple(rows))
        yield _differences(dataset, curves, {_curve_name(spec) for spec in results.plan.secured})


def _differences(dataset: str, curves: dict[str, list[RatePoint]], secured: set[str]) -> Table:
    columns = (
        Column("codec", "codec"), Column("against", "against"), Column("same_rate_db", "PSNR at the same rate (dB)"),
        Column("points", "at rates", 0), Column("bd_psnr_db", "BD-PSNR (dB)"),
        Column("bd_rate_percent", "BD-rate (%)", 1),
    )  # fmt: skip
    note = "Above 0 dB the codec is better than the other. Bjontegaard's differences need four rates of both codecs."
    pairs = {name: [(point.bpp, point.psnr_db) for point in points] for name, points in curves.items()}
    rows: list[Row] = []
    for name in (name for name in curves if name in secured):
        for other in (other for other in curves if other != name):
            gain, points = bjontegaard.mean_gain(pairs[other], pairs[name])
            rows.append({
                "codec": name, "against": other, "same_rate_db": gain, "points": points,
                "bd_psnr_db": bjontegaard.bd_psnr(pairs[other], pairs[name]),
                "bd_rate_percent": bjontegaard.bd_rate(pairs[other], pairs[name]),
            })  # fmt: skip
    return Table("rd-differences", "Fig. 8: differences", note, dataset, "", columns, tuple(rows))
