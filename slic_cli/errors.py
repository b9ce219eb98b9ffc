"""Every error the tool reports to its user, and the exit code each one ends with.

    SlicError                     1  internal: a fault of the tool itself
    +-- UsageError                2  the command line asks for something that cannot be done
    |   +-- OutputExists          2  an output is there already and --force was not given
    +-- BadInput                  3  an input is not what it should be
    |   +-- BadImage              3  not a picture that can be carried faithfully
    |   +-- BadSlicFile           3  not an intact .slic file
    +-- ModelError                4
    |   +-- MissingModel          4  no such model, or not the one the file was made with
    |   +-- BadModelFile          4  a weights file that cannot be used
    +-- OutputError               5  an output could not be written (disk full, no permission)
        +-- NobodyReads           5  standard output is closed: nothing more can be done

A message says what was expected and what came instead, in one line.
"""

from __future__ import annotations

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


class SlicError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_INTERNAL


class UsageError(SlicError):
    """The request contradicts itself or names something that is not offered."""

    exit_code = 2


class OutputExists(UsageError):
    """An output path is taken and may not be overwritten."""


class BadInput(SlicError):
    """An input cannot be read as what the command needs."""

    exit_code = 3


class BadImage(BadInput):
    """A picture that is damaged, or that would lose something if it were carried on."""


class BadSlicFile(BadInput):
    """A .slic file that is damaged, truncated, or of an unknown version."""


class ModelError(SlicError):
    """Something is wrong with a model rather than with a picture."""

    exit_code = 4


class MissingModel(ModelError):
    """The registry holds no model of that name or digest."""


class BadModelFile(ModelError):
    """A weights file that is no SLIC model, or is damaged."""


class OutputError(SlicError):
    """An output could not be written; whatever was there before is untouched."""

    exit_code = 5


class NobodyReads(OutputError):
    """Standard output is full, broken or closed."""
