"""Reading inputs and refusing outputs; tests/test_outputs.py has the writing itself, and full disks."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from slic_cli.errors import BadInput, OutputError, OutputExists
from slic_cli.files import check_writable, read_input, write_atomically, write_output


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\r\n\x1a\0" * 10)
    assert read_input(str(tmp_path / "x")) == b"\r\n\x1a\0" * 10


@pytest.mark.parametrize(
    ("name", "told"),
    [("", "directory"), ("gone", "No such file"), ("x/y", "readable file"), ("a\0b", "file name"), ("n" * 300, "long")],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(BadInput, match=told) as caught:
        read_input(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(b"\xff\0in")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert read_input("-") == b"\xff\0in"
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output))
    write_output("-", b"\xff\r\nout")
    assert output.getvalue() == b"\xff\r\nout"


def test_closed_standard_streams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BadInput, match="closed"):
        read_input("-")
    with pytest.raises(OutputError, match="closed"):
        write_output("-", b"")


def test_outputs_that_cannot_be_are_refused_early(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"old")
    for force in (False, True):
        with pytest.raises(OutputError, match="got a directory"):
            check_writable(tmp_path, force)
        with pytest.raises(OutputError, match="existing directory"):
            check_writable(tmp_path / "gone" / "x", force)
        check_writable(tmp_path / "new", force)
    with pytest.raises(OutputExists, match="--force"):
        check_writable(tmp_path / "taken", force=False)
    check_writable(tmp_path / "taken", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("force", [True, False])
def test_nothing_is_left_of_a_new_file_that_failed(tmp_path: Path, error: BaseException, force: bool) -> None:
    expected = OutputError if isinstance(error, OSError) else type(error)
    with patch.object(os, "fsync", side_effect=error), pytest.raises(expected) as caught:
        write_atomically(tmp_path / "x", b"data", force)
    assert isinstance(error, OSError) is ("No space left" in str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full))
        with pytest.raises(OutputError, match="No space left"):
            write_output("-", b"x" * 100)
