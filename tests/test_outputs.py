"""Where outputs go, and that an old file is never lost: plans, refusals, clashes, full disks."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from unittest.mock import patch

import pytest
from test_cli import MODEL, names, process, save_photograph, slic

from slic_cli.errors import OutputError, OutputExists, UsageError
from slic_cli.files import write_atomically
from slic_cli.outputs import plan_outputs, stem


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_photograph(tmp_path / "photo.png", 24, 32)


# --- plans ---------------------------------------------------------------------------------------------


def test_stems() -> None:
    found = [stem(name) for name in ("-", "a/b.png", "b.tar.gz", ".hidden", "plain", "./-")]
    assert found == ["stdin", "b", "b.tar", ".hidden", "plain", "-"]


@pytest.mark.parametrize(
    ("inputs", "output", "planned"),
    [
        (["a.png", "sub/b.jpg"], None, ["a.slic", "sub/b.slic"]),
        (["-"], None, ["-"]),
        (["-"], "sub", ["sub/stdin.slic"]),
        (["-"], "x.slic", ["x.slic"]),
        (["a.png"], "-", ["-"]),
        (["a.png", "sub/b.jpg"], "sub/", ["sub/a.slic", "sub/b.slic"]),
        (["a.png", "b.png"], "new/deep/", ["new/deep/a.slic", "new/deep/b.slic"]),
        (["a.png"], "plain", ["plain"]),
        (["sub.dir/a"], None, ["sub.dir/a.slic"]),
    ],
)
def test_plans(inputs: list[str], output: str | None, planned: list[str]) -> None:
    for directory in ("sub", "sub.dir"):
        Path(directory).mkdir()
    with patch("sys.stdout.isatty", return_value=False):
        assert plan_outputs(inputs, output, ".slic", force=False) == planned


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["a.png", "b.png"], "one.slic"),
        (["a.png", "b.png"], "-"),
        (["a.png", "a.jpg"], None),
        (["a.png", "./a.png"], None),
        (["x/a.png", "y/a.png"], "out/"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_no_two_inputs_share_an_output(inputs: list[str], output: str | None, force: bool) -> None:
    with pytest.raises(UsageError):
        plan_outputs(inputs, output, ".slic", force)


def test_no_two_inputs_share_an_output_under_two_names() -> None:
    Path("sub").mkdir()
    with pytest.raises(UsageError):
        plan_outputs(["a.png", "sub/../a.jpg"], None, ".slic", force=True)


def test_no_output_is_another_input(photo: Path) -> None:
    assert slic("recompress", photo, *MODEL).code == 0
    before = Path("photo.recompressed.png").read_bytes()
    result = slic("recompress", photo, "photo.recompressed.png", *MODEL, "--force")
    assert result.code == 2
    assert Path("photo.recompressed.png").read_bytes() == before


def test_the_terminal_is_spared() -> None:
    with patch("sys.stdout.isatty", return_value=True), pytest.raises(UsageError, match="terminal"):
        plan_outputs(["-"], None, ".slic", force=True)


# --- refusals ------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_asked_for(photo: Path) -> None:
    Path("photo.slic").write_bytes(b"precious")
    assert "--force" in slic("encode", photo, *MODEL).error(2)
    assert Path("photo.slic").read_bytes() == b"precious"
    assert slic("encode", photo, *MODEL, "--force").code == 0
    assert Path("photo.slic").read_bytes()[1:5] == b"SLIC"
    assert names(Path()) == {"photo.png", "photo.slic"}


@pytest.mark.parametrize("command", ["encode", "decode", "recompress", "attack"])
def test_every_command_refuses_before_any_work(command: str) -> None:
    output = "out.slic" if command == "encode" else "out.png"
    Path(output).write_bytes(b"precious")
    extra = {"attack": ["--op", "blur"]}.get(command, [])
    assert "exists" in slic(command, "missing", *extra, "-o", output).error(2)


def test_an_input_is_never_its_own_output(photo: Path) -> None:
    before = photo.read_bytes()
    os.link(photo, "hard.png")
    Path("soft.png").symlink_to(photo)
    for output in ("photo.png", "./photo.png", "hard.png", "soft.png"):
        assert "not an input" in slic("recompress", photo, *MODEL, "-o", output, "--force").error(2)
    photo.rename("photo.slic")
    assert "not an input" in slic("encode", "photo.slic", *MODEL, "--force").error(2)
    assert Path("photo.slic").read_bytes() == before


def test_directories_that_are_missing_or_in_the_way(photo: Path) -> None:
    assert "missing" in slic("encode", photo, *MODEL, "-o", "missing/x.slic").error(5)
    Path("file").write_bytes(b"")
    assert "file" in slic("encode", photo, *MODEL, "-o", "file/").error(5)
    assert "file" in slic("encode", photo, *MODEL, "-o", "file/x.slic").error(5)
    Path("photo.slic").mkdir()
    assert "directory" in slic("encode", photo, *MODEL, "--force").error(5)
    assert names(Path()) == {"photo.png", "file", "photo.slic"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(photo: Path) -> None:
    Path("closed").mkdir(mode=0o500)
    assert slic("encode", photo, *MODEL, "-o", "closed/x.slic").error(5)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_inputs_without_a_name(name: str) -> None:
    assert slic("encode", name, *MODEL).code in (2, 3)


def test_an_output_with_too_long_a_name(photo: Path) -> None:
    assert slic("encode", photo, *MODEL, "-o", "x" * 300).error(5)


def test_a_directory_with_too_long_a_name(photo: Path) -> None:
    assert slic("encode", photo, *MODEL, "-o", "x" * 300 + "/").error(5)


def test_an_input_with_too_long_a_name() -> None:
    assert slic("encode", "x" * 300, *MODEL).code in (3, 5)


def test_the_longest_name_there_is() -> None:
    write_atomically(Path("\N{GRINNING FACE}" * 62 + ".slic"), b"data")


def test_an_empty_name_is_no_output(photo: Path) -> None:
    assert slic("encode", photo, *MODEL, "-o", "").error(2)


# --- writing -------------------------------------------------------------------------------------------


def test_a_new_file_has_the_usual_permissions_and_an_old_one_its_own() -> None:
    before = os.umask(0o027)
    try:
        write_atomically(Path("new"), b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("new").stat().st_mode) == 0o640
    Path("new").chmod(0o604)
    write_atomically(Path("new"), b"2", force=True)
    assert stat.S_IMODE(Path("new").stat().st_mode) == 0o604


def test_replacing_is_atomic() -> None:
    """Whoever has the old file open goes on reading the old bytes."""
    Path("x").write_bytes(b"old")
    with Path("x").open("rb") as reader:
        write_atomically(Path("x"), b"new", force=True)
        assert reader.read() == b"old"
    assert Path("x").read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_kept() -> None:
    appearing = patch.object(os, "fsync", side_effect=lambda _: Path("x").write_bytes(b"theirs"))
    with appearing, pytest.raises(OutputExists):
        write_atomically(Path("x"), b"ours")
    assert Path("x").read_bytes() == b"theirs"
    assert names(Path()) == {"x"}


def test_a_file_system_without_hard_links() -> None:
    with patch.object(os, "link", side_effect=OSError(1, "not permitted")):
        write_atomically(Path("x"), b"data")
    assert Path("x").read_bytes() == b"data"
    assert names(Path()) == {"x"}


@pytest.mark.parametrize("function", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failures_while_writing_leave_the_old_file(function: str, error: BaseException) -> None:
    Path("x").write_bytes(b"old")
    with patch.object(os, function, side_effect=error), pytest.raises((OutputError, KeyboardInterrupt)):
        write_atomically(Path("x"), b"new", force=True)
    assert Path("x").read_bytes() == b"old"
    assert names(Path()) == {"x"}


def test_force_replaces_no_special_files() -> None:
    os.mkfifo("pipe")
    with pytest.raises((OutputError, UsageError)):
        write_atomically(Path("pipe"), b"data", force=True)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_force_writes_through_a_link() -> None:
    Path("target").write_bytes(b"old")
    Path("link").symlink_to("target")
    write_atomically(Path("link"), b"new", force=True)
    assert Path("target").read_bytes() == b"new"


def test_a_loop_of_links_is_no_output(photo: Path) -> None:
    Path("loop").symlink_to("loop")
    assert slic("encode", photo, *MODEL, "-o", "loop", "--force").error(5)


@pytest.mark.xfail(strict=True, reason="-o NEW/ is created before any input is read")
def test_a_missing_input_leaves_no_directory() -> None:
    assert slic("encode", "missing.png", *MODEL, "-o", "new/").error(3)
    assert names(Path()) == set()


@pytest.mark.parametrize(("command", "output"), [("decode", "x.jpg"), ("encode", "x.png"), ("recompress", "x.slic")])
def test_an_ending_does_not_lie(photo: Path, command: str, output: str) -> None:
    assert slic("encode", photo, *MODEL, "-o", "in.slic").code == 0
    source = photo if command == "encode" else Path("in.slic")
    assert slic(command, source, *MODEL, "-o", output).error(2)


# --- a full disk ---------------------------------------------------------------------------------------


def _little_space() -> None:
    """Files of this process may have 100 bytes: writing more fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_full_disk_leaves_the_old_file(photo: Path, command: str) -> None:
    assert slic("encode", photo, *MODEL, "-q").code == 0
    source = photo if command == "encode" else Path("photo.slic")
    options = MODEL if command == "encode" else ()
    Path("out").write_bytes(b"old")
    before = names(Path())
    result = process(command, source, *options, "-o", "out", "--force", preexec_fn=_little_space)
    assert "out" in result.error(5)
    assert Path("out").read_bytes() == b"old"
    assert names(Path()) == before


@pytest.mark.parametrize(
    "unbuffered",
    [
        "",
        "1",
    ],
)
def test_a_full_disk_under_standard_output(photo: Path, unbuffered: str) -> None:
    changes = {"PYTHONUNBUFFERED": unbuffered}
    with Path("out").open("wb") as stdout:
        result = process("encode", photo, *MODEL, "-o", "-", stdout=stdout, preexec_fn=_little_space, changes=changes)
    assert "standard output" in result.error(5)
