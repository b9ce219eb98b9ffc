"""The .slic container: golden bytes, round trips, damage of every kind, and a second reader that agrees."""

from __future__ import annotations

import re
import struct
import time
import tracemalloc
import zlib
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slic_cli import container
from slic_cli.container import MAGIC, MAX_PIXELS, MAX_SECTIONS, SlicFile, is_slic, parse, serialise
from slic_cli.errors import BadSlicFile

TINY = SlicFile(
    width=5,
    height=70,
    strip_rows=64,
    model_name="demo",
    model_digest=bytes(range(32)),
    strips=(b"\x01\x02\x03\x04\x05", b"\x06\x07"),
    icc=b"RGB",
)
GOLDEN = bytes.fromhex(
    "89534c49430d0a1a 0100 0000 6d000000 05000000 46000000 40000000"
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "04 64656d6f 03000000"
    "69636320 03000000 b2da93b7  53545250 05000000 f4990b47  53545250 02000000 da20e789"
    "d1f00f09 524742 0102030405 0607"
)
DOCUMENT = Path(__file__).parent.parent / "docs" / "format.md"
U32_MAX = 2**32 - 1
quick = settings(max_examples=200, deadline=None)


# --- a second reader, from docs/format.md alone -------------------------------------------------------


class RefusedError(Exception):
    """The second reader's only error; its argument is the step of the document that failed."""


