"""Two tiny models, one that says it self-destructs and a vanilla one, and a finished report on three photographs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import TINY_METADATA, TINY_NAME, photograph, tiny_state
from PIL import Image
from test_cli import Result, slic

from slic_cli.codec import Codec
from slic_cli.evaluation import file_codecs
from slic_cli.export import export_model
from slic_cli.registry import find_model

SECURED, VANILLA = "tiny-lpips-q1", TINY_NAME
HEIGHT, WIDTH = 164, 180  # MS-SSIM needs 161; both are off the codec's grid
EDITS = ("blur", "jpeg:quality=75", "sharpen", "noise", "inpaint", "crop")
OPTIONS = [part for edit in EDITS for part in ("--op", edit)]


@dataclass(frozen=True)
class Report:
    """A run that ended well: its directory, the photographs, and what --json printed."""

    output: Path
    photographs: Path
    result: Result

    @property
    def printed(self) -> dict[str, Any]:
        (record,) = self.result.records
        return record

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of the only table of that name."""
        (found,) = (one for one in self.printed["tables"] if one["table"] == table)
        rows: list[dict[str, Any]] = found["rows"]
        return rows

    def pictures(self) -> list[npt.NDArray[np.uint8]]:
        return [np.array(Image.open(path)) for path in sorted(self.photographs.iterdir())]


@pytest.fixture(scope="session")
def both_models(models_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("both")
    shutil.copy(models_directory / f"{VANILLA}.safetensors", directory)
    metadata = {**TINY_METADATA, "metric": "lpips"}
    export_model(directory / f"{SECURED}.safetensors", tiny_state(1), metadata, force=False)
    return directory


@pytest.fixture(scope="session", autouse=True)
def _few_files() -> Iterator[None]:
    """One quality of the formats that take long to write; all of JPEG's."""
    few = {name: qualities if name == "jpeg" else qualities[1:2] for name, qualities in file_codecs.QUALITIES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_codecs, "QUALITIES", few)
        yield


@pytest.fixture(scope="session")
def report(both_models: Path, _few_files: None, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Every table, on three photographs."""
    root = tmp_path_factory.mktemp("report")
    photographs = root / "kodak-like"
    photographs.mkdir()
    for seed in range(3):
        Image.fromarray(photograph(HEIGHT, WIDTH, seed)).save(photographs / f"photo{seed}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIC_MODELS", str(both_models))
        result = slic("evaluate", photographs, "--model", SECURED, *OPTIONS, "-o", root / "out", "--json")
    assert result.code == 0, result.err
    return Report(root / "out", photographs, result)


@pytest.fixture
def workplace(both_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory where both models are found."""
    monkeypatch.setenv("SLIC_MODELS", str(both_models))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def codecs(both_models: Path) -> dict[str, Codec]:
    """Both codecs by name, for figures of the tests' own."""
    return {name: Codec(find_model(str(both_models / f"{name}.safetensors"))) for name in (SECURED, VANILLA)}
