"""`slic attack`: which files an attack writes, and writing them one edit at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slic_cli.attacks import Attack
from slic_cli.console import Console
from slic_cli.contact_sheet import Column, contact_sheet
from slic_cli.errors import UsageError
from slic_cli.files import STANDARD_STREAM, write_output
from slic_cli.image_io import Picture, encode_png
from slic_cli.operations import NO_EDIT, Edited, attack
from slic_cli.outputs import beside, check_clashes, check_ending, check_output, make_directory, plan_outputs, stem

if TYPE_CHECKING:
    from slic_cli.codec import Codec

SHEET = "contact-sheet"
_CLEAN: tuple[Attack | None, ...] = (None,)


@dataclass(frozen=True)
class Plan:
    """What one input's attack does and writes.

    `prefix` begins the names of all pictures in a directory; without it only `single`, one file, is written: the
    contact sheet if the edits are re-compressed, else the one edited picture.
    """

    edits: Sequence[Attack | None]
    recompress: bool
    force: bool
    prefix: str | None = None
    single: str | None = None

    def path(self, ending: str) -> str:
        """The file for one of the pictures."""
        return f"{self.prefix}.{ending}.png"

    def files(self) -> list[str]:
        """All files that will be written into the directory."""
        endings = [edit.slug if edit else NO_EDIT for edit in self.edits]
        if self.recompress:
            endings += [f"{ending}.recompressed" for ending in endings] + [SHEET]
        return [self.path(ending) for ending in endings]


def plan(
    inputs: Sequence[str], output: str | None, edits: Sequence[Attack], recompress: bool, force: bool
) -> list[Plan]:
    """One plan for each input, checked before any work. Raises UsageError, OutputExists, OutputError.

    Re-compression begins with the picture as it is: what nobody edited is to self-destruct too.
    """
    chosen = (*_CLEAN, *edits) if recompress else tuple(edits)
    bare = Plan(chosen, recompress, force)
    if output is not None and _is_file(output):
        if len(chosen) > 1 and not recompress:
            raise UsageError(f"-o {output}: expected a directory for {len(chosen)} edits, got a file name")
        return [replace(bare, single=name) for name in plan_outputs(inputs, output, ".png", force)]
    if output is not None and not Path(output).is_dir():
        check_ending(output, ".png")
    if output == "":
        raise UsageError("-o: expected a file, a directory or -, got an empty name")
    plans = [_directory_plan(name, output, bare) for name in inputs]
    files = [path for one in plans for path in one.files()]
    check_clashes(inputs, files)
    for path in files:
        if Path(path).parent.is_dir():
            check_output(path, force)
    return plans


def _is_file(output: str) -> bool:
    return output == STANDARD_STREAM or (output.lower().endswith(".png") and not Path(output).is_dir())


def _directory_plan(name: str, output: str | None, bare: Plan) -> Plan:
    directory = Path(output) if output is not None else beside(name, ".attacks")
    return replace(bare, prefix=str(directory / stem(name)))


def run(name: str, picture: Picture, codec: Codec, plan: Plan, console: Console) -> None:
    """Attack one first decode and write what the plan says; report each edit."""
    if plan.prefix is not None:
        make_directory(Path(plan.prefix).parent)  # not before: a bad input leaves no empty directory
    columns = []
    for edit in plan.edits:
        done = attack(codec, picture.pixels, edit, plan.recompress)
        written = _write(done, picture, plan)
        console.record(_record(name, codec, done, written), _line(name, done, written))
        if plan.recompress:
            columns.append(_column(done))
    if columns:
        sheet = Picture(
            contact_sheet(columns, f"{stem(name)}: first decode edited, then re-compressed by {codec.spec.name}")
        )
        target = plan.single or plan.path(SHEET)
        write_output(target, encode_png(sheet), plan.force)
        record = {"input": name, "model": codec.spec.name, "contact_sheet": target, "outputs": [target]}
        console.record(record, f"{name} -> {target}")


def _write(done: Edited, picture: Picture, plan: Plan) -> list[str]:
    if plan.prefix is None:
        if plan.recompress or plan.single is None:
            return []
        write_output(plan.single, encode_png(replace(picture, pixels=done.edited)), plan.force)
        return [plan.single]
    written = [plan.path(done.slug)]
    write_output(written[0], encode_png(replace(picture, pixels=done.edited)), plan.force)
    if done.recompressed is not None:
        written.append(plan.path(f"{done.slug}.recompressed"))
        write_output(written[1], encode_png(replace(picture, pixels=done.recompressed, decoded_by="")), plan.force)
    return written


def _record(name: str, codec: Codec, done: Edited, written: list[str]) -> dict[str, Any]:
    edit = done.attack
    return {
        "input": name, "model": codec.spec.name, "edit": edit.name if edit else None,
        "parameters": edit.parameters if edit else {}, "outputs": written, **done.figures,
    }  # fmt: skip


def _line(name: str, done: Edited, written: list[str]) -> str:
    figures = done.figures
    result = (
        f": PSNR after re-compression {figures['psnr_db']:.2f} dB at {figures['bpp']:.3f} bits per pixel"
        if figures
        else ""
    )
    return f"{name}, {done.label}{result}{' -> ' + ', '.join(written) if written else ''}"


def _column(done: Edited) -> Column:
    if done.recompressed is None:
        raise ValueError("expected a re-compressed picture, got none")
    return Column(done.label, done.edited, done.recompressed, f"PSNR {done.figures['psnr_db']:.1f} dB")