def crc32(data: bytes) -> int:
    """CRC-32 bit by bit, from the document's parameters."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def need(condition: bool, step: int) -> None:
    if not condition:
        raise RefusedError(step)


def second_reader(data: bytes) -> dict[str, Any]:
    """The fields of a .slic file, by the steps of the document's section "Reading"."""
    need(data[:8] == bytes([0x89, 0x53, 0x4C, 0x49, 0x43, 0x0D, 0x0A, 0x1A]), 1)
    need(len(data) >= 16 and struct.unpack_from("<H", data, 8)[0] == 1, 2)
    (end,) = struct.unpack_from("<I", data, 12)
    need(82 <= end <= len(data), 3)
    need(struct.unpack_from("<I", data, end - 4)[0] == crc32(data[: end - 4]), 4)
    need(data[10:12] == b"\0\0", 5)
    n = data[60]
    need(69 + n <= end and (end - 69 - n) % 12 == 0, 6)
    k = (end - 69 - n) // 12
    need(struct.unpack_from("<I", data, 61 + n)[0] == k <= 4096, 6)
    width, height, rows = struct.unpack_from("<3I", data, 16)
    need(1 <= width <= 65535 and 1 <= height <= 65535 and width * height <= 268435456, 7)
    need(rows in range(64, 65537, 64), 7)
    name = data[61 : 61 + n]
    need(1 <= n <= 64 and all(chr(c) in "abcdefghijklmnopqrstuvwxyz0123456789._-" for c in name), 7)
    table = [struct.unpack_from("<4sII", data, 65 + n + 12 * i) for i in range(k)]
    check_order([tag for tag, _, _ in table], (height + rows - 1) // rows)
    need(all(length for tag, length, _ in table if tag in (b"STRP", b"icc ", b"exif")), 8)
    need(end + sum(length for _, length, _ in table) == len(data), 9)
    found: dict[bytes, list[bytes]] = {}
    for tag, length, checksum in table:
        need(crc32(data[end : end + length]) == checksum, 10)
        found.setdefault(tag, []).append(data[end : end + length])
        end += length
    return {
        "width": width,
        "height": height,
        "strip_rows": rows,
        "model_name": name.decode(),
        "model_digest": data[28:60],
        "strips": tuple(found[b"STRP"]),
        "icc": found.get(b"icc ", [b""])[0],
        "exif": found.get(b"exif", [b""])[0],
    }


def check_order(tags: list[bytes], strips: int) -> None:
    """Step 8 of the document, for the tags alone."""
    need(all(tag in (b"STRP", b"icc ", b"exif") or 0x61 <= tag[0] <= 0x7A for tag in tags), 8)
    need(tags.count(b"STRP") == strips, 8)
    for tag in (b"icc ", b"exif"):
        need(tags.count(tag) <= 1, 8)
        need(tag not in tags or tags.index(tag) < tags.index(b"STRP"), 8)


# --- helpers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """A section of a draft; a length or a checksum of None is the right one."""

    tag: bytes
    body: bytes = b""
    length: int | None = None
    checksum: int | None = None

    def entry(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        checksum = zlib.crc32(self.body) if self.checksum is None else self.checksum
        return struct.pack("<4sII", self.tag, length, checksum)


STRIPS = (Section(b"STRP", TINY.strips[0]), Section(b"STRP", TINY.strips[1]))
ICC = Section(b"icc ", b"RGB")
EXIF = Section(b"exif", b"II*\0")


@dataclass(frozen=True)
class Draft:
    """A file whose every field can be wrong, with checksums made right; None stands for the right value."""

    magic: bytes = MAGIC
    version: int = 1
    reserved: int = 0
    header_length: int | None = None
    width: int = TINY.width
    height: int = TINY.height
    strip_rows: int = TINY.strip_rows
    name: bytes = b"demo"
    name_length: int | None = None
    sections: tuple[Section, ...] = (ICC, *STRIPS)
    count: int | None = None
    checksum_error: int = 0
    tail: bytes = b""

    def build(self) -> bytes:
        length = 69 + len(self.name) + 12 * len(self.sections)
        length = length if self.header_length is None else self.header_length
        name_length = len(self.name) if self.name_length is None else self.name_length
        count = len(self.sections) if self.count is None else self.count
        header = self.magic + struct.pack("<HHI", self.version, self.reserved, length)
        header += struct.pack("<III", self.width, self.height, self.strip_rows) + TINY.model_digest
        header += bytes([name_length]) + self.name + struct.pack("<I", count)
        header += b"".join(section.entry() for section in self.sections)
        checksum = struct.pack("<I", zlib.crc32(header) ^ self.checksum_error)
        return b"".join([header, checksum, *(section.body for section in self.sections), self.tail])


def draft(**changes: Any) -> bytes:
    """The golden file with some fields of its Draft changed."""
    return Draft(**changes).build()


def reseal(data: bytes) -> bytes:
    """`data` with a right header checksum where its own header length puts that."""
    (end,) = struct.unpack_from("<I", data, 12)
    if not 20 <= end <= len(data):
        return data
    return data[: end - 4] + struct.pack("<I", zlib.crc32(data[: end - 4])) + data[end:]


def refusal(data: bytes) -> str:
    """The message parse() refuses `data` with, after a check that it is one short printable line."""
    with pytest.raises(BadSlicFile) as caught:
        parse(data)
    message = str(caught.value)
    assert message.isprintable() and 10 < len(message) < 512
    return message


def outcome(data: bytes) -> dict[str, Any] | None:
    """The fields parse() finds, or None when it refuses; any other exception is a failure of the test."""
    try:
        return vars(parse(data))
    except BadSlicFile as error:
        assert str(error).isprintable()
        return None


def second_outcome(data: bytes) -> dict[str, Any] | None:
    try:
        return second_reader(data)
    except RefusedError:
        return None


# --- what is right ------------------------------------------------------------------------------------


def test_golden_bytes() -> None:
    assert serialise(TINY) == GOLDEN
    assert parse(GOLDEN) == TINY
    assert draft() == GOLDEN  # so that every test built on a Draft starts from an intact file


def test_document_example_is_the_golden_file() -> None:
    block = re.search(r"```hexdump\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert block is not None
    dump = b""
    for line in block[1].splitlines():
        offset, content = line.split("|")[0].split(maxsplit=1)
        assert int(offset, 16) == len(dump)
        dump += bytes.fromhex(content)
    assert dump == GOLDEN


def test_crc_is_the_documented_one() -> None:
    assert crc32(b"123456789") == zlib.crc32(b"123456789") == 0xCBF43926


def test_is_slic_looks_at_the_magic_alone() -> None:
    assert is_slic(GOLDEN) and is_slic(GOLDEN[:8]) and is_slic(draft(version=9))
    assert not is_slic(GOLDEN[:7]) and not is_slic(b"") and not is_slic(b"\x89PNG\r\n\x1a\n")


@st.composite
def files(draw: st.DrawFn) -> SlicFile:
    height = draw(st.integers(1, 700))
    strip_rows = 64 * draw(st.integers(1, 12) | st.integers(1, 1024))
    count = (height + strip_rows - 1) // strip_rows
    strips = draw(st.lists(st.binary(min_size=1, max_size=20), min_size=count, max_size=count))
    return SlicFile(
        width=draw(st.integers(1, 65535)),
        height=height,
        strip_rows=strip_rows,
        model_name=draw(st.text("abcxyz0129._-", min_size=1, max_size=64)),
        model_digest=draw(st.binary(min_size=32, max_size=32)),
        strips=tuple(strips),
        icc=draw(st.binary(max_size=20)),
        exif=draw(st.binary(max_size=20)),
    )


@quick
@given(files())
def test_round_trip_in_both_readers(file: SlicFile) -> None:
    data = serialise(file)
    assert parse(data) == file
    assert second_reader(data) == vars(file)
    assert serialise(parse(data)) == data


@pytest.mark.parametrize("side", ["width", "height"])
def test_largest_pictures(side: str) -> None:
    width, height = (65535, 4096) if side == "width" else (4096, 65535)
    file = replace(TINY, width=width, height=height, strips=(b"s",) * ((height + 63) // 64))
    assert parse(serialise(file)) == file


def test_one_strip_for_any_picture() -> None:
    file = replace(TINY, width=1, height=65535, strip_rows=65536, strips=(b"all",))
    assert parse(serialise(file)) == file


def test_exif_may_stand_before_icc() -> None:
    assert parse(draft(sections=(EXIF, ICC, *STRIPS))) == replace(TINY, exif=EXIF.body)


@pytest.mark.parametrize("tag", [b"note", b"a\0\xff\n", b"zTRP", b"iCC ", b"icc\0"])
def test_unknown_ancillary_sections_are_skipped_wherever_they_stand(tag: bytes) -> None:
    extra, empty = Section(tag, b"anything"), Section(tag)
    assert parse(draft(sections=(empty, ICC, extra, STRIPS[0], extra, STRIPS[1], empty))) == TINY


# --- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(GOLDEN)))
def test_every_truncation_is_refused(length: int) -> None:
    message = refusal(GOLDEN[:length])
    if length == 0:
        assert "empty" in message
    else:
        expected = 82 if length < 16 else 109 if length < 109 else 119
        assert message == f"truncated .slic file: expected at least {expected} bytes, got {length}"


def flips(data: bytes) -> list[bytes]:
    """All files that differ from `data` in a single bit."""
    whole = int.from_bytes(data, "little")
    return [(whole ^ (1 << bit)).to_bytes(len(data), "little") for bit in range(8 * len(data))]


def test_every_flipped_bit_is_refused() -> None:
    for damaged in flips(GOLDEN):
        refusal(damaged)


def test_readers_agree_on_every_flipped_bit_under_a_right_header_checksum() -> None:
    outcomes = []
    for damaged in map(reseal, flips(GOLDEN)):
        outcomes.append(outcome(damaged))
        assert outcomes[-1] == second_outcome(damaged)
    # Forged fields can be accepted (the format is not signed): all of the digest, much of the name and sides.
    assert 256 < sum(fields is not None for fields in outcomes) < 512


@pytest.mark.parametrize("tail", [b"\0", b"\n", GOLDEN])
def test_trailing_bytes_are_refused(tail: bytes) -> None:
    message = refusal(GOLDEN + tail)
    assert "after the end" in message and f"expected 119 in all, got {119 + len(tail)}" in message


@pytest.mark.parametrize("data", [b"\0" * 200, b"\x89PNG\r\n\x1a\n" + GOLDEN[8:], b"hello, world\n", b"x"])
def test_other_files_are_not_slic_files(data: bytes) -> None:
    assert refusal(data).startswith("not a .slic file: expected first bytes 89 53 4c 49 43 0d 0a 1a, got ")


@pytest.mark.parametrize(
    "data",
    [
        GOLDEN.replace(b"\r\n", b"\n"),
        GOLDEN.replace(b"\n", b"\r\n"),
        GOLDEN.decode("latin-1").encode("utf-8"),
    ],
)
def test_text_mode_transfer_is_named(data: bytes) -> None:
    assert "transferred as text" in refusal(data)


# Each with the words that name it, in the order in which a reader meets them.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("not a .slic file", {"magic": b"GIF89a!!"}),
    ("unknown .slic version: expected 1 (the only one known), got 2", {"version": 2}),
    ("truncated .slic file: expected at least 999 bytes, got 1", {"header_length": 999}),
    ("checksum of header", {"checksum_error": 1}),
    ("reserved header field in use: expected 0, got 256", {"reserved": 256}),
    ("wrong header length", {"count": 4}),
    ("impossible picture width: expected 1 to 65535 pixels, got 0", {"width": 0}),
    ("wrong number of strips: expected 3, got 2", {"height": 129}),
    ("bytes after the end", {"tail": b"!"}),
    ("checksum of strip 2 of 2", {"sections": (ICC, STRIPS[0], replace(STRIPS[1], checksum=7))}),
]


@pytest.mark.parametrize(("words", "changes"), FAULTS)
def test_each_fault_is_named(words: str, changes: dict[str, Any]) -> None:
    assert words in refusal(draft(**changes))


@pytest.mark.parametrize(("first", "second"), list(combinations(FAULTS, 2)))
def test_the_earlier_of_two_faults_is_named(
    first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    assert first[0] in refusal(draft(**(second[1] | first[1])))


@pytest.mark.parametrize("length", [0, 15, 81])
def test_header_length_too_short(length: int) -> None:
    assert refusal(draft(header_length=length)) == (
        f"impossible header length: expected 82 bytes or more, got {length}"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 65536},
        {"width": U32_MAX},
        {"height": 0},
        {"height": 65536},
        {"height": U32_MAX},
        {"width": 65535, "height": 4097, "strip_rows": 8192},
        {"strip_rows": 0},
        {"strip_rows": 1},
        {"strip_rows": 65},
        {"strip_rows": 96},
        {"strip_rows": 65600},
        {"strip_rows": 2**32 - 64},
    ],
)
def test_impossible_pictures(changes: dict[str, int]) -> None:
    assert re.search(r"impossible|too large", refusal(draft(**changes)))


BAD_NAMES = [
    "",
    "Demo",
    "a b",
    "a/b",
    "a\nb",
    "demo\n",
    "d\u00e9mo",
    "\u0434\u0435\u043c\u043e",
    "\0",
    "a" * 65,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    assert "impossible model name" in refusal(draft(name=name.encode()))
    with pytest.raises(ValueError, match="impossible model name"):
        serialise(replace(TINY, model_name=name))


@pytest.mark.parametrize("name", [b"\xff", b"\xc3", b"a" * 255])
def test_names_that_no_text_makes(name: bytes) -> None:
    assert "impossible model name" in refusal(draft(name=name))


@pytest.mark.parametrize(
    ("words", "sections"),
    [
        ("unknown critical section: expected 'STRP', got 'Note'", (Section(b"Note"), *STRIPS)),
        ("unknown critical section: expected 'STRP', got 'ICC '", (Section(b"ICC ", b"p"), *STRIPS)),
        ("unknown critical section: expected 'STRP', got '\\n\\xe9\\x00x'", (Section(b"\n\xe9\0x"), *STRIPS)),
        ("unknown critical section: expected 'STRP', got '\\xe9abc'", (Section(b"\xe9abc"), *STRIPS)),
        ("misplaced section 'icc ': expected one, before the strips, got a second", (ICC, ICC, *STRIPS)),
        (
            "misplaced section 'exif': expected one, before the strips, got a second",
            (EXIF, ICC, EXIF, *STRIPS),
        ),
        ("misplaced section 'icc ': expected one, before the strips, got one after a strip", (*STRIPS, ICC)),
        ("misplaced section 'exif'", (STRIPS[0], EXIF, STRIPS[1])),
        ("empty section 'icc '", (Section(b"icc "), *STRIPS)),
        ("empty section 'exif'", (Section(b"exif"), *STRIPS)),
        ("empty section 'STRP'", (STRIPS[0], Section(b"STRP"))),
        ("wrong number of strips: expected 2, got 1", (STRIPS[0],)),
        ("wrong number of strips: expected 2, got 3", (*STRIPS, STRIPS[0])),
        ("wrong number of strips: expected 2, got 0", (ICC,)),
        ("checksum of section 'icc '", (replace(ICC, checksum=0), *STRIPS)),
        ("checksum of section 'note'", (Section(b"note", b"n", checksum=0), *STRIPS)),
        ("checksum of section 'note'", (*STRIPS, Section(b"note", checksum=1))),
        ("checksum of strip 1 of 2", (ICC, replace(STRIPS[0], checksum=0), STRIPS[1])),
    ],
)
def test_bad_sections(words: str, sections: tuple[Section, ...]) -> None:
    data = draft(sections=sections)
    assert words in refusal(data)
    assert second_outcome(data) is None


def test_damage_in_a_section_is_located() -> None:
    assert "checksum of section 'icc '" in refusal(GOLDEN[:109] + b"rgb" + GOLDEN[112:])
    assert "checksum of strip 1 of 2" in refusal(GOLDEN[:112] + b"\0" + GOLDEN[113:])
    assert "checksum of strip 2 of 2" in refusal(GOLDEN[:-1] + b"\0")


# --- declared sizes that are lies ---------------------------------------------------------------------


def huge_sections(tag: bytes, times: int) -> tuple[Section, ...]:
    return (*(Section(tag, b"x", length=U32_MAX),) * times, *STRIPS)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("expected at least 4294967295 bytes, got 119", {"header_length": U32_MAX}),
        ("wrong header length: expected 51539607613 bytes", {"count": U32_MAX}),
        ("wrong header length", {"name_length": 255}),
        ("wrong header length", {"name_length": 255, "count": U32_MAX}),
        ("got 4294967295", {"width": U32_MAX, "height": U32_MAX}),
        ("expected 1024, got 2", {"width": 1, "height": 65535}),
        ("expected at least 4294967", {"sections": huge_sections(b"icc ", 1)}),
        ("expected at least 4294967", {"sections": (STRIPS[0], replace(STRIPS[1], length=U32_MAX))}),
        ("expected at least 429496", {"sections": huge_sections(b"note", 100)}),
    ],
)
def test_enormous_declared_sizes_cost_nothing(words: str, changes: dict[str, Any]) -> None:
    data = draft(**changes)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        message = refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert words in message
    assert peak < 2**16
    assert time.perf_counter() - started < 1


def test_section_count_limit() -> None:
    notes = (Section(b"note"),) * (MAX_SECTIONS - len(STRIPS))
    assert parse(draft(sections=notes + STRIPS)) == replace(TINY, icc=b"")
    message = refusal(draft(sections=(*notes, *STRIPS, Section(b"note"))))
    assert message == "too many sections: expected at most 4096, got 4097"


# --- fuzzing ------------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=200), st.sampled_from([b"", MAGIC, GOLDEN[:12], GOLDEN[:61], GOLDEN[:69]]))
def test_arbitrary_bytes_are_refused(tail: bytes, start: bytes) -> None:
    refusal(start + tail)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 118), st.integers(0, 4), st.binary(max_size=5)), min_size=1, max_size=4),
    st.booleans(),
)
def test_readers_agree_on_mutated_files(edits: list[tuple[int, int, bytes]], sealed: bool) -> None:
    data = GOLDEN
    for position, removed, inserted in edits:
        data = data[:position] + inserted + data[position + removed :]
    if sealed and len(data) >= 16:
        data = reseal(data)
    assert outcome(data) == second_outcome(data)


