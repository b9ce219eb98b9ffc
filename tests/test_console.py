"""What a run says and how it ends: logs, JSON, exit codes, closed pipes and streams, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from test_cli import MODEL, PROGRAM, Result, environment, names, process, save_photograph, slic

from slic_cli import operations
from slic_cli.console import Console
from slic_cli.errors import SlicError


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.delenv("SLIC_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    save_photograph(tmp_path / "photo.png")


def ending_with(error: BaseException) -> Any:
    """A patch with which encoding ends with that error."""
    return patch.object(operations, "encode", side_effect=error)


# --- logs and JSON -------------------------------------------------------------------------------------


def test_logs_go_to_stderr_alone() -> None:
    result = slic("encode", "photo.png", *MODEL)
    assert (result.code, result.out) == (0, b"")
    size = Path("photo.slic").stat().st_size
    assert result.err.startswith(
        f"photo.png -> photo.slic: 64 x 48, {size} bytes, {size * 8 / 3072:.3f} bits per pixel"
    )


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_silences_logs_but_no_errors(option: str) -> None:
    assert slic("encode", "photo.png", *MODEL, option).err == ""
    assert "exists" in slic("encode", "photo.png", *MODEL, option).error(2)
    result = slic("encode", "photo.png", *MODEL, option, "--force", "--json")
    assert (len(result.records), result.err) == (1, "")


def test_one_json_object_a_line() -> None:
    save_photograph(Path("other.png"), seed=1)
    result = slic("encode", "photo.png", "missing.png", "other.png", *MODEL, "--json")
    assert result.code == 3
    assert [record["input"] for record in result.records] == ["photo.png", "other.png"]
    assert len(result.lines) == 3


def test_json_has_null_for_infinity(capfd: pytest.CaptureFixture[str]) -> None:
    record = {"psnr_db": float("inf"), "rounds": [{"psnr_db": float("nan")}, {"psnr_db": 1.5}], "x": (1, "a")}
    Console(quiet=True, json=True).record(record, "")
    assert (
        capfd.readouterr().out == '{"psnr_db": null, "rounds": [{"psnr_db": null}, {"psnr_db": 1.5}], "x": [1, "a"]}\n'
    )


def test_equal_pictures_have_no_psnr() -> None:
    """A picture that the codec gives back unchanged has an infinite PSNR."""
    from slic_cli import codec

    def unchanged(self: codec.Codec, pixels: codec.Pixels) -> tuple[Any, codec.Pixels]:
        return self.encode(pixels), pixels

    with patch.object(codec.Codec, "recompress", unchanged):
        result = slic("recompress", "photo.png", *MODEL, "-o", "x.png", "--json")
    assert result.records[0]["rounds"][0]["psnr_db"] is None


def test_a_log_line_is_one_line() -> None:
    Path("photo.png").rename("two\nlines.png")
    assert len(slic("encode", "two\nlines.png", *MODEL).lines) == 1


def test_an_error_is_one_line() -> None:
    assert "two lines.png" in slic("encode", "two\nlines.png", *MODEL).error(3)


# --- exit codes ----------------------------------------------------------------------------------------


class PanicError(BaseException):
    """Like the panics of constriction, which are no Exception."""


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), PanicError("entropy"), KeyError("k"), SlicError("own")])
def test_internal_faults_end_in_one_line(error: BaseException) -> None:
    with ending_with(error):
        line = slic("encode", "photo.png", *MODEL).error(1)
    assert str(error.args[0]).split()[0] in line


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_DEBUG", "1")
    with ending_with(RuntimeError("deep")):
        result = slic("encode", "photo.png", *MODEL)
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert result.lines[-1].startswith("slic: error: internal: RuntimeError: deep")


def test_an_unforeseen_os_error_is_an_internal_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_DEBUG", "1")
    with ending_with(OSError("libcuda.so.1: cannot open shared object file")):
        result = slic("encode", "photo.png", *MODEL)
    assert result.code == 1
    assert "libcuda" in result.lines[-1]


def test_too_little_memory_is_said_so() -> None:
    with ending_with(MemoryError()):
        assert "memory" in slic("encode", "photo.png", *MODEL).error(1)


def test_an_interrupt_ends_with_130() -> None:
    with ending_with(KeyboardInterrupt()):
        result = slic("encode", "photo.png", *MODEL)
    assert result.code == 130
    assert "Traceback" not in result.err


def test_an_interrupt_is_confirmed() -> None:
    with ending_with(KeyboardInterrupt()):
        assert "interrupted" in slic("encode", "photo.png", *MODEL).error(130)


def test_missing_and_damaged_models(tiny_model: Path) -> None:
    assert "nope" in slic("encode", "photo.png", "--model", "nope").error(4)
    assert "nope" in slic("encode", "photo.png", "--model", "./nope.safetensors").error(4)
    data = bytearray(tiny_model.read_bytes())
    data[-1] ^= 1
    Path("damaged.safetensors").write_bytes(data)
    assert "damaged" in slic("encode", "photo.png", "--model", "damaged.safetensors").error(4)
    Path("cut.safetensors").write_bytes(data[:100])
    assert "cut" in slic("encode", "photo.png", "--model", "cut.safetensors").error(4)
    Path("empty.safetensors").touch()
    assert "empty" in slic("encode", "photo.png", "--model", "empty.safetensors").error(4)
    assert not Path("photo.slic").exists()


@pytest.mark.parametrize("variable", [False, True])
def test_a_model_with_too_long_a_name_is_missing(variable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "x" * 300
    if variable:
        monkeypatch.setenv("SLIC_MODELS", name)
    assert slic("encode", "photo.png", "--model", "nope" if variable else f"{name}.safetensors").error(4)


def test_a_missing_model_is_said_once() -> None:
    save_photograph(Path("other.png"))
    assert slic("encode", "photo.png", "other.png", "--model", "nope").error(4)


# --- closed and full streams ---------------------------------------------------------------------------


def shell(command: str, **changes: str) -> tuple[list[int], str]:
    """Run a shell pipeline of slic; the exit code of each part, and what was said."""
    script = f'slic() {{ "{sys.executable}" -c "{PROGRAM}" "$@"; }}\n{command}\necho codes ${{PIPESTATUS[@]}} >&2'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment(**changes), timeout=60, check=False
    )
    lines = done.stderr.splitlines()
    assert lines, done
    return [int(word) for word in lines[-1].split()[1:]], "\n".join(lines[:-1])


def without_reader(*arguments: str) -> Result:
    """Run with a stdout that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        return process(*arguments, stdout=stdout)


