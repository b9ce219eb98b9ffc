"""Reading inputs and writing outputs, `-` for the standard streams; outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from slic_cli.errors import BadInput, NobodyReads, OutputError, OutputExists

STANDARD_STREAM = "-"


def read_input(name: str) -> bytes:
    """All bytes of a file, or of standard input for `-`. Raises BadInput."""
    try:
        if name == STANDARD_STREAM:
            if sys.stdin is None:
                raise BadInput("standard input: expected data, got a closed stream")
            return sys.stdin.buffer.read()
        return Path(name).read_bytes()
    except IsADirectoryError as error:
        raise BadInput(f"{name}: expected a file, got a directory") from error
    except OSError as error:
        raise BadInput(f"{name}: expected a readable file, got: {error.strerror}") from error
    except ValueError as error:  # a NUL byte in the name
        raise BadInput(f"{name!r}: expected a file name, got: {error}") from error


def check_writable(path: Path, force: bool) -> None:
    """Refuse early what would fail late. Raises OutputExists, OutputError."""
    if path.is_dir():
        raise OutputError(f"{path}: expected an output file, got a directory")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: expected a regular file or -, got a device or pipe")
    if path.exists() and not force:
        raise OutputExists(f"{path}: exists already; expected a new name or --force")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: expected an existing directory {path.parent}, got none")


def write_atomically(path: Path, data: bytes, force: bool = False) -> None:
    """Write a whole file or nothing: to a temporary file beside it, then renamed. Raises OutputError, OutputExists."""
    check_writable(path, force)
    temporary = None
    try:
        path = path.resolve()  # --force replaces what a link points to, not the link
        handle, temporary = tempfile.mkstemp(prefix=".slic-", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, (path.stat().st_mode & 0o7777) if path.exists() else 0o666 & ~_umask())  # noqa: PTH101
        _publish(temporary, path, force)
        temporary = None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: could not be written: {reason}") from error
    finally:
        if temporary is not None:  # also on Ctrl-C
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108


def _publish(temporary: str, path: Path, force: bool) -> None:
    """Give the finished file its name; without `force` never over a file that appeared meanwhile."""
    if force:
        os.replace(temporary, path)  # noqa: PTH105
        return
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise OutputExists(f"{path}: exists already; expected a new name or --force") from error
    except OSError:  # a file system without hard links
        os.replace(temporary, path)  # noqa: PTH105
        return
    os.unlink(temporary)  # noqa: PTH108


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_output(name: str, data: bytes, force: bool = False) -> None:
    """Write to a file atomically, or to standard output for `-`. Raises OutputError, OutputExists."""
    if name != STANDARD_STREAM:
        write_atomically(Path(name), data, force)
        return
    if sys.stdout is None:
        raise NobodyReads("standard output: expected a reader, got a closed stream")
    try:
        rest = memoryview(data)
        while rest:  # an unbuffered stream may take only a part
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
    except OSError as error:
        raise NobodyReads(f"standard output: could not be written: {error.strerror}") from error