def section_lists(*tags: bytes, most: int) -> st.SearchStrategy[tuple[Section, ...]]:
    return st.lists(st.builds(Section, st.sampled_from(tags), st.binary(min_size=1, max_size=3)), max_size=most).map(
        tuple
    )


def mostly(usual: int | bytes, *others: int | bytes) -> st.SearchStrategy[int | bytes]:
    """So that a made-up file has one or two faults, and often none."""
    return st.sampled_from([usual] * 6 * len(others) + list(others))


drafts = st.builds(
    Draft,
    width=mostly(TINY.width, 1, 4096, 65535, 65536, 0),
    height=mostly(TINY.height, 64, 65, 128, 129, 65535, 65536),
    strip_rows=mostly(64, 128, 32768, 65536, 65600, 0, 32),
    name=mostly(b"demo", b".", b"a" * 64, b"a" * 65, b"", b"A"),
    sections=st.builds(
        lambda *parts: sum(parts, start=()),
        section_lists(b"icc ", b"exif", b"note", most=3),
        st.sampled_from([STRIPS, STRIPS, STRIPS, STRIPS[:1], STRIPS + STRIPS[:1], (*STRIPS, Section(b"note"))]),
        section_lists(b"STRP", b"icc ", b"exif", b"note", b"Note", b" abc", most=1),
    ),
    tail=mostly(b"", b"t"),
)


