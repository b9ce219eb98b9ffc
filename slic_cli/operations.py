"""What the commands do with one input each; every function returns the record that --json prints.

Everything that needs torch is imported inside, after the input has been read and found good: a damaged file must not
cost a model load, and `slic --help` must not cost torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slic_cli import container
from slic_cli.errors import BadSlicFile, SlicError
from slic_cli.files import read_input, write_output
from slic_cli.image_io import Picture, decode_image, encode_png
from slic_cli.metrics import bits_per_pixel, psnr_db, worst_block_db
from slic_cli.registry import DEFAULT_MODEL, ModelSpec, find_model, find_model_for

if TYPE_CHECKING:
    from slic_cli.attacks import Attack
    from slic_cli.codec import Codec

Pixels = npt.NDArray[np.uint8]
Record = dict[str, Any]
NO_EDIT = "no-edit"
_RECOGNISED = (
    "it looks like a first decode of this model, so that what decodes is ruins: "
    "a photograph that never was one needs another --model"
)
_DAMAGED_DB = 25.0  # of a 64 x 64 block: clean ones are above 29 dB at quality 8, ruins below 15
_BEHIND_DB = 10.0  # and behind the whole picture: fine texture costs a codec of low quality up to 8 dB


@dataclass
class Workshop:
    """The models of one run: each is loaded once, when the first input needs it."""

    device: str = "auto"
    precision: str = "auto"
    _codecs: dict[str, Codec] = field(default_factory=dict)

    def codec(self, spec: ModelSpec) -> Codec:
        """The codec of a model."""
        if spec.digest not in self._codecs:
            from slic_cli.codec import Codec

            self._codecs[spec.digest] = Codec(spec, self.device, self.precision)
        return self._codecs[spec.digest]


def parse_slic(data: bytes, name: str) -> container.SlicFile:
    """Parse a .slic file. Raises BadSlicFile that names it."""
    try:
        return container.parse(data)
    except BadSlicFile as error:
        raise BadSlicFile(f"{name}: {error}") from error


def encode(
    name: str,
    output: str,
    model: str,
    workshop: Workshop,
    background: tuple[int, int, int] | None,
    strip: bool,
    force: bool,
    check: bool = False,
) -> Record:
    """A photograph to a .slic file; `check` looks at its first decode, too, before the file is written."""
    start = time.perf_counter()
    spec = find_model(model)
    picture = decode_image(read_input(name), name, background)
    codec = workshop.codec(spec)
    icc, exif = (b"", b"") if strip else (picture.icc, picture.exif)
    recognised: list[object] = []
    file = codec.encode(picture.pixels, icc, exif, recognised=recognised.append)
    data = container.serialise(file)
    figures, notes = _checked(picture.pixels, codec.decode(file)) if check else ({}, [])
    notes = [_RECOGNISED, *notes] if recognised else notes
    write_output(output, data, force)
    height, width, _ = picture.pixels.shape
    return {
        "input": name, "output": output, "model": spec.name, "digest": spec.digest, "width": width, "height": height,
        "bytes": len(data), "bpp": bits_per_pixel(len(data), height, width), **figures,
        "notes": [*picture.notes, *notes], **_run(codec, start),
    }  # fmt: skip


def _checked(photograph: Pixels, first: Pixels) -> tuple[Record, list[str]]:
    """How far a first decode is from its photograph, and a warning where a part of it is damaged."""
    whole, worst = psnr_db(photograph, first), worst_block_db(photograph, first)
    figures = {"psnr_db": whole, "worst_block_db": worst}
    if worst >= min(_DAMAGED_DB, whole - _BEHIND_DB):
        return figures, []
    return figures, [f"the first decode is damaged in places (down to {worst:.1f} dB): look at it before you send it"]


def _run(codec: Codec, start: float) -> Record:
    precision = str(codec.precision).removeprefix("torch.")
    return {
        "device": codec.device.type,
        "precision": precision,
        "seconds": round(time.perf_counter() - start, 3),
    }


def first_decode(data: bytes, name: str, model: str | None, workshop: Workshop) -> tuple[Picture, Codec]:
    """The perturbed picture in a .slic file, with what it carries, and the codec that made it."""
    file = parse_slic(data, name)
    codec = workshop.codec(find_model_for(file.model_digest.hex(), file.model_name, model))
    try:
        return Picture(codec.decode(file), file.icc, file.exif, decoded_by=codec.spec.name), codec
    except BadSlicFile as error:
        raise BadSlicFile(f"{name}: {error}") from error


def decode(name: str, output: str, model: str | None, workshop: Workshop, strip: bool, force: bool) -> Record:
    """A .slic file to the PNG of its first decode."""
    start = time.perf_counter()
    picture, codec = first_decode(read_input(name), name, model, workshop)
    if strip:
        picture = replace(picture, icc=b"", exif=b"")
    data = encode_png(picture)
    write_output(output, data, force)
    height, width, _ = picture.pixels.shape
    return {
        "input": name, "output": output, "model": codec.spec.name, "digest": codec.spec.digest, "width": width,
        "height": height, "bytes": len(data), **_run(codec, start),
    }  # fmt: skip


def recompress(
    name: str,
    output: str,
    model: str | None,
    workshop: Workshop,
    rounds: int,
    background: tuple[int, int, int] | None,
    force: bool,
) -> Record:
    """A decoded, perhaps edited picture through the codec once more (or `rounds` times)."""
    start = time.perf_counter()
    data = read_input(name)
    notes: Sequence[str] = ()
    if container.is_slic(data):
        picture, codec = first_decode(data, name, model, workshop)
    else:
        spec = find_model(model or DEFAULT_MODEL)
        picture = decode_image(data, name, background)
        notes, codec = picture.notes, workshop.codec(spec)
    steps, pixels = [], picture.pixels
    for number in range(1, rounds + 1):
        step, pixels = _round(codec, pixels)
        steps.append({"round": number, **step})
    write_output(output, encode_png(replace(picture, pixels=pixels, decoded_by="")), force)
    return {
        "input": name, "output": output, "model": codec.spec.name, "rounds": steps, "notes": list(notes),
        **_run(codec, start),
    }  # fmt: skip


def _round(codec: Codec, pixels: Pixels) -> tuple[Record, Pixels]:
    file, result = codec.recompress(pixels)
    size = len(container.serialise(file))
    return {
        "psnr_db": psnr_db(pixels, result),
        "bytes": size,
        "bpp": bits_per_pixel(size, *pixels.shape[:2]),
    }, result


@dataclass(frozen=True)
class Edited:
    """One attack on a first decode: the edited picture and, if asked for, what the codec makes of it."""

    attack: Attack | None
    edited: Pixels
    recompressed: Pixels | None = None
    figures: Record = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What was done, for people."""
        return self.attack.label if self.attack else "no edit"

    @property
    def slug(self) -> str:
        """What was done, for file names."""
        return self.attack.slug if self.attack else NO_EDIT


