"""Checkpoints: whole or not at all, and only for what they were made for."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from slic_cli.errors import BadModelFile, OutputError
from slic_cli.training.checkpoint import load_checkpoint, save_checkpoint

IDENTITY = {"architecture": "some", "n": 8}
CONTENT = {"identity": IDENTITY, "network": {"weight": torch.arange(3.0)}, "step": 7}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, CONTENT)
    loaded = load_checkpoint(path, IDENTITY)
    assert loaded["step"] == 7 and torch.equal(loaded["network"]["weight"], torch.arange(3.0))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.ckpt", CONTENT)
    with pytest.raises(BadModelFile, match="expected a checkpoint with n 9, got 8"):
        load_checkpoint(tmp_path / "a.ckpt", IDENTITY | {"n": 9})


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04."])
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(BadModelFile, match="expected a checkpoint"):
        load_checkpoint(tmp_path / "a.ckpt", IDENTITY)
    torch.save({"network": {}}, tmp_path / "a.ckpt")
    with pytest.raises(BadModelFile, match="of format slic-checkpoint-2"):
        load_checkpoint(tmp_path / "a.ckpt", IDENTITY)


def test_a_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, CONTENT)
    with (
        patch("slic_cli.files.os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OutputError, match="No space left"),
    ):
        save_checkpoint(path, CONTENT | {"step": 8})
    assert load_checkpoint(path, IDENTITY)["step"] == 7
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]
