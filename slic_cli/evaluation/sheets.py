"""The pages to look at (Fig. 1, 4 and 5), made of the first photograph of each data set and kept as JPEG files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from slic_cli import __version__
from slic_cli.attacks import EDITS, parse_attack
from slic_cli.contact_sheet import Column, contact_sheet
from slic_cli.evaluation.measure import Bench
from slic_cli.evaluation.plan import Plan
from slic_cli.evaluation.records import Job
from slic_cli.evaluation.results import edit_label
from slic_cli.files import write_atomically
from slic_cli.local_edits import Box
from slic_cli.metrics import psnr_db
from slic_cli.outputs import make_directory
from slic_cli.registry import ModelSpec

Pixels = npt.NDArray[np.uint8]

DIRECTORY = "sheets"
_QUALITY = 88
_GAP = 12
_MARK = (230, 40, 40)


@dataclass(frozen=True)
class Sheet:
    """A page and what it shows; `path` is its file."""

    path: Path
    caption: str


def make_sheets(
    plan: Plan, dataset: str, picture: tuple[str, str], bench: Callable[[], Bench], output: Path
) -> Iterator[Sheet]:
    """The pages of each model and of all, for one picture, (digest, name); those that lie in `output` are kept.

    `bench` is called when a page must be drawn. Raises OutputError.
    """
    digest, name = picture
    for spec in plan.subjects:
        pages = (
            ("clean", "Fig. 1: the photograph, its first decode, and the re-compressed first decode", _clean),
            ("edits", "Fig. 5: the first decode after each edit, and re-compressed", _edits),
            ("local", "Fig. 4: local edits. Only what lies inside the red line was edited", _local),
        )
        for kind, caption, draw in pages:
            path = _path(output, f"{spec.name}-{kind}", (__version__, kind, spec.digest, digest, *plan.edits))
            if path.is_file() or _keep(draw(bench(), plan, spec), path):
                yield Sheet(path, f"{caption} ({spec.name}, {name} of {dataset})")
    if len(plan.subjects) > 1:
        path = _path(output, "models", (__version__, digest, *(spec.digest for spec in plan.by_metric)))
        if path.is_file() or _keep(_models(bench(), plan), path):
            yield Sheet(path, f"Table 3: the first decode of each model, and re-compressed ({name} of {dataset})")


def _path(output: Path, name: str, made_of: Sequence[str]) -> Path:
    short = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]
    return output / DIRECTORY / f"{name}-{short}.jpg"


def _keep(page: Pixels | None, path: Path) -> bool:
    if page is None:
        return False
    make_directory(path.parent)
    write_atomically(path, _jpeg(page), force=True)
    return True


def _jpeg(page: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(page).save(file, "JPEG", quality=_QUALITY, subsampling="4:4:4")
    return file.getvalue()


def _clean(bench: Bench, _plan: Plan, spec: ModelSpec) -> Pixels:
    photograph, first, _ = bench.compress(Job("", "", spec.digest))
    _, second, _ = bench.compress(Job(spec.digest, "", spec.digest))
    gap = np.full((photograph.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([photograph, gap, first, gap, second], axis=1)


def _edits(bench: Bench, plan: Plan, spec: ModelSpec) -> Pixels | None:
    columns = [_column(bench, spec, edit) for edit in ("", *plan.paper_edits())]
    return contact_sheet(columns, f"{spec.name}: first decode edited, then re-compressed")


def _local(bench: Bench, plan: Plan, spec: ModelSpec) -> Pixels | None:
    local = [edit for edit in plan.edits if EDITS[edit.partition(":")[0]].area]
    if not local:
        return None
    return contact_sheet([_column(bench, spec, edit) for edit in local], f"{spec.name}: local edits")


def _models(bench: Bench, plan: Plan) -> Pixels:
    """Pixel for pixel: what metrics differ in is too fine to be scaled."""
    photograph, _, _ = bench.compress(Job("", "", plan.by_metric[0].digest))
    columns = [Column("photograph", photograph, np.full_like(photograph, 255), "")]
    for spec in plan.by_metric:
        column = _column(bench, spec, "")
        columns.append(Column(spec.name, column.top, column.bottom, column.caption))
    return contact_sheet(columns, "first decodes, and re-compressed", zoom=True, rows=("first decode", "re-compressed"))


def _column(bench: Bench, spec: ModelSpec, edit: str) -> Column:
    before, after, _ = bench.compress(Job(spec.digest, edit, spec.digest))
    caption = f"PSNR {psnr_db(before, after):.1f} dB"
    area = parse_attack(edit).area(*before.shape[:2]) if edit else None
    if area:
        before, after = _marked(before, area), _marked(after, area)
    return Column(edit_label(edit), before, after, caption)


def _marked(pixels: Pixels, area: Box) -> Pixels:
    """The picture with a line around a box."""
    picture = Image.fromarray(pixels)
    top, left, bottom, right = area
    width = max(1, max(picture.size) // 200)
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=_MARK, width=width)
    return np.array(picture)
