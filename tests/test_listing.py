"""`slic models` and `slic info`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import TINY_NAME
from test_cli import MODEL, save_photograph, slic

from slic_cli import container
from slic_cli.registry import DEFAULT_MODEL


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)
    save_photograph(tmp_path / "photo.png")
    assert slic("encode", "photo.png", *MODEL, "-q").code == 0


def test_models_are_listed_and_the_default_is_marked() -> None:
    result = slic("models")
    assert (result.code, result.err) == (0, "")
    lines = {line[2:].split()[0]: line for line in result.out.decode().splitlines()}
    assert lines.keys() >= {DEFAULT_MODEL, TINY_NAME}
    assert [name for name, line in lines.items() if line.startswith("*")] == [DEFAULT_MODEL]


def test_models_as_json(tiny_model: Path) -> None:
    result = slic("models", "--json")
    models = {record["name"]: record for record in result.records}
    tiny = models[TINY_NAME]
    assert tiny.keys() == {"name", "architecture", "quality", "metric", "digest", "path", "default"}
    assert (tiny["quality"], tiny["default"], tiny["path"]) == (1, False, str(tiny_model))
    assert tiny["digest"] == container.parse(Path("photo.slic").read_bytes()).model_digest.hex()
    assert [name for name, record in models.items() if record["default"]] == [DEFAULT_MODEL]


def test_unusable_models_are_named_and_passed_over(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("more").mkdir()
    Path("more/broken.safetensors").write_bytes(b"broken")
    Path("more/folder.safetensors").mkdir()
    shutil.copy(tiny_model, "more/good.safetensors")
    monkeypatch.setenv("SLIC_MODELS", os.pathsep.join(["missing", "more"]))
    result = slic("models")
    assert result.code == 0
    assert " good " in result.out.decode()
    assert [line.split(":")[0] for line in result.lines] == [
        "skipped more/broken.safetensors",
        "skipped more/folder.safetensors",
    ]


def test_info_says_what_the_file_holds() -> None:
    result = slic("info", "photo.slic")
    size = Path("photo.slic").stat().st_size
    text = result.out.decode()
    assert (result.code, result.err) == (0, "")
    assert text.startswith(f"photo.slic: .slic version 1, {size} bytes, checksums intact\n")
    assert "64 x 48 pixels" in text
    assert f"{TINY_NAME} (available)" in text


def test_info_as_json() -> None:
    data = Path("photo.slic").read_bytes()
    file = container.parse(data)
    (record,) = slic("info", "photo.slic", "--json").records
    assert record == {
        "input": "photo.slic", "format_version": 1, "bytes": len(data), "width": 64, "height": 48,
        "bpp": pytest.approx(8 * len(data) / 3072), "model": TINY_NAME, "digest": file.model_digest.hex(),
        "model_available": True, "strip_rows": file.strip_rows, "strip_bytes": [len(s) for s in file.strips],
        "icc_bytes": 0, "exif_bytes": 0, "checksums": "intact",
    }  # fmt: skip


def test_info_of_standard_input() -> None:
    result = slic("info", "-", "--json", stdin=Path("photo.slic").read_bytes())
    assert result.records[0]["input"] == "-"


def test_info_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIC_MODELS")
    assert "not available" in slic("info", "photo.slic").out.decode()
    assert slic("info", "photo.slic", "--json").records[0]["model_available"] is False


def test_info_of_several_files_goes_on_after_a_bad_one() -> None:
    result = slic("info", "photo.png", "missing.slic", "photo.slic", "--json")
    assert result.code == 3
    assert [record["input"] for record in result.records] == ["photo.slic"]
    assert len(result.lines) == 2
    assert "photo.png" in result.lines[0]