@pytest.mark.parametrize("command", ["models", "models --json", "info photo.slic", "edits", "decode photo.slic -o -"])
def test_a_reader_that_has_gone(command: str) -> None:
    assert slic("encode", "photo.png", *MODEL).code == 0
    assert "standard output" in without_reader(*command.split()).error(5)


def test_help_to_a_reader_that_has_gone() -> None:
    assert without_reader("--help").code in (0, 5)


def test_a_reader_that_goes_half_way() -> None:
    save_photograph(Path("large.png"), 300, 400)  # its PNG fills more than the pipe's 64 KiB
    assert slic("encode", "large.png", *MODEL).code == 0
    codes, said = shell("slic decode -q large.slic -o - | head -c 10 > /dev/null")
    assert codes[0] == 5
    assert said.startswith("slic: error: standard output")
    assert "\n" not in said


def test_an_unbuffered_stdout_loses_nothing_in_silence() -> None:
    save_photograph(Path("large.png"), 300, 400)
    assert slic("encode", "large.png", *MODEL).code == 0
    codes, _ = shell("slic decode -q large.slic -o - | head -c 10 > /dev/null", PYTHONUNBUFFERED="1")
    assert codes[0] == 5


def test_a_full_device() -> None:
    for arguments in (["encode", "photo.png", *MODEL, "-o", "-"], ["models"], ["models", "--json"], ["--version"]):
        with Path("/dev/full").open("wb") as full:
            result = process(*arguments, stdout=full)
        assert "standard output" in result.error(5)


def test_help_to_a_full_device() -> None:
    with Path("/dev/full").open("wb") as full:
        assert process("--help", stdout=full).error(5)


