"""The .slic container, version 1: bytes to fields and back. docs/format.md is its specification.

The reader trusts nothing: each declared size is compared with what is really there before anything is
read, looped over or allocated by it, and every byte of a file is accounted for.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace

from slic_cli.errors import BadSlicFile

MAGIC = b"\x89SLIC\r\n\x1a"
VERSION = 1
MAX_SIDE = 65535  # pixels
MAX_PIXELS = 2**28
MAX_SECTIONS = 4096  # the tallest picture has 1024 strips; the rest is room for extensions
STRIP_UNIT = 64  # rows: every strip but the last is a whole multiple of it

_MAX_STRIP_ROWS = 65536  # the first multiple of STRIP_UNIT that holds any picture in one strip
_MAX_LENGTH = 2**32 - 1  # bytes in one section
_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_STRIP, _ICC, _EXIF = "STRP", "icc ", "exif"

_PREFIX = struct.Struct("<8sHHI")  # magic, version, reserved, header length
_PICTURE = struct.Struct("<III32sB")  # width, height, strip rows, model digest, name length
_U32 = struct.Struct("<I")  # section count; header checksum
_ENTRY = struct.Struct("<4sII")  # tag, length, checksum of one section
_NAME_AT = _PREFIX.size + _PICTURE.size
_BARE_HEADER = _NAME_AT + 2 * _U32.size  # without name and table
_SHORTEST_HEADER = _BARE_HEADER + 1 + _ENTRY.size

_Table = list[tuple[str, int, int]]  # tag, length in bytes, CRC-32 of each section


@dataclass(frozen=True)
class SlicFile:
    """All that a .slic file says. Pictures have at most MAX_PIXELS pixels."""

    width: int  # pixels, 1 to MAX_SIDE
    height: int  # pixels, 1 to MAX_SIDE
    strip_rows: int  # picture rows per strip, a multiple of 64 up to 65536; the last strip may be shorter
    model_name: str  # 1 to 64 of a-z 0-9 . _ -, for people: the digest decides, and this is no path
    model_digest: bytes  # 32 bytes, the weights digest (docs/model-format.md)
    strips: tuple[bytes, ...]  # coded payloads, top to bottom, none empty, each independently decodable
    icc: bytes = b""  # colour profile, empty when there is none
    exif: bytes = b""  # Exif data, empty when there is none


def is_slic(data: bytes) -> bool:
    """Whether `data`, at least the first 8 bytes of a file, begins like a .slic file of any version."""
    return data.startswith(MAGIC)


def serialise(file: SlicFile) -> bytes:
    """The bytes of `file` as a version 1 .slic file.

    Raises ValueError when a field is out of its range or the strips do not cover the picture: that is
    a fault of the calling program, since no user input should get this far unchecked.
    """
    if fault := _field_fault(file) or _content_fault(file):
        raise ValueError(fault)
    sections = [(tag, body) for tag, body in ((_ICC, file.icc), (_EXIF, file.exif)) if body]
    sections += [(_STRIP, strip) for strip in file.strips]
    name = file.model_name.encode("ascii")
    header_length = _BARE_HEADER + len(name) + len(sections) * _ENTRY.size
    header = _PREFIX.pack(MAGIC, VERSION, 0, header_length)
    header += _PICTURE.pack(file.width, file.height, file.strip_rows, file.model_digest, len(name))
    header += name + _U32.pack(len(sections))
    header += b"".join(_ENTRY.pack(tag.encode("ascii"), len(body), zlib.crc32(body)) for tag, body in sections)
    return b"".join([header, _U32.pack(zlib.crc32(header)), *(body for _, body in sections)])


def parse(data: bytes) -> SlicFile:
    """The fields of the .slic file whose whole content is `data`; unknown ancillary sections are dropped.

    Raises BadSlicFile, with one line that says what was expected and what came, for anything but an
    intact version 1 file. Takes time and memory in proportion to len(data), whatever `data` declares.
    """
    header = _intact_header(data)
    file, table = _read_fields(header)
    _check_table(table, _strip_count(file))
    bodies = _read_sections(data, len(header), table)
    icc, exif = (b"".join(bodies[tag]) for tag in (_ICC, _EXIF))  # the table has at most one of each
    return replace(file, strips=tuple(bodies[_STRIP]), icc=icc, exif=exif)


def _strip_count(file: SlicFile) -> int:
    return -(-file.height // file.strip_rows)


def _field_fault(file: SlicFile) -> str:
    """What is wrong with the header's own fields, in one line; empty when they are sound."""
    for label, side in (("width", file.width), ("height", file.height)):
        if not 1 <= side <= MAX_SIDE:
            return f"impossible picture {label}: expected 1 to {MAX_SIDE} pixels, got {side}"
    if file.width * file.height > MAX_PIXELS:
        return f"picture too large: expected at most {MAX_PIXELS} pixels, got {file.width} x {file.height}"
    if file.strip_rows % STRIP_UNIT or not STRIP_UNIT <= file.strip_rows <= _MAX_STRIP_ROWS:
        expected = f"a multiple of {STRIP_UNIT} up to {_MAX_STRIP_ROWS}"
        return f"impossible strip height: expected {expected} rows, got {file.strip_rows}"
    if not _NAME.fullmatch(file.model_name):
        return f"impossible model name: expected 1 to 64 of a-z 0-9 . _ -, got {file.model_name[:80]!a}"
    if len(file.model_digest) != 32:
        return f"impossible model digest: expected 32 bytes, got {len(file.model_digest)}"
    return ""


