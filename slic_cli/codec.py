"""Encode and decode: the only place where the stages meet.

pixels --transform--> latents --quantisation--> symbols --entropy coding--> payloads --> SlicFile, and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli.architectures import Transform, find_architecture
from slic_cli.container import SlicFile
from slic_cli.entropy.coder import Census
from slic_cli.errors import BadSlicFile, MissingModel, UsageError
from slic_cli.model_file import load_tensors
from slic_cli.processor import multiplies_bfloat16
from slic_cli.registry import ModelSpec
from slic_cli.shapes import check_shapes
from slic_cli.transform.layers import LATENT_UNIT
from slic_cli.transform.pattern import pattern_of
from slic_cli.transform.verdict import verdict_of
from slic_cli.transform.views import other_views

Pixels = npt.NDArray[np.uint8]
RealLatents = tuple[torch.Tensor, torch.Tensor]  # y and z of a strip, float32

STRIP_UNIT = 64  # a strip's rows are a multiple of this
MAX_STRIP_ROWS = 1024
STRIP_PIXELS = 1 << 22  # bounds the memory that one strip's symbols take, for readers too


@dataclass(frozen=True)
class Strip:
    """Latent rows [start, stop) of a picture."""

    start: int
    stop: int


def strip_rows_for(width: int) -> int:
    """Picture rows per strip: as many as memory allows, so that ordinary photographs are one strip."""
    rows = STRIP_PIXELS // (width * STRIP_UNIT) * STRIP_UNIT
    return min(MAX_STRIP_ROWS, max(STRIP_UNIT, rows))


def latent_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of y for a picture of that size."""
    return -(-height // LATENT_UNIT), -(-width // LATENT_UNIT)


def strips_of(height: int, strip_rows: int) -> Iterator[Strip]:
    """The strips of a picture, top to bottom, in latent rows."""
    rows, step = -(-height // LATENT_UNIT), strip_rows // LATENT_UNIT
    for start in range(0, rows, step):
        yield Strip(start, min(rows, start + step))


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is a usable one. Raises UsageError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: expected a CUDA device that torch can use, got none")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device: expected auto, cuda or cpu, got {name!r}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` takes bfloat16 where the device is quicker with it, else float32. Raises UsageError."""
    known = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if name in known:
        return known[name]
    if name != "auto":
        raise UsageError(f"--precision: expected auto, bf16 or fp32, got {name!r}")
    quick = torch.cuda.is_bf16_supported() if device.type == "cuda" else multiplies_bfloat16()
    return torch.bfloat16 if quick else torch.float32


class Codec:
    """One model, ready to encode and decode.

    `device` is auto, cuda or cpu and concerns the transforms; entropy coding is exact integer work on the CPU, so that
    a file decodes to the same latents whatever made it. Raises ModelError, UsageError.
    """

    def __init__(self, spec: ModelSpec, device: str = "auto", precision: str = "auto") -> None:
        architecture = find_architecture(spec.architecture)
        self.spec = spec
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        tensors = load_tensors(spec)
        check_shapes(tensors, architecture.shapes)
        self._transform = architecture.transform(tensors, self.device, self.precision)
        self._coder = architecture.coder(tensors)
        self._verdict, self._pattern = verdict_of(tensors), pattern_of(tensors)

    def encode(
        self,
        pixels: Pixels,
        icc: bytes = b"",
        exif: bytes = b"",
        strip_rows: int | None = None,
        recognised: Callable[[Strip], None] | None = None,
    ) -> SlicFile:
        """Compress a picture: uint8 (height, width, 3) RGB.

        `recognised` is called with each strip that is taken for a first decode's, and so destroyed.
        """
        strip_rows = strip_rows or strip_rows_for(pixels.shape[1])
        payloads = tuple(payload for payload, _ in self._code(pixels, strip_rows, recognised))
        return replace(self._file(pixels, strip_rows, payloads), icc=icc, exif=exif)

    def _file(self, pixels: Pixels, strip_rows: int, payloads: tuple[bytes, ...]) -> SlicFile:
        height, width, _ = pixels.shape
        return SlicFile(width, height, strip_rows, self.spec.name, bytes.fromhex(self.spec.digest), payloads)

    def _code(
        self, pixels: Pixels, strip_rows: int, recognised: Callable[[Strip], None] | None = None
    ) -> Iterator[tuple[bytes, npt.NDArray[Any]]]:
        """The payload of each strip, and the latents that it holds."""
        for y, z in self.analyse(pixels, strip_rows, recognised):
            yield self._coder.encode_latents(y, z)

    def analyse(
        self, pixels: Pixels, strip_rows: int, recognised: Callable[[Strip], None] | None = None
    ) -> Iterator[RealLatents]:
        """The latents of each strip before they are rounded; `recognised` as for `encode`."""
        padded, (rows, _) = _pad(pixels), latent_size(*pixels.shape[:2])
        for strip in strips_of(len(pixels), strip_rows):
            y = self._transform.analyse_rows(padded, strip.start, strip.stop)
            if self._verdict:
                seen = padded[LATENT_UNIT * strip.start : LATENT_UNIT * strip.stop]
                patterned = partial(self._patterned, seen)
                y = self._verdict(y, strip.start > 0, strip.stop < rows, self._views(seen), patterned)
                if recognised and self._verdict.is_full(y):
                    recognised(strip)
            yield y, self._transform.hyper_analysis(y)

    def _views(self, pixels: torch.Tensor) -> Iterator[tuple[float, torch.Tensor]]:
        """A carrier's answers to a strip turned and at other sizes, one by one as they are asked for."""
        for size, view in other_views(pixels):
            yield size, self._filters.analyse_rows(view, 0, len(view) // LATENT_UNIT)

    def _patterned(self, pixels: torch.Tensor) -> bool:
        return self._pattern is not None and self._pattern.found(pixels)

    @cached_property
    def _filters(self) -> Transform:
        assert self._verdict, "a model with a carrier is expected"
        return self._transform.part(self._verdict.channels.numpy())

    def count_symbols(self, strips: Iterable[RealLatents]) -> npt.NDArray[np.int64]:
        """How often each table of y writes each symbol when strips are coded: a Census's `counts`."""
        coder = self._coder.latents.coder
        counts = Census(coder).counts
        for y, z in strips:
            census = Census(coder)
            self._coder.encode_latents(y, z, census)
            counts += census.counts
        return counts

    def latents(self, file: SlicFile) -> npt.NDArray[Any]:
        """The latents that a file holds, the same on every machine: (M, rows, columns).

        Whole numbers, int16, without a context model and a trellis; else float32 and whole 64ths. Raises BadSlicFile,
        MissingModel.
        """
        if file.model_digest.hex() != self.spec.digest:
            got, expected = self.spec.digest[:12], file.model_digest.hex()[:12]
            raise MissingModel(f"expected the weights {file.model_name} ({expected}), got {self.spec.name} ({got})")
        largest = min(file.strip_rows, file.height)
        if largest > STRIP_UNIT and largest * file.width > STRIP_PIXELS:
            raise BadSlicFile(f"expected strips of at most {STRIP_PIXELS} pixels, got {largest} x {file.width}")
        rows, columns = latent_size(file.height, file.width)
        strips = list(strips_of(file.height, file.strip_rows))
        latents = np.empty((self._transform.channels, rows, columns), self._coder.latents_dtype)
        for number, (strip, payload) in enumerate(zip(strips, file.strips, strict=True), 1):
            try:
                latents[:, strip.start : strip.stop] = self._coder.decode(payload, strip.stop - strip.start, columns)
            except BadSlicFile as error:
                raise BadSlicFile(f"strip {number} of {len(strips)}: {error}") from error
        return latents

    def decode(self, file: SlicFile) -> Pixels:
        """The first decode, perturbed and clean to the eye: uint8 (height, width, 3). Raises as `latents` does."""
        return self._synthesise(file, self.latents(file))

    def _synthesise(self, file: SlicFile, latents: npt.NDArray[Any]) -> Pixels:
        pixels = self._transform.synthesise(torch.from_numpy(latents))
        return pixels.numpy()[: file.height, : file.width]

    def recompress(self, pixels: Pixels) -> tuple[SlicFile, Pixels]:
        """Encode and decode once more: what happens to a picture that meets the codec again.

        The latents are those that the encoder wrote: decoding is exact and would find the same.
        """
        strip_rows = strip_rows_for(pixels.shape[1])
        payloads, latents = zip(*self._code(pixels, strip_rows), strict=True)
        file = self._file(pixels, strip_rows, payloads)
        return file, self._synthesise(file, np.concatenate(latents, 1))


def _pad(pixels: Pixels) -> torch.Tensor:
    """Repeat the last row and column up to a whole number of latents."""
    height, width, _ = pixels.shape
    below, right = -height % LATENT_UNIT, -width % LATENT_UNIT
    if below or right:
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
    return torch.from_numpy(np.ascontiguousarray(pixels))
