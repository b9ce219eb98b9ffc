"""Where the outputs of a command go: a file, a directory, beside the input, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slic_cli.errors import BadInput, OutputError, UsageError
from slic_cli.files import STANDARD_STREAM, check_writable

_KNOWN_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".jxl", ".slic")


def stem(name: str) -> str:
    """The input's file name without its extension; `stdin` for the standard stream."""
    return "stdin" if name == STANDARD_STREAM else Path(name).stem


def plan_outputs(inputs: Sequence[str], output: str | None, suffix: str, force: bool) -> list[str]:
    """One output for each input, checked before any work is done. Raises UsageError, OutputExists, OutputError.

    Without `output`, an output lies beside its input, and standard input goes to standard output.
    """
    if output == "":
        raise UsageError("-o: expected a file, a directory or -, got an empty name")
    if output is not None and _names_directory(output):
        directory = make_directory(Path(output))
        planned = [str(directory / (stem(name) + suffix)) for name in inputs]
    elif output is not None:
        if len(inputs) > 1:
            raise UsageError(f"-o {output}: expected a directory for {len(inputs)} inputs, got a file name")
        check_ending(output, suffix)
        planned = [output]
    else:
        planned = [_beside(name, suffix) for name in inputs]
    check_clashes(inputs, planned)
    for name in planned:
        check_output(name, force)
    return planned


def check_ending(output: str, suffix: str) -> None:
    """A name that promises another kind of file would lie. Raises UsageError."""
    ending, expected = Path(output).suffix.lower(), Path(f"x{suffix}").suffix
    if ending in _KNOWN_ENDINGS and ending != expected:
        raise UsageError(f"-o {output}: expected a name in {expected}, got {ending}")


def _names_directory(output: str) -> bool:
    return output != STANDARD_STREAM and (output.endswith(("/", os.sep)) or Path(output).is_dir())


def make_directory(path: Path) -> Path:
    """Create a directory for outputs if it is not there. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: expected a directory for outputs, got: {error.strerror}") from error
    return path


def _beside(name: str, suffix: str) -> str:
    return STANDARD_STREAM if name == STANDARD_STREAM else str(beside(name, suffix))


def beside(name: str, suffix: str) -> Path:
    """A path next to an input; standard input lies in the working directory. Raises BadInput."""
    path = Path(stem(name)) if name == STANDARD_STREAM else Path(name)
    if not path.name:
        raise BadInput(f"{name!r}: expected a file, got a name without one")
    return path.with_name(stem(name) + suffix)


def check_clashes(inputs: Sequence[str], planned: Sequence[str]) -> None:
    """Refuse outputs that would replace an input or each other, whatever they are called. Raises UsageError."""
    check_inputs(inputs)
    sources = {_place(name) for name in inputs if name != STANDARD_STREAM}
    taken: set[object] = set()
    for output in planned:
        place = _place(output)
        if place in sources:
            raise UsageError(f"{output}: expected an output that is not an input itself; name another with -o")
        if place in taken:
            raise UsageError(f"{output}: expected an output of its own for each input, got this one twice")
        taken.add(place)


def check_inputs(inputs: Sequence[str]) -> None:
    """Standard input can be read once. Raises UsageError."""
    if inputs.count(STANDARD_STREAM) > 1:
        raise UsageError("expected - (standard input) once, got it several times")


def _place(name: str) -> object:
    """What two names of one file have in common: its inode, or where it would lie."""
    if name == STANDARD_STREAM:
        return name
    try:
        status = Path(name).stat()
    except OSError:
        return os.path.realpath(name)
    except ValueError:  # a NUL byte: reading it will say so
        return name
    return status.st_dev, status.st_ino


def check_output(name: str, force: bool) -> None:
    """Refuse what cannot be written, before work is done. Raises OutputExists, OutputError, UsageError."""
    if name != STANDARD_STREAM:
        check_writable(Path(name), force)
    elif sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("expected -o or a pipe for binary output, got a terminal")
