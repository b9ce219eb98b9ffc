"""The photographs of an evaluation: which files they are, and reading one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slic_cli.errors import BadInput
from slic_cli.files import read_input
from slic_cli.image_io import decode_image

ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".qoi", ".jp2", ".avif")
)


@dataclass(frozen=True)
class Photograph:
    """A file of a data set; `digest` is the SHA-256 (hex) of its bytes, by which records know it."""

    dataset: str
    path: Path
    digest: str
    data: bytes

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Upright RGB, uint8 (H, W, 3). Raises BadImage."""
        return decode_image(self.data, str(self.path)).pixels


def find_photographs(inputs: Sequence[str], limit: int | None) -> dict[str, list[Path]]:
    """The picture files of each data set by name, in order of their names and at most `limit` of each.

    An input is a directory, whose own files are taken, or one file; the name of a data set is that of its input, the
    whole path if two end alike. Raises BadInput for an input that is neither, or holds no picture files.
    """
    names = [Path(name).name or str(Path(name).resolve().name) for name in inputs]
    datasets: dict[str, list[Path]] = {}
    for text, name in zip(inputs, names, strict=True):
        paths = _files(Path(text))[:limit]
        if not paths:
            raise BadInput(f"{text}: expected a directory with photographs, got none in it")
        datasets[name if names.count(name) == 1 else text] = paths
    return datasets


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
        if path.is_file():
            return [path]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected a readable directory, got: {getattr(error, 'strerror', error)}") from error
    raise BadInput(f"{path}: expected a directory of photographs or a file, got none there")


def read_photograph(dataset: str, path: Path) -> Photograph:
    """The file with its digest, not yet decoded. Raises BadInput."""
    data = read_input(str(path))
    return Photograph(dataset, path, hashlib.sha256(data).hexdigest(), data)