def open_for_attack(
    name: str, model: str | None, workshop: Workshop, decoded: bool, background: tuple[int, int, int] | None
) -> tuple[Picture, Codec]:
    """The first decode to attack: of a .slic file, of a photograph (encoded first), or a decoded PNG as it is."""
    data = read_input(name)
    if container.is_slic(data):
        return first_decode(data, name, model, workshop)
    spec = find_model(model or DEFAULT_MODEL)
    picture = decode_image(data, name, background)
    codec = workshop.codec(spec)
    if decoded or picture.decoded_by:
        return picture, codec
    return replace(picture, pixels=codec.recompress(picture.pixels)[1], decoded_by=codec.spec.name), codec


def attack(codec: Codec, pixels: Pixels, edit: Attack | None, recompress_too: bool) -> Edited:
    """Apply one edit (None: leave it clean) and, if asked for, encode and decode the result."""
    edited = edit.apply(pixels) if edit else pixels
    if not recompress_too:
        return Edited(edit, edited)
    figures, result = _round(codec, edited)
    return Edited(edit, edited, result, figures)


def describe(name: str) -> Record:
    """What a .slic file says about itself."""
    data = read_input(name)
    file = parse_slic(data, name)
    digest = file.model_digest.hex()
    return {
        "input": name, "format_version": container.VERSION, "bytes": len(data),
        "width": file.width, "height": file.height, "bpp": bits_per_pixel(len(data), file.height, file.width),
        "model": file.model_name, "digest": digest, "model_available": _available(digest, file.model_name),
        "strip_rows": file.strip_rows, "strip_bytes": [len(strip) for strip in file.strips],
        "icc_bytes": len(file.icc), "exif_bytes": len(file.exif), "checksums": "intact",
    }  # fmt: skip


def _available(digest: str, name: str) -> bool:
    try:
        find_model_for(digest, name)
    except SlicError:
        return False
    return True
