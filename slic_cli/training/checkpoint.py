"""What a stopped stage goes on from. Torch files, written whole or not at all, and read without running pickles."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slic_cli.errors import BadModelFile
from slic_cli.files import write_atomically

FORMAT = "slic-checkpoint-2"


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path`; the old one stays if this fails. Raises OutputError."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomically(path, buffer.getvalue(), force=True)


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU. Raises BadModelFile if it is damaged or of another `identity`."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its unzipper and unpickler raise
        raise BadModelFile(f"{path}: expected a checkpoint, got a file that cannot be read as one") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadModelFile(f"{path}: expected a checkpoint of format {FORMAT}, got another file")
    for key, expected in identity.items():
        got = content["identity"].get(key)
        if got != expected:
            raise BadModelFile(f"{path}: expected a checkpoint with {key} {expected!r}, got {got!r}")
    return content