@pytest.mark.parametrize("command", ["models >&-", "encode photo.png --model tiny-test-q1 >&-"])
def test_a_closed_stdout(command: str) -> None:
    codes, said = shell(f"slic {command}")
    assert codes[0] in (0, 5)
    assert "Traceback" not in said


def test_a_closed_stderr_puts_no_logs_into_the_picture() -> None:
    assert slic("encode", "photo.png", *MODEL).code == 0
    shell(f"slic encode photo.png {' '.join(MODEL)} -o - 2>&- > x.slic")
    assert Path("x.slic").read_bytes() == Path("photo.slic").read_bytes()


def test_a_closed_stdin() -> None:
    codes, said = shell(f"slic encode - {' '.join(MODEL)} -o x.slic <&-")
    assert codes[0] == 3
    assert said.startswith("slic: error: ")


def test_a_name_that_is_no_text_can_be_printed() -> None:
    assert slic("encode", "photo.png", *MODEL).code == 0
    Path("photo.slic").rename(os.fsdecode(b"\xff.slic"))
    assert process("info", os.fsdecode(b"\xff.slic"), changes={"PYTHONIOENCODING": "utf-8:strict"}).code == 0


def test_a_name_that_is_no_text_can_be_worked_on() -> None:
    name = os.fsdecode(b"\xff.png")
    Path("photo.png").rename(name)
    result = slic("encode", name, *MODEL, "--json")
    assert (result.code, result.records[0]["input"]) == (0, name)
    assert slic("attack", name, *MODEL, "--op", "blur", "--recompress").code == 0


def test_nothing_more_is_done_when_nobody_reads() -> None:
    assert slic("encode", "photo.png", *MODEL).code == 0
    assert without_reader("info", "photo.slic", "photo.slic", "photo.slic").error(5)


# --- signals -------------------------------------------------------------------------------------------

# Says when the work that is to be interrupted has begun, and does it until it is. Background jobs ignore SIGINT and
# pass that on to their children: these are to be interrupted nonetheless.
_TELL_THEN = """
import signal, sys, time, os
signal.signal(signal.SIGINT, signal.default_int_handler)
import slic_cli.codec, slic_cli.files
def telling(function):
    def wrapper(*arguments, **named):
        print("begun", file=sys.stderr, flush=True)
        while True:
            function(*arguments, **named)
    return wrapper
"""
_CODING = """
slic_cli.codec.Codec.encode = telling(slic_cli.codec.Codec.encode)
slic_cli.codec.Codec.decode = telling(slic_cli.codec.Codec.decode)
"""
_WRITING = "slic_cli.files.os.fsync = telling(lambda handle: time.sleep(30))\n"


def interrupted(number: signal.Signals, where: str, *arguments: str) -> tuple[int, str]:
    """The exit code and stderr of a run that gets a signal shortly after its work began."""
    command = [sys.executable, "-c", _TELL_THEN + where + PROGRAM, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(), text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "begun\n"
        time.sleep(0.05)
        running.send_signal(number)
        said = running.stderr.read()
        return running.wait(30), said


@pytest.mark.parametrize(
    ("command", "where", "number", "code"),
    [
        ("encode", _CODING, signal.SIGINT, 130),
        ("decode", _CODING, signal.SIGTERM, 143),
        ("encode", _WRITING, signal.SIGTERM, 143),
        ("decode", _WRITING, signal.SIGINT, 130),
    ],
    ids=["encode-coding", "decode-coding", "encode-writing", "decode-writing"],
)
def test_signals_leave_the_old_output_alone(command: str, where: str, number: signal.Signals, code: int) -> None:
    if command == "decode":
        assert slic("encode", "photo.png", *MODEL, "-q").code == 0
    source = "photo.png" if command == "encode" else "photo.slic"
    options = MODEL if command == "encode" else ()
    Path("out").write_bytes(b"old")
    before = names(Path())
    ended, said = interrupted(number, where, command, source, *options, "-o", "out", "--force")
    assert ended == code
    assert Path("out").read_bytes() == b"old"
    assert names(Path()) == before
    assert "Traceback" not in said
