"""Names, paths, SLIC_MODELS and digests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_METADATA, TINY_NAME

from slic_cli.errors import BadModelFile, MissingModel
from slic_cli.model_file import save_model
from slic_cli.registry import (
    DEFAULT_MODEL,
    find_model,
    find_model_for,
    find_other,
    list_models,
    read_header,
    read_spec,
)


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIC_MODELS", raising=False)


def test_the_shipped_model_is_there() -> None:
    spec = find_model(DEFAULT_MODEL)
    assert (spec.architecture, spec.quality, spec.metric) == ("bmshj2018-hyperprior", 8, "carrier")
    assert spec in list_models()[0]


def test_a_path_and_a_directory_add_models(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingModel, match=DEFAULT_MODEL):
        find_model(TINY_NAME)
    assert find_model(str(tiny_model)).name == TINY_NAME
    monkeypatch.setenv("SLIC_MODELS", f"{os.pathsep}{tiny_model.parent}")
    assert find_model(TINY_NAME) == find_model(TINY_NAME.upper()) == read_spec(tiny_model)


def test_a_shipped_difference_is_shipped_with_what_it_differs_from() -> None:
    shipped = [read_spec(path) for path in find_model(DEFAULT_MODEL).path.parent.glob("*.safetensors")]
    differing = [spec for spec in shipped if "differs_from" in spec.metadata]
    assert differing
    assert all(find_other(spec) in shipped for spec in differing)


def test_the_users_directory_goes_before_the_shipped_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_model, tmp_path / f"{DEFAULT_MODEL}.safetensors")
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path))
    assert find_model(DEFAULT_MODEL).digest == read_spec(tiny_model).digest
    (listed,) = (spec for spec in list_models()[0] if spec.name == DEFAULT_MODEL)
    assert listed.path.parent == tmp_path


def test_a_file_finds_its_model_by_digest(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = read_spec(tiny_model).digest
    with pytest.raises(MissingModel, match=digest[:12]):
        find_model_for(digest, TINY_NAME)
    with pytest.raises(MissingModel, match=DEFAULT_MODEL):
        find_model_for(digest, TINY_NAME, DEFAULT_MODEL)
    assert find_model_for(digest, "another-name", str(tiny_model)).path == tiny_model
    monkeypatch.setenv("SLIC_MODELS", str(tiny_model.parent))
    assert find_model_for(digest, "another-name").path == tiny_model


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "header of 0 bytes"),
        (b"\xff" * 8 + b"{}", "header of"),
        (b"\x02" + bytes(7) + b"[]", "list"),
        (b"\x02" + bytes(7) + b"{]", "no JSON"),
        (b"\x02" + bytes(7) + b"{}", "slic-model-1"),
        ((60).to_bytes(8, "little") + b'{"__metadata__": {"format": "slic-model-1", "quality": "8"}}', "architecture"),
    ],
)
def test_what_is_no_model_is_refused_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str
) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=told):
        read_spec(path)
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path))
    models, (problem,) = list_models()
    assert "wrong" not in {spec.name for spec in models}
    assert str(path) in problem


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="none there"):
        find_model(str(tmp_path / "x.safetensors"))
    with pytest.raises(BadModelFile, match="readable"):
        read_header(tmp_path)


def test_nothing_here_loads_torch_or_numpy() -> None:
    program = (
        "import sys, slic_cli.registry as r; r.list_models(); sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def save(directory: Path, name: str, **metadata: str) -> Path:
    """A file that calls itself a model, and holds one tensor."""
    path = directory / f"{name}.safetensors"
    save_model(path, {"x": np.zeros(1, np.float16)}, TINY_METADATA | metadata)
    return path


def test_the_first_directory_goes_before_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in ("a", "b", "c"):
        (tmp_path / directory).mkdir()
    second, first = save(tmp_path / "b", "same", note="1"), save(tmp_path / "a", "same", note="2")
    other = save(tmp_path / "b", "other")
    monkeypatch.setenv("SLIC_MODELS", os.pathsep.join(str(tmp_path / name) for name in ("c", "gone", "a", "b")))
    assert find_model("same").path == first
    assert find_model(str(second)).path == second
    paths = [spec.path for spec in list_models()[0]]
    assert paths.index(other) < paths.index(first)
    assert second not in paths


@pytest.mark.parametrize(
    ("name", "metadata", "told"),
    [
        ("under score!", {}, "file name"),
        (".hidden", {}, "file name"),
        ("x" * 65, {}, "file name"),
        ("quality", {"quality": "high"}, "quality"),
        ("negative", {"quality": "-1"}, "quality"),
        ("format", {"format": "slic-model-2"}, "slic-model-1"),
    ],
)
def test_unfit_names_and_metadata_are_refused(tmp_path: Path, name: str, metadata: dict[str, str], told: str) -> None:
    with pytest.raises(BadModelFile, match=told):
        read_spec(save(tmp_path, name, **metadata))


def test_a_malformed_digest_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, "m")
    digest = read_spec(path).digest
    for wrong in (digest.upper(), "g" + digest[1:]):
        path.write_bytes(path.read_bytes().replace(digest.encode(), wrong.encode()))
        with pytest.raises(BadModelFile, match="digest"):
            read_spec(path)
        path.write_bytes(path.read_bytes().replace(wrong.encode(), digest.encode()))


@pytest.mark.parametrize("length", [1 << 23, 1 << 40, (1 << 64) - 1])
def test_a_huge_header_is_not_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as stream:
        stream.write(length.to_bytes(8, "little") + b"{}")
        stream.truncate(1 << 24)  # a hole: no such space is taken
    with pytest.raises(BadModelFile, match=f"header of {length} bytes"):
        read_spec(path)


@pytest.mark.parametrize("header", [b"[" * 200_000, b'{"a": ' * 100_000, b"9" * 5000, b"\xff\xfe{}", b"\0" * 10])
def test_a_header_that_defeats_the_parser_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "deep.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BadModelFile, match="no JSON"):
        read_spec(path)


def test_a_quality_of_too_many_digits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "m", quality="9" * 5000)
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path))
    assert len(list_models()[1]) == 1


def test_a_file_finds_its_model_behind_another_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains a model anew under the old name wants to go on reading the old files."""
    digest = find_model(DEFAULT_MODEL).digest
    save(tmp_path, DEFAULT_MODEL)
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path))
    assert find_model_for(digest, DEFAULT_MODEL).digest == digest
