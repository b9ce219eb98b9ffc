"""Compressing pictures and comparing: the figures of each job on one photograph."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slic_cli import container
from slic_cli.attacks import parse_attack
from slic_cli.errors import SlicError, UsageError
from slic_cli.evaluation import file_codecs
from slic_cli.evaluation.records import LPIPS_SIDE, Figures, Job
from slic_cli.evaluation.simulations import Simulation
from slic_cli.local_edits import Box
from slic_cli.metrics import MS_SSIM_SIDE, bits_per_pixel, ms_ssim, psnr_db
from slic_cli.operations import Workshop
from slic_cli.registry import ModelSpec

Pixels = npt.NDArray[np.uint8]
Distance = Callable[[Pixels, Pixels], float]


class Bench:
    """One photograph on the bench: its first decodes are made once each, and an edited picture serves all its coders.

    pixels: uint8 (H, W, 3). models: by digest. simulations: by coder. distance: a further measure, LPIPS, or None.
    """

    def __init__(
        self,
        pixels: Pixels,
        models: Mapping[str, ModelSpec],
        simulations: Mapping[str, Simulation],
        workshop: Workshop,
        distance: Distance | None = None,
    ) -> None:
        self._models, self._simulations, self._workshop, self._distance = models, simulations, workshop, distance
        self._sources: dict[str, Pixels] = {"": pixels}
        self._edited: tuple[tuple[str, str], Pixels] | None = None

    def measure(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Figures | SlicError]]:
        """What each job gives, or why it cannot be done on this photograph."""
        for job in jobs:
            try:
                before, after, size = self.compress(job)
                area = parse_attack(job.edit).area(*before.shape[:2]) if job.edit else None
                yield job, compare(before, after, size, area, self._distance)
            except UsageError as error:  # a format that cannot hold a picture of this size
                yield job, error

    def compress(self, job: Job) -> tuple[Pixels, Pixels, int]:
        """The picture of a job, what its coder makes of it, and the size of the file between them in bytes.

        A simulation makes no file: 0 bytes.
        """
        before = self._picture(job)
        if job.coder in self._simulations:
            quality = int(parse_attack(job.edit).parameters["quality"])
            return before, self._simulations[job.coder](self._sources[job.source], quality), 0
        if job.coder not in self._models:
            size, after = file_codecs.compress(before, job.coder)
            return before, after, size
        file, after = self._workshop.codec(self._models[job.coder]).recompress(before)
        if not job.source and not job.edit:
            self._sources.setdefault(job.coder, after)
        return before, after, len(container.serialise(file))

    def _picture(self, job: Job) -> Pixels:
        if job.source not in self._sources:
            self.compress(Job("", "", job.source))
        if not job.edit:
            return self._sources[job.source]
        key = job.source, job.edit
        if self._edited is None or self._edited[0] != key:
            self._edited = key, parse_attack(job.edit).apply(self._sources[job.source])
        return self._edited[1]


def compare(before: Pixels, after: Pixels, size: int, area: Box | None, distance: Distance | None) -> Figures:
    """All measures between two pictures; those that need larger ones are left out. `area` is the edited box."""
    height, width, _ = before.shape
    figures = {
        "height": height, "width": width, "bytes": size, "bpp": bits_per_pixel(size, height, width),
        "psnr_db": psnr_db(before, after),
    }  # fmt: skip
    if min(height, width) >= MS_SSIM_SIDE:
        figures["ms_ssim"] = ms_ssim(before, after)
    if distance is not None and min(height, width) >= LPIPS_SIDE:
        figures["lpips"] = distance(before, after)
    if area is not None:
        inside = np.zeros((height, width), bool)
        inside[area[0] : area[2], area[1] : area[3]] = True
        for name, mask in (("psnr_inside_db", inside), ("psnr_outside_db", ~inside)):
            if mask.any():
                figures[name] = psnr_db(before[mask], after[mask])
    return figures


def lpips_distance(backbone: Path) -> Distance:
    """LPIPS (VGG) with the weights in a file; needs the extra train. Raises UsageError, MissingModel, BadModelFile."""
    import torch

    from slic_cli.training.pixels import to_tensor

    try:
        distances = importlib.import_module("slic_cli.training.distances")
        distance = distances.make_distance("lpips", backbone)
    except ImportError as error:
        raise UsageError(f"--backbone: expected the extra 'train' to be installed, got: {error}") from error

    cpu = torch.device("cpu")

    @torch.inference_mode()
    def measure(before: Pixels, after: Pixels) -> float:
        return float(distance(to_tensor(before, cpu), to_tensor(after, cpu)).mean())

    return measure
