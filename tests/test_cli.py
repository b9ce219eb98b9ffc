"""The `slic` command as a user meets it: round trips, pipes, options, help, completion; with helpers for other tests.

Commands run inside the test process wherever that shows the same: a process of its own costs an import of torch.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_NAME, photograph
from PIL import Image, ImageCms

from slic_cli import __version__, container
from slic_cli.attacks import EDITS
from slic_cli.cli import run
from slic_cli.console import run_guarded
from slic_cli.registry import DEFAULT_MODEL

MODEL = ("--model", TINY_NAME)
PROGRAM = "import sys; sys.argv[0] = 'slic'; from slic_cli.__main__ import main; main()"


@dataclass(frozen=True)
class Result:
    """How a run ended and what it wrote to the standard streams."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stderr."""
        return self.err.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout, one a line; fails on anything else, NaN and Infinity too."""
        return [json.loads(line, parse_constant=_refuse) for line in self.out.decode().splitlines()]

    def error(self, code: int) -> str:
        """The one line of a run that failed as it should: with this code and nothing else said."""
        assert self.code == code, self
        assert len(self.lines) == 1, self
        assert self.lines[0].startswith("slic: error: "), self
        assert "Traceback" not in self.err, self
        return self.lines[0]


def _refuse(constant: str) -> None:
    raise ValueError(f"expected JSON, got {constant}")


@contextmanager
def one_thread() -> Iterator[None]:
    """Pictures as small as these only suffer from more: the threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def slic(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """Run the command in this process."""
    out, err = io.BytesIO(), io.BytesIO()
    before = signal.getsignal(signal.SIGTERM)
    with (
        one_thread(),
        patch.object(sys, "argv", ["slic", *map(str, arguments)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        patch.object(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True)),
        patch.object(sys, "stderr", io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)),
    ):
        try:
            code = run_guarded(run)
        finally:
            signal.signal(signal.SIGTERM, before)
        return Result(code, out.getvalue(), err.getvalue().decode())


def environment(**changes: str) -> dict[str, str]:
    """For a process of its own; stdout is buffered as for a user, whatever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "SLIC_DEBUG")}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def process(
    *arguments: str | Path,
    code: str = PROGRAM,
    python: Sequence[str] = (),
    stdin: bytes = b"",
    stdout: int | IO[bytes] = subprocess.PIPE,
    changes: Mapping[str, str] | None = None,
    **options: Any,
) -> Result:
    """Run the command in a process of its own."""
    command = [sys.executable, *python, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command,
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(**(changes or {})),
        timeout=60,
        check=False,
        **options,
    )
    return Result(done.returncode, done.stdout or b"", done.stderr.decode(errors="replace"))


def save_photograph(path: Path, height: int = 48, width: int = 64, seed: int = 0) -> Path:
    """A synthetic photograph as a PNG."""
    Image.fromarray(photograph(height, width, seed)).save(path)
    return path


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of a picture file, read by Pillow alone."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.array(image)


def psnr(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """An independent PSNR, in floating point throughout."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float(20 * np.log10(255) - 10 * np.log10(error))


def names(directory: Path) -> set[str]:
    """All files and directories below, hidden ones too."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_photograph(tmp_path / "photo.png")


@pytest.fixture
def coded(photo: Path) -> Path:
    assert slic("encode", photo, *MODEL, "-q").code == 0
    return photo.with_suffix(".slic")


# --- round trips ---------------------------------------------------------------------------------------


def test_outputs_lie_beside_their_inputs(photo: Path) -> None:
    assert slic("encode", photo, *MODEL).code == 0
    photo.rename("original.png")
    assert slic("decode", "photo.slic").code == 0
    assert slic("recompress", "photo.decoded.png", *MODEL).code == 0
    results = {"photo.slic", "photo.decoded.png", "photo.decoded.recompressed.png"}
    assert names(Path()) == results | {"original.png"}
    first, second = pixels_of(Path("photo.decoded.png")), pixels_of(Path("photo.decoded.recompressed.png"))
    assert first.shape == second.shape == (48, 64, 3)
    assert not np.array_equal(first, second)


def test_the_same_input_gives_the_same_bytes(photo: Path) -> None:
    for name in ("one.slic", "two.slic"):
        assert slic("encode", photo, *MODEL, "-o", name).code == 0
    assert Path("one.slic").read_bytes() == Path("two.slic").read_bytes()


@pytest.mark.parametrize("directory", ["there", "there/", "new/", "new/below/"])
def test_a_directory_for_outputs(photo: Path, directory: str) -> None:
    Path("there").mkdir()
    assert slic("encode", photo, *MODEL, "-o", directory).code == 0
    assert container.is_slic(Path(directory, "photo.slic").read_bytes())


def test_every_input_is_done_with_one_model_load(photo: Path) -> None:
    from slic_cli import codec

    save_photograph(Path("other.png"), seed=1)
    with patch.object(codec, "Codec", wraps=codec.Codec) as made:
        result = slic("encode", photo, "other.png", *MODEL, "-o", "out/")
    assert (result.code, made.call_count) == (0, 1)
    assert len(result.lines) == 2
    with patch.object(codec, "Codec", wraps=codec.Codec) as made:
        assert slic("decode", "out/photo.slic", "out/other.slic").code == 0
    assert made.call_count == 1
    assert {"out/photo.decoded.png", "out/other.decoded.png"} <= names(Path())


def test_bad_inputs_do_not_stop_the_others(photo: Path) -> None:
    Path("bad.png").write_bytes(b"no picture")
    save_photograph(Path("last.png"), seed=2)
    result = slic("encode", "bad.png", "missing.png", photo, "last.png", *MODEL)
    assert result.code == 3
    assert [line.split(":")[0] for line in result.lines[:2]] == ["slic", "slic"]
    assert "bad.png" in result.lines[0]
    assert "missing.png" in result.lines[1]
    assert len(result.lines) == 4
    assert {"photo.slic", "last.slic"} <= names(Path())
    assert not {"bad.slic", "missing.slic"} & names(Path())


def test_the_first_failure_gives_the_exit_code(coded: Path) -> None:
    damaged, foreign = bytearray(coded.read_bytes()), container.parse(coded.read_bytes())
    damaged[-1] ^= 1
    Path("damaged.slic").write_bytes(damaged)
    other = container.SlicFile(**{**vars(foreign), "model_digest": bytes(32)})
    Path("foreign.slic").write_bytes(container.serialise(other))
    assert slic("decode", "damaged.slic", "foreign.slic").code == 3
    assert slic("decode", "foreign.slic", "damaged.slic").code == 4


def test_a_model_can_be_a_file(photo: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slic("encode", photo, *MODEL, "-o", "named.slic").code == 0
    monkeypatch.delenv("SLIC_MODELS")
    assert slic("encode", photo, "--model", tiny_model, "-o", "path.slic").code == 0
    assert Path("named.slic").read_bytes() == Path("path.slic").read_bytes()
    assert tiny_model.stem in slic("decode", "path.slic", "-o", "x.png").error(4)
    assert slic("decode", "path.slic", "--model", tiny_model, "-o", "x.png").code == 0


def test_another_model_is_not_taken_for_decoding(coded: Path) -> None:
    line = slic("decode", coded, "--model", DEFAULT_MODEL, "-o", "x.png").error(4)
    assert TINY_NAME in line
    assert DEFAULT_MODEL in line


def test_a_model_that_cannot_be_used_is_never_ignored(coded: Path) -> None:
    assert slic("recompress", coded, "--model", "no-such-model", "-o", "x.png").code == 4


# --- standard streams ----------------------------------------------------------------------------------


def test_standard_streams_give_the_same_bytes(photo: Path, coded: Path) -> None:
    piped = slic("encode", "-", *MODEL, stdin=photo.read_bytes())
    assert piped.code == 0
    assert piped.out == coded.read_bytes()
    assert slic("decode", coded, "-o", "file.png").code == 0
    assert slic("decode", "-", stdin=piped.out).out == Path("file.png").read_bytes()
    assert slic("decode", coded, "-o", "-").out == Path("file.png").read_bytes()


def test_a_shell_pipeline_gives_the_same_bytes(coded: Path) -> None:
    assert slic("decode", coded, "-o", "first.png").code == 0
    assert slic("recompress", "first.png", *MODEL, "-o", "second.png").code == 0
    command = f'''set -o pipefail; slic() {{ "{sys.executable}" -m slic_cli "$@"; }}
slic encode {" ".join(MODEL)} - < photo.png | slic decode - | slic recompress - {" ".join(MODEL)} -o -'''
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment(), timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == Path("second.png").read_bytes()
    assert len(done.stderr.splitlines()) == 3


def test_standard_input_once_only(photo: Path) -> None:
    result = slic("encode", "-", "-", *MODEL, "-o", "out/", stdin=photo.read_bytes())
    assert "-" in result.error(2)
    assert slic("info", "-", "-", stdin=b"").error(2)


def test_json_needs_standard_output_for_itself(photo: Path, coded: Path) -> None:
    for result in (
        slic("encode", photo, *MODEL, "-o", "-", "--json"),
        slic("encode", "-", *MODEL, "--json", stdin=photo.read_bytes()),
        slic("decode", coded, "-o", "-", "--json"),
        slic("attack", photo, *MODEL, "--op", "blur", "-o", "-", "--json"),
    ):
        assert "--json" in result.error(2)
        assert result.out == b""


def test_binary_output_is_not_thrown_at_a_terminal(photo: Path, coded: Path) -> None:
    for arguments in (("encode", photo, *MODEL, "-o", "-"), ("decode", coded, "-o", "-")):
        terminal, its_end = pty.openpty()
        with os.fdopen(terminal, "rb", buffering=0) as reader:
            result = process(*arguments, stdout=os.fdopen(its_end, "wb"))
            assert "terminal" in result.error(2)
            os.set_blocking(reader.fileno(), False)
            with pytest.raises(OSError):  # nothing was written, and nobody is left who could
                reader.read()


# --- metadata and kinds of pictures ------------------------------------------------------------------


@functools.cache  # it carries the time at which it was made
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def save_with_metadata(path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera maker"
    Image.fromarray(photograph(40, 56)).save(path, icc_profile=profile(), exif=exif, quality=95)
    return path


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_metadata_travel_all_the_way(name: str) -> None:
    save_with_metadata(Path(name))
    assert slic("encode", name, *MODEL, "-o", "x.slic").code == 0
    file = container.parse(Path("x.slic").read_bytes())
    assert file.icc == profile()
    assert b"Camera maker" in file.exif
    assert slic("decode", "x.slic").code == 0
    with Image.open("x.decoded.png") as image:
        assert image.info["icc_profile"] == profile()
        assert image.getexif()[0x010F] == "Camera maker"


def test_strip_leaves_metadata_out() -> None:
    save_with_metadata(Path("photo.jpg"))
    assert slic("encode", "photo.jpg", *MODEL, "-o", "full.slic").code == 0
    assert slic("encode", "photo.jpg", *MODEL, "-o", "bare.slic", "--strip").code == 0
    bare = container.parse(Path("bare.slic").read_bytes())
    assert (bare.icc, bare.exif) == (b"", b"")
    assert bare.strips == container.parse(Path("full.slic").read_bytes()).strips
    assert slic("decode", "full.slic", "-o", "bare.png", "--strip").code == 0
    with Image.open("bare.png") as image:
        assert "icc_profile" not in image.info
        assert not image.getexif()


def test_orientation_is_applied_once() -> None:
    save_with_metadata(Path("turned.jpg"), orientation=6)
    result = slic("encode", "turned.jpg", *MODEL)
    assert "orientation 6" in result.lines[0]
    file = container.parse(Path("turned.slic").read_bytes())
    assert (file.width, file.height) == (40, 56)
    assert slic("decode", "turned.slic").code == 0
    with Image.open("turned.decoded.png") as image:
        assert image.size == (40, 56)
        assert image.getexif().get(0x0112, 1) == 1


def test_transparency_needs_a_background() -> None:
    pixels = np.dstack([photograph(32, 32), np.full((32, 32), 128, np.uint8)])
    Image.fromarray(pixels).save("clear.png")
    assert "--background" in slic("encode", "clear.png", *MODEL).error(3)
    assert not Path("clear.slic").exists()
    white, black = (slic("encode", "clear.png", *MODEL, "--background", c, "-o", "-") for c in ("#ffffff", "000000"))
    assert white.code == black.code == 0
    assert "255,255,255" in white.err
    assert white.out != black.out


@pytest.mark.parametrize("colour", ["white", "#fff", "#12345g", "", "#1234567"])
def test_a_background_is_a_colour(photo: Path, colour: str) -> None:
    assert "--background" in slic("encode", photo, *MODEL, "--background", colour).error(2)


def test_sixteen_bits_are_refused() -> None:
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save("deep.png")
    assert "16" in slic("encode", "deep.png", *MODEL).error(3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_modes_are_accepted(mode: str) -> None:
    Image.fromarray(photograph(24, 40)).convert(mode).save("x.tif")
    assert slic("encode", "x.tif", *MODEL).code == 0
    assert slic("decode", "x.slic").code == 0
    assert pixels_of(Path("x.decoded.png")).shape == (24, 40, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 17), (33, 1), (16, 16), (65, 15)])
def test_sizes_come_back(height: int, width: int) -> None:
    save_photograph(Path("p.png"), height, width)
    record = slic("encode", "p.png", *MODEL, "--json").records[0]
    assert (record["height"], record["width"]) == (height, width)
    assert slic("decode", "p.slic", "-o", "d.png").code == 0
    assert slic("recompress", "d.png", *MODEL, "-o", "r.png").code == 0
    assert pixels_of(Path("d.png")).shape == pixels_of(Path("r.png")).shape == (height, width, 3)


# --- usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["encode"], "IN"),
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["encode", "photo.png", "--frobnicate"], "--frobnicate"),
        (["encode", "photo.png", "-o"], "-o"),
        (["attack", "photo.png"], "--op"),
        (["recompress", "photo.png", "--rounds", "0"], "--rounds"),
        (["recompress", "photo.png", "--rounds", "-1"], "--rounds"),
        (["recompress", "photo.png", "--rounds", "many"], "--rounds"),
        (["encode", "photo.png", "--device", "tpu", *MODEL], "tpu"),
        (["encode", "photo.png", "--precision", "fp8", *MODEL], "fp8"),
    ],
)
def test_usage_errors(photo: Path, arguments: list[str], told: str) -> None:
    assert told in slic(*arguments).error(2)
    assert names(Path()) == {photo.name}


def test_no_arguments_show_readable_help() -> None:
    result = slic()
    assert "Commands:" in (result.out.decode() + result.err).splitlines()


def test_a_wrong_option_is_said_once(photo: Path) -> None:
    save_photograph(Path("other.png"))
    assert slic("encode", photo, "other.png", *MODEL, "--device", "tpu").error(2)


def test_names_that_look_like_options(photo: Path) -> None:
    photo.rename("-p.png")
    assert slic("encode", *MODEL, "--", "-p.png").code == 0
    assert Path("-p.slic").is_file()
    Path("-").write_bytes(Path("-p.png").read_bytes())
    assert slic("encode", *MODEL, "./-").code == 0
    assert Path("-.slic").is_file()


# --- start-up, help and completion ---------------------------------------------------------------------


def modules_of(*arguments: str, **options: Any) -> set[str]:
    """The top-level modules that a whole run imports."""
    result = process(*arguments, python=["-X", "importtime"], **options)
    lines = [line.rsplit("|", 1)[-1].strip() for line in result.lines if line.startswith("import time:")]
    assert "typer" in lines
    return {name.split(".")[0] for name in lines}


@pytest.mark.parametrize("arguments", [["--help"], ["encode", "--help"], ["--version"], ["--show-completion", "bash"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not modules_of(*arguments) & {"torch", "numpy", "PIL", "constriction", "safetensors", "rich"}


def test_listing_and_refusing_import_no_torch(coded: Path) -> None:
    Path("bad.slic").write_bytes(coded.read_bytes()[:-1])
    for arguments in (
        ["info", coded.name],
        ["models"],
        ["edits"],
        ["train", "--list"],
        ["attack", "x", "--op", "no"],
        ["decode", "bad.slic"],
    ):
        assert "torch" not in modules_of(*arguments), arguments


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert process("--help").code == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.9  # 0.3 s on an idle machine


def test_help_names_everything() -> None:
    text = slic("--help").out.decode()
    for command in ("encode", "decode", "recompress", "attack", "edits", "models", "info"):
        assert f"\n  {command} " in text
        assert slic(command, "-h").code == 0
    assert "Exit codes:" in text
    assert "--background" in slic("encode", "--help").out.decode()


def test_version() -> None:
    assert slic("--version").out.decode() == f"slic {__version__}\n"


def completions(words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    changes = {"_SLIC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return process(changes=changes).out.decode().split()


def test_completion_knows_models_edits_and_commands() -> None:
    names = completions("slic encode --model ")
    assert names == sorted(names) and {DEFAULT_MODEL, TINY_NAME} <= set(names)
    assert completions("slic decode --model tiny") == [TINY_NAME]
    assert completions("slic attack x.png --op ") == ["all", *EDITS]
    assert completions("slic attack x.png --op bl") == ["blur"]
    assert completions("slic re") == ["recompress"]
    assert "--rounds" in completions("slic recompress --ro")


def test_completion_script_is_for_bash() -> None:
    script = process("--show-completion", "bash").out.decode()
    assert "_SLIC_COMPLETE=complete_bash" in script
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0