@settings(max_examples=400, deadline=None)
@given(drafts)
def test_readers_agree_on_made_up_files(made_up: Draft) -> None:
    data = made_up.build()
    assert outcome(data) == second_outcome(data)


# --- serialise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("width", {"width": 0}),
        ("width", {"width": -1}),
        ("width", {"width": 65536}),
        ("height", {"height": 0}),
        ("height", {"height": 65536}),
        ("too large", {"width": 65535, "height": MAX_PIXELS // 65535 + 1}),
        ("strip height", {"strip_rows": 0}),
        ("strip height", {"strip_rows": -64}),
        ("strip height", {"strip_rows": 100}),
        ("strip height", {"strip_rows": 65600}),
        ("digest", {"model_digest": bytes(31)}),
        ("digest", {"model_digest": bytes(33)}),
        ("expected 2, got 1", {"strips": (b"one",)}),
        ("expected 2, got 3", {"strips": (b"one", b"two", b"three")}),
        ("expected 2, got 0", {"strips": ()}),
        ("empty strip", {"strips": (b"one", b"")}),
    ],
)
def test_serialise_refuses_impossible_fields(words: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=words):
        serialise(replace(TINY, **changes))


@pytest.mark.parametrize("changes", [{"icc": b"12345"}, {"exif": b"12345"}, {"strips": (b"1", b"12345")}])
def test_serialise_refuses_sections_too_long(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.setattr(container, "_MAX_LENGTH", 4)  # the real limit takes 4 GiB to reach
    short = replace(TINY, icc=b"1234", strips=(b"1234", b"1234"))
    assert parse(serialise(short)) == short
    with pytest.raises(ValueError, match="expected at most 4 bytes, got 5"):
        serialise(replace(short, **changes))
