"""Damaged and hostile files given to the commands: one line, exit code 3, nothing written, no model loaded."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from test_cli import MODEL, names, process, save_photograph, slic

from slic_cli import codec, container, operations
from slic_cli.errors import BadSlicFile

HEADER_LENGTH_AT, WIDTH_AT, DIGEST_AT = 12, 16, 28


@pytest.fixture(autouse=True)
def _workplace(models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(models_directory))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def intact(models_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small .slic file."""
    photo = save_photograph(tmp_path_factory.mktemp("intact") / "p.png", 12, 12)
    with patch.dict(os.environ, SLIC_MODELS=str(models_directory)):
        result = slic("encode", photo, *MODEL, "-o", "-", "--strip")
    assert result.code == 0
    return result.out


@pytest.fixture
def no_model() -> Iterator[None]:
    """Loading a model is an internal fault, so that it shows in the exit code."""
    with patch.object(codec, "Codec", side_effect=AssertionError("the model was loaded")):
        yield


def refused(data: bytes) -> str:
    """The one line with which `slic decode` refuses a file, leaving nothing behind."""
    Path("x.slic").write_bytes(data)
    line = slic("decode", "x.slic").error(3)
    assert "x.slic" in line
    assert names(Path()) == {"x.slic"}
    return line


def with_checksum(data: bytes) -> bytes:
    """The file with the header checksum that its header now needs."""
    (length,) = struct.unpack_from("<I", data, HEADER_LENGTH_AT)
    return data[: length - 4] + struct.pack("<I", zlib.crc32(data[: length - 4])) + data[length:]


def with_strip(intact: bytes, payload: bytes) -> bytes:
    return container.serialise(replace(container.parse(intact), strips=(payload,)))


# --- every damage --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_model")
def test_every_truncation(intact: bytes) -> None:
    for length in range(len(intact)):
        refused(intact[:length])


@pytest.mark.usefixtures("no_model")
def test_every_flipped_bit(intact: bytes) -> None:
    """All of them through the function, a seeded sample through the whole command."""
    sample = set(np.random.default_rng(0).choice(8 * len(intact), 100, replace=False).tolist())
    workshop = operations.Workshop()
    for bit in range(8 * len(intact)):
        data = bytearray(intact)
        data[bit // 8] ^= 1 << bit % 8
        if bit in sample:
            refused(bytes(data))
        Path("x.slic").write_bytes(data)
        with pytest.raises(BadSlicFile):
            operations.decode("x.slic", "x.png", None, workshop, False, False)
    assert names(Path()) == {"x.slic"}


@pytest.mark.usefixtures("no_model")
def test_what_is_no_slic_file(intact: bytes) -> None:
    save_photograph(Path("p.png"))
    picture = Path("p.png").read_bytes()
    Path("p.png").unlink()
    for data in (b"", b"\n", b"garbage" * 100, picture, intact + b"\0", intact + intact, intact[1:], bytes(1000)):
        refused(data)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["info", "decode", "recompress", "attack"])
def test_every_command_refuses_damage(intact: bytes, command: str) -> None:
    Path("x.slic").write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    options = {"attack": ["--op", "blur", "-o", "x.png"], "info": []}.get(command, ["-o", "x.png"])
    slic(command, "x.slic", *options).error(3)
    assert names(Path()) == {"x.slic"}


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("size", [(0, 12), (65536, 1), (65535, 65535), (2**32 - 1, 2**32 - 1), (12, 0)])
def test_impossible_sizes_under_a_right_checksum(intact: bytes, size: tuple[int, int]) -> None:
    data = bytearray(intact)
    struct.pack_into("<II", data, WIDTH_AT, *size)
    refused(with_checksum(bytes(data)))


