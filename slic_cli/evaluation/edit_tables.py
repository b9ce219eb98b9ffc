"""Tables 3, 4 and 5: how much of a first decode is left after it has been edited and compressed once more."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from slic_cli.attacks import parse_attack
from slic_cli.evaluation import paper
from slic_cli.evaluation.records import Job
from slic_cli.evaluation.results import Results, edit_label
from slic_cli.evaluation.table import Column, Row, Table
from slic_cli.registry import ModelSpec


def _spread(results: Results, dataset: str, job: Job) -> Row:
    """PSNR: mean, lowest and highest, and how many pictures; then the means of the other measures."""
    values = results.values(dataset, job)
    if not values:
        return {}
    others = ("ms_ssim", "lpips", "psnr_outside_db", "psnr_inside_db", "bpp")
    return {
        "psnr_db": fmean(values), "lowest_db": min(values), "highest_db": max(values), "pictures": len(values),
        **{figure: results.mean(dataset, job, figure) for figure in others},
    }  # fmt: skip


_SPREAD = (
    Column("psnr_db", "PSNR (dB), mean"),
    Column("lowest_db", "lowest"),
    Column("highest_db", "highest"),
)
_SIMILARITY = (Column("ms_ssim", "MS-SSIM", 3), Column("lpips", "LPIPS", 3))
_BPP = Column("bpp", "bpp", 3)
_PICTURES = Column("pictures", "pictures", 0)
_PAPER = Column("paper", "paper (dB)")


def describe_model(results: Results, dataset: str, spec: ModelSpec) -> str:
    """Rate and quality of a model's first decodes, in words; whole files count."""
    job = Job("", "", spec.digest)
    rate, psnr = (results.mean(dataset, job, figure) for figure in ("bpp", "psnr_db"))
    if rate is None or psnr is None:
        return "no picture could be measured"
    also = "".join(
        f", {column.heading} {value:.4f}"
        for column in _SIMILARITY
        if (value := results.mean(dataset, job, column.key)) is not None
    )
    return f"{spec.digest[:12]}, metric {spec.metric}: {rate:.3f} bpp, first decode {psnr:.2f} dB{also}"


def table_3(results: Results) -> Iterator[Table]:
    """One row for each model, which is to say for each perceptual metric it was fine-tuned with."""
    edits = tuple(Column(edit, f"{edit_label(edit)} (dB)") for edit in results.plan.paper_edits())
    columns = (
        Column("metric", "metric"), Column("model", "model"), _BPP, Column("first_db", "first decode (dB)"),
        Column("ms_ssim", "MS-SSIM", 4), Column("clean_db", "no edit (dB)"), *edits,
        Column("eight_db", "mean of the edits (dB)"), Column("destroyed", "edits below 10 dB"), _PICTURES,
    )  # fmt: skip
    note = (
        "PSNR between the (edited) first decode and its re-compression, mean over the pictures; lower protects better. "
        f"The paper: {paper.CLEAN} dB without an edit, {paper.EDITED} dB for each of the eight."
    )
    for dataset in results.pictures:
        rows = tuple(row for spec in results.plan.by_metric if (row := _metric_row(results, dataset, spec)))
        yield Table("3", "Table 3: perceptual metrics", note, dataset, "", columns, rows)


def _metric_row(results: Results, dataset: str, spec: ModelSpec) -> Row:
    first, clean = Job("", "", spec.digest), Job(spec.digest, "", spec.digest)
    clean_db = results.mean(dataset, clean)
    if clean_db is None:
        return {}
    means = {edit: results.mean(dataset, Job(spec.digest, edit, spec.digest)) for edit in results.plan.paper_edits()}
    known = {edit: mean for edit, mean in means.items() if mean is not None}
    destroyed = sum(mean < paper.DESTROYED_DB for mean in known.values())
    return {
        "metric": spec.metric, "model": spec.name, "bpp": results.mean(dataset, first, "bpp"),
        "first_db": results.mean(dataset, first), "ms_ssim": results.mean(dataset, first, "ms_ssim"),
        "clean_db": clean_db, **known, "eight_db": fmean(known.values()) if known else None,
        "destroyed": f"{destroyed} of {len(known)}", "pictures": len(results.values(dataset, clean)),
    }  # fmt: skip


def table_4(results: Results) -> Iterator[Table]:
    """One table for each model and data set, one row for each edit."""
    outside = (Column("psnr_outside_db", "outside the edited area (dB)"), Column("psnr_inside_db", "inside it (dB)"))
    columns = (Column("edit", "edit"), _PAPER, *_SPREAD, *_SIMILARITY, *outside, _BPP, _PICTURES)
    for dataset in results.pictures:
        for spec in results.plan.subjects:
            note = f"{describe_model(results, dataset, spec)}. PSNR as in Table 3; bpp is that of the re-compression."
            rows = []
            for edit in ("", *results.plan.edits):
                row = _spread(results, dataset, Job(spec.digest, edit, spec.digest))
                known = paper.psnr_after(parse_attack(edit) if edit else None)
                rows += [{"edit": edit_label(edit), **row, "paper": known}] if row else []
            yield Table("4", f"Table 4: edits, {spec.name}", note, dataset, spec.name, columns, tuple(rows))


def table_5(results: Results) -> Iterator[Table]:
    """One row for each pair of a model and a vanilla codec that compresses its first decode."""
    columns = (
        Column("model", "first decode of"), Column("base", "re-compressed by"), Column("own", "its own base"), _PAPER,
        *_SPREAD, *_SIMILARITY, _BPP, Column("photograph_db", "the photograph through it (dB)"), _PICTURES,
    )  # fmt: skip
    note = (
        "PSNR between the first decode and what a codec that was never fine-tuned makes of it. Own base: of the same "
    )
    note += "architecture and quality."
    for dataset in results.pictures:
        rows = []
        for spec in results.plan.secured:
            for base in results.plan.bases:
                row = _spread(results, dataset, Job(spec.digest, "", base.digest))
                own = (spec.architecture, spec.quality) == (base.architecture, base.quality)
                names: Row = {"model": spec.name, "base": base.name, "own": "yes" if own else "no"}
                photograph_db = results.mean(dataset, Job("", "", base.digest))
                extra: Row = {"photograph_db": photograph_db, "paper": paper.OWN_BASE if own else None}
                rows += [{**names, **row, **extra}] if row else []
        yield Table("5", "Table 5: vanilla codecs", note, dataset, "", columns, tuple(rows))