def _content_fault(file: SlicFile) -> str:
    """What is wrong with the sections of a file whose fields are sound; empty when nothing is."""
    if len(file.strips) != _strip_count(file):
        return f"wrong number of strips: expected {_strip_count(file)}, got {len(file.strips)}"
    if not all(file.strips):
        return "empty strip: expected at least 1 byte in each, got 0"
    longest = max(map(len, (file.icc, file.exif, *file.strips)))
    if longest > _MAX_LENGTH:
        return f"section too long: expected at most {_MAX_LENGTH} bytes, got {longest}"
    return ""


def _intact_header(data: bytes) -> bytes:
    """The whole header, once magic, version, header length and header checksum are right."""
    if not is_slic(data):
        raise BadSlicFile(_magic_fault(data))
    if len(data) < _PREFIX.size:
        raise BadSlicFile(_truncated(_SHORTEST_HEADER, data))
    _, version, _, length = _PREFIX.unpack_from(data)
    if version != VERSION:  # before all else: another version may differ in anything that follows
        raise BadSlicFile(f"unknown .slic version: expected {VERSION} (the only one known), got {version}")
    if length < _SHORTEST_HEADER:
        raise BadSlicFile(f"impossible header length: expected {_SHORTEST_HEADER} bytes or more, got {length}")
    if length > len(data):
        raise BadSlicFile(_truncated(length, data))
    header = data[:length]
    _check_sum("header", header[: -_U32.size], *_U32.unpack(header[-_U32.size :]))
    return header


def _magic_fault(data: bytes) -> str:
    """What to say of a file that does not begin with the magic."""
    if not data:
        return "not a .slic file: expected a compressed picture, got an empty file"
    if MAGIC.startswith(data):
        return _truncated(_SHORTEST_HEADER, data)
    start = data[: len(MAGIC)]
    what = "damaged .slic file (was it transferred as text?)" if b"SLIC" in start else "not a .slic file"
    return f"{what}: expected first bytes {MAGIC.hex(' ')}, got {start.hex(' ')}"


def _truncated(expected: int, data: bytes) -> str:
    return f"truncated .slic file: expected at least {expected} bytes, got {len(data)}"


def _check_sum(what: str, body: bytes, stored: int) -> None:
    if (computed := zlib.crc32(body)) != stored:
        raise BadSlicFile(f"damaged .slic file: checksum of {what}: expected {stored:08x}, got {computed:08x}")


def _read_fields(header: bytes) -> tuple[SlicFile, _Table]:
    """The checked fields, still without any section, and the table of sections, still unchecked."""
    _, _, reserved, _ = _PREFIX.unpack_from(header)
    if reserved:
        raise BadSlicFile(f"reserved header field in use: expected 0, got {reserved}")
    width, height, strip_rows, digest, name_length = _PICTURE.unpack_from(header, _PREFIX.size)
    count_at = _NAME_AT + name_length
    # A name that overruns the header makes this slice short, never an error: the next check refuses it.
    count = int.from_bytes(header[count_at : count_at + _U32.size], "little")
    expected = _BARE_HEADER + name_length + count * _ENTRY.size
    if expected != len(header):
        contents = f"a name of {name_length} bytes and {count} sections"
        raise BadSlicFile(f"wrong header length: expected {expected} bytes for {contents}, got {len(header)}")
    if count > MAX_SECTIONS:
        raise BadSlicFile(f"too many sections: expected at most {MAX_SECTIONS}, got {count}")
    name = header[_NAME_AT:count_at].decode("latin-1")  # never fails; what is not ASCII is refused below
    file = SlicFile(width, height, strip_rows, name, digest, strips=())
    if fault := _field_fault(file):
        raise BadSlicFile(fault)
    entries = _ENTRY.iter_unpack(header[count_at + _U32.size : -_U32.size])
    return file, [(tag.decode("latin-1"), length, checksum) for tag, length, checksum in entries]


def _check_table(table: _Table, strips: int) -> None:
    """Refuse unknown critical tags, known ones misplaced, repeated or empty, and any other strip count."""
    seen: defaultdict[str, int] = defaultdict(int)
    for tag, length, _ in table:
        if tag not in (_STRIP, _ICC, _EXIF):
            if not "a" <= tag[0] <= "z":  # so that a first byte that is no letter counts as critical
                raise BadSlicFile(f"unknown critical section: expected {_STRIP!a}, got {tag!a}")
        elif length == 0:
            raise BadSlicFile(f"empty section {tag!a}: expected at least 1 byte, got 0")
        elif tag != _STRIP and (seen[tag] or seen[_STRIP]):
            got = "a second" if seen[tag] else "one after a strip"
            raise BadSlicFile(f"misplaced section {tag!a}: expected one, before the strips, got {got}")
        seen[tag] += 1
    if seen[_STRIP] != strips:
        raise BadSlicFile(f"wrong number of strips: expected {strips}, got {seen[_STRIP]}")


def _read_sections(data: bytes, start: int, table: _Table) -> defaultdict[str, list[bytes]]:
    """The intact sections by tag, in file order; they must fill `data` from `start` to its end."""
    size = start + sum(length for _, length, _ in table)
    if len(data) < size:
        raise BadSlicFile(_truncated(size, data))
    if len(data) > size:
        raise BadSlicFile(f"bytes after the end of the .slic file: expected {size} in all, got {len(data)}")
    strips = sum(tag == _STRIP for tag, _, _ in table)
    bodies: defaultdict[str, list[bytes]] = defaultdict(list)
    for tag, length, checksum in table:
        bodies[tag].append(data[start : start + length])
        start += length
        what = f"strip {len(bodies[tag])} of {strips}" if tag == _STRIP else f"section {tag!a}"
        _check_sum(what, bodies[tag][-1], checksum)
    return bodies