@pytest.mark.parametrize("strip_rows", [65536, 1024])
def test_a_huge_picture_without_the_data_for_it(intact: bytes, strip_rows: int) -> None:
    """What is declared may be allowed and still not be there: refused without the time and memory it would take."""
    file = container.parse(intact)
    strips = file.strips * -(-16384 // strip_rows)
    start = time.perf_counter()
    line = refused(container.serialise(replace(file, width=16384, height=16384, strip_rows=strip_rows, strips=strips)))
    assert "strip" in line
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("byte", [0, 17, 31])
def test_another_digest_is_a_missing_model(intact: bytes, byte: int) -> None:
    data = bytearray(intact)
    data[DIGEST_AT + byte] ^= 1
    Path("x.slic").write_bytes(with_checksum(bytes(data)))
    assert "weights" in slic("decode", "x.slic").error(4)
    assert slic("decode", "x.slic", *MODEL).error(4)
    assert names(Path()) == {"x.slic"}


def test_damage_under_right_checksums_is_never_an_internal_fault(intact: bytes) -> None:
    """Range-coded bytes may happen to be another picture; anything else is refused."""
    random, payload = np.random.default_rng(1), container.parse(intact).strips[0]
    changed = [bytearray(payload) for _ in range(40)]
    for one in changed:
        for place in random.integers(0, len(payload), random.integers(1, 4)):
            one[place] = random.integers(256)
    workshop, refusals = operations.Workshop(), 0
    for one in [*changed, bytearray(4)]:  # the last is a picture
        Path("x.slic").write_bytes(with_strip(intact, bytes(one)))
        try:
            assert operations.decode("x.slic", "x.png", None, workshop, False, True)["width"] == 12
        except BadSlicFile:
            refusals += 1
    assert 30 < refusals <= 40


@pytest.mark.parametrize("payload", [b"\0", b"\xff" * 4, b"\xff" * 64, b"\0" * 4096, b"odd"])
def test_payloads_of_another_length(intact: bytes, payload: bytes) -> None:
    refused(with_strip(intact, payload))


# --- inputs that are not there, or no pictures ---------------------------------------------------------


@pytest.mark.usefixtures("no_model")
def test_inputs_that_cannot_be_read() -> None:
    Path("folder").mkdir()
    for command in (["encode", *MODEL], ["decode"], ["info"], ["recompress", *MODEL]):
        assert "missing.x" in slic(*command, "missing.x").error(3)
        assert "directory" in slic(*command, "folder").error(3)
        assert "name" in slic(*command, "nul\0l.x").error(3)
    assert names(Path()) == {"folder"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_input_without_permission() -> None:
    save_photograph(Path("p.png")).chmod(0)
    assert slic("encode", "p.png", *MODEL).error(3)


@pytest.mark.usefixtures("no_model")
def test_an_output_name_with_nul() -> None:
    save_photograph(Path("p.png"))
    assert slic("encode", "p.png", *MODEL, "-o", "nul\0l").code in (1, 2, 5)
    assert names(Path()) == {"p.png"}


@pytest.mark.usefixtures("no_model")
def test_what_is_no_picture(intact: bytes) -> None:
    save_photograph(Path("good.png"))
    good = Path("good.png").read_bytes()
    Path("good.png").unlink()
    for data in (b"", b"text", good[:-1], good[: len(good) // 2], good[:60] + b"x" + good[61:], intact):
        Path("p.png").write_bytes(data)
        assert "p.png" in slic("encode", "p.png", *MODEL).error(3)
        assert names(Path()) == {"p.png"}


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("data", [b"", b"\x89SLIC\r\n\x1a", b"\x89PNG\r\n\x1a\n"])
def test_standard_input_is_judged_like_a_file(data: bytes) -> None:
    assert "-:" in slic("decode", "-", stdin=data).error(3)
    assert "-:" in slic("encode", "-", *MODEL, stdin=data).error(3)


def test_a_damaged_file_costs_no_torch(intact: bytes) -> None:
    Path("x.slic").write_bytes(intact[:-1])
    result = process("decode", "x.slic", python=["-X", "importtime"])
    assert result.code == 3
    assert not [line for line in result.lines if line.endswith("| torch")]
    assert not [line for line in result.lines if not line.startswith(("import time:", "slic: error:"))]
