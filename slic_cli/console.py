"""What the user sees: log lines and errors on stderr, results as JSON lines on stdout."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slic_cli.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, NobodyReads, SlicError

DEBUG_VARIABLE = "SLIC_DEBUG"
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EPIPE, errno.ENAMETOOLONG, errno.EFBIG)


@dataclass(frozen=True)
class Console:
    """Where a command reports to. `quiet` silences log lines, never errors; `json` puts records on stdout."""

    quiet: bool = False
    json: bool = False

    def log(self, line: str) -> None:
        """One line of progress."""
        if not self.quiet:
            _say(line)

    def record(self, record: Mapping[str, Any], line: str) -> None:
        """The result of one input: a log line and, with --json, one JSON object on a line of stdout."""
        self.log(line)
        if self.json:
            write_line(json.dumps(_finite(record)))

    def error(self, message: str) -> None:
        """One line on stderr that says what was expected and what came."""
        _say(f"slic: error: {message}")


def _say(line: str) -> None:
    if sys.stderr is not None:  # print(file=None) would go to standard output, into the picture
        print(" ".join(line.split()), file=sys.stderr, flush=True)


def write_line(text: str) -> None:
    """A line on stdout. Raises NobodyReads when nobody reads it."""
    if sys.stdout is None:
        raise NobodyReads("standard output: expected a reader, got a closed stream")
    try:
        sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")  # names need not be text
        sys.stdout.flush()
    except OSError as error:
        raise NobodyReads(f"standard output: could not be written: {error.strerror}") from error


def _finite(value: Any) -> Any:
    """JSON knows no infinity: the PSNR of equal pictures becomes null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_guarded(command: Callable[[], int]) -> int:
    """Run a command to its exit code; whatever goes wrong ends as one line on stderr. Called once, by main."""
    signal.signal(signal.SIGTERM, _terminate)
    console = Console()
    try:
        return command()
    except SlicError as error:
        console.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.error("interrupted; no output was left half written")
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_INTERNAL
    except OSError as error:  # a name no file can have, or what the parser itself prints
        if error.errno not in _OUTPUT_ERRORS:
            return _internal(console, error)
        console.error(f"{error.filename or 'standard output'}: could not be used: {error.strerror}")
        return NobodyReads.exit_code
    except MemoryError:
        console.error("expected enough memory for this picture, got none")
        return EXIT_INTERNAL
    except BaseException as error:  # constriction's panics are no Exception
        return _internal(console, error)
    finally:
        _release_stdout()


def _internal(console: Console, error: BaseException) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    console.error(f"internal: {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 for the traceback)")
    return EXIT_INTERNAL


def _terminate(number: int, _frame: object) -> None:
    """End through the ordinary clean-up, so that temporary files go."""
    raise SystemExit(128 + number)


def _release_stdout() -> None:
    """Flush now; when the reader has gone, the interpreter must not complain about it at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
