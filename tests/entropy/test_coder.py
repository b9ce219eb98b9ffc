"""The range coder: literal bytes, a second coder in plain integers that agrees, and damage of every kind."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference_decoder import RAW, ReferenceDecoder, ReferenceEncoder, Table, decode_symbols

from slic_cli.entropy.coder import Census, SymbolReader, SymbolWriter, TableCoder
from slic_cli.entropy.tables import TOTAL, FrequencyTables
from slic_cli.errors import BadSlicFile

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "format.md"
quick = settings(max_examples=150, deadline=None)


def cut(borders: list[int]) -> list[int]:
    """Frequencies that sum to the total, from the borders between them."""
    ends = [0, *sorted(borders), TOTAL]
    return [end - start for start, end in pairwise(ends)]


borders = st.one_of(st.integers(1, TOTAL - 1), st.integers(1, 40), st.integers(TOTAL - 40, TOTAL - 1))
frequencies = st.sets(borders, min_size=1, max_size=30).map(lambda chosen: cut(list(chosen)))
reference_tables = st.builds(Table, frequencies, st.integers(-60, 40))
symbols_near = st.one_of(st.integers(-70, 80), st.integers(-32768, 32767), st.sampled_from([-32768, 32767]))
families = st.lists(reference_tables, min_size=1, max_size=5)


def coder(tables: list[Table]) -> TableCoder:
    """A TableCoder of the second implementation's tables."""
    flat = [f for table in tables for f in table.frequencies]
    lengths = [len(table.frequencies) for table in tables]
    family = FrequencyTables(
        np.array(flat, np.int32), np.array(lengths, np.int32), np.array([table.low for table in tables], np.int32)
    )
    assert family.problem() is None
    return TableCoder(family)


def encode(tables: list[Table], symbols: list[int], indices: list[int]) -> bytes:
    writer = SymbolWriter()
    coder(tables).encode(writer, np.array(symbols, np.int16), np.array(indices, np.uint8))
    return writer.finish()


def decode(tables: list[Table], payload: bytes, indices: list[int]) -> list[int]:
    reader = SymbolReader(payload)
    symbols = coder(tables).decode(reader, np.array(indices, np.uint8))
    reader.finish()
    decoded: list[int] = symbols.tolist()
    return decoded


def reference_encode(tables: list[Table], symbols: list[int], indices: list[int]) -> bytes:
    encoder, escaped = ReferenceEncoder(), []
    for index, table in enumerate(tables):
        escape = len(table.frequencies) - 1
        for symbol in (s for s, i in zip(symbols, indices, strict=True) if i == index):
            inside = 0 <= symbol - table.low < escape
            encoder.encode(symbol - table.low if inside else escape, table.frequencies)
            escaped += [] if inside else [symbol]
    for symbol in escaped:
        encoder.encode(symbol + 32768, RAW)
    return encoder.finish()


def reference_decode(tables: list[Table], payload: bytes, indices: list[int]) -> list[int]:
    decoder = ReferenceDecoder(payload)
    symbols = decode_symbols(decoder, tables, indices)
    decoder.finish()
    return symbols


# --- literal bytes ------------------------------------------------------------------------------------

PLAIN = Table([1 << 23, 1 << 22, 1 << 21, 1 << 21], 0)
CARRY = Table([8384512, 8192, 8384512], 0)
MIXED = [Table([TOTAL // 2, TOTAL // 4, TOTAL // 4], -1), Table([TOTAL - 1, 1], 5), Table([1, 1, TOTAL - 2], 0)]
GOLDEN = [
    ([PLAIN], [0, 1, 2], [0, 0, 0], "00000058"),
    (MIXED, [-1, 5, 0, 7, -32768, 1, 32767, 0], [0, 1, 0, 2, 0, 2, 1, 0], "fbffff5dfd0740fd01fffd010000f20d"),
    (MIXED, [0] * 6, [2, 2, 0, 2, 0, 2], "ffffff9f000000ff0000000000000000"),
]


@pytest.mark.parametrize(("tables", "symbols", "indices", "payload"), GOLDEN)
def test_golden_bytes(tables: list[Table], symbols: list[int], indices: list[int], payload: str) -> None:
    assert encode(tables, symbols, indices).hex() == payload
    assert decode(tables, bytes.fromhex(payload), indices) == symbols


@pytest.mark.parametrize(
    ("table", "letters", "payload"),
    [(PLAIN, [0, 1, 2, 3], "00 00 80 5B"), (CARRY, [1, 1, 1, 2, 2], "00 00 00 80 7F 17 88 1E")],
)
def test_examples_of_the_document(table: Table, letters: list[int], payload: str) -> None:
    assert f"`{payload}`" in DOCUMENT.read_text(encoding="utf-8")
    writer = SymbolWriter()
    writer.write(np.array(letters, np.int32), coder([table]).model(0))
    assert writer.finish() == bytes.fromhex(payload)


# --- agreement with the second coder ------------------------------------------------------------------


@quick
@given(families, st.data())
def test_round_trip_and_second_coder(tables: list[Table], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(tables) - 1), min_size=1, max_size=60))
    symbols = data.draw(st.lists(symbols_near, min_size=len(indices), max_size=len(indices)))
    payload = encode(tables, symbols, indices)
    assert payload == reference_encode(tables, symbols, indices)
    assert decode(tables, payload, indices) == symbols
    assert reference_decode(tables, payload, indices) == symbols


@quick
@given(frequencies, st.data())
def test_frequencies_are_used_as_stored(stored: list[int], data: st.DataObject) -> None:
    """The first and the last quantile of each letter decode to it: a frequency off by one moves one of them."""
    letter = data.draw(st.integers(0, len(stored) - 1))
    end = list(accumulate(stored))[letter]
    model = coder([Table(stored, 0)]).model(0)
    scale = (2**64 - 1) >> 24
    for quantile, expected in ((end - 1, letter), (end - stored[letter], letter), (end, letter + 1)):
        if quantile < TOTAL:
            point = scale * quantile
            payload = (point >> 32).to_bytes(4, "little") + (point % 2**32).to_bytes(4, "little")
            assert SymbolReader(payload).read(1, model).tolist() == [expected]


def test_every_16_bit_value_survives_an_escape() -> None:
    table = [Table([1, TOTAL - 1], 0)]
    symbols = list(range(-32768, 32768))
    assert decode(table, encode(table, symbols, [0] * len(symbols)), [0] * len(symbols)) == symbols


def test_carry_runs_through_many_words() -> None:
    """Letters around the middle of the range leave open for long whether it is 0.0111... or 0.1000..."""
    middle = Table([(1 << 23) - 1, 2, (1 << 23) - 2, 1], 0)
    longest = 0
    for letters in ([1] * 3 + [0] * 300, [1] * 2 + [2] * 300, [1] * 20 + [0], [1] * 20 + [2]):
        payload = encode([middle], letters, [0] * len(letters))
        assert payload == reference_encode([middle], letters, [0] * len(letters))
        assert decode([middle], payload, [0] * len(letters)) == letters
        longest = max(longest, len(payload))
    assert longest > 40


def test_shapes_and_unused_tables() -> None:
    tables = coder([PLAIN] * 7)
    indices = np.array([[[6, 0], [6, 2]]], np.uint8)
    symbols = np.array([[[0, 1], [2, -9]]], np.int16)
    writer = SymbolWriter()
    tables.encode(writer, symbols, indices)
    decoded = tables.decode(SymbolReader(writer.finish()), indices)
    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, symbols)
    assert len(tables) == 7


def test_no_symbols_take_no_place() -> None:
    nothing: npt.NDArray[np.int16] = np.empty((0, 3), np.int16)
    tables, writer = coder([PLAIN]), SymbolWriter()
    tables.encode(writer, nothing, nothing.astype(np.uint8))
    tables.encode(writer, np.array([2], np.int16), np.zeros(1, np.uint8))
    tables.encode(writer, nothing, nothing.astype(np.uint8))
    reader = SymbolReader(writer.finish())
    assert tables.decode(reader, nothing.astype(np.uint8)).shape == (0, 3)
    assert tables.decode(reader, np.zeros(1, np.uint8)).tolist() == [2]
    reader.finish()


def test_cost_is_the_entropy() -> None:
    random = np.random.default_rng(0)
    letters = random.choice(4, 100_000, p=[0.5, 0.25, 0.125, 0.125])
    payload = encode([PLAIN, PLAIN], [int(s) for s in letters], [0, 1] * 50_000)
    cost_bits = 8 * len(payload)
    escapes = int((letters == 3).sum())
    exact_bits = np.array([1, 2, 3, 3])[letters].sum() + 16 * escapes
    assert 0 <= cost_bits - exact_bits <= 64


def test_a_census_counts_what_its_coder_writes_and_changes_nothing() -> None:
    counted, other, indices = coder([PLAIN, PLAIN]), coder([PLAIN, PLAIN]), np.array([[1, 0, 1], [1, 1, 0]], np.uint8)
    symbols = np.array([[2, -1, 2], [30000, -30000, -1]], np.int16)
    census, writer = Census(counted), SymbolWriter()
    for each in (census, writer):
        counted.encode(each, symbols, indices)
        other.encode(each, symbols, indices)
    assert census.finish() == writer.finish()
    reach = Census.REACH
    found = {(int(table), int(place) - reach): int(census.counts[table, place]) for table, place in
             zip(*np.nonzero(census.counts), strict=True)}  # fmt: skip
    assert found == {(0, -1): 2, (1, 2): 2, (1, reach): 1, (1, -reach): 1}


# --- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0" * 3, b"\0" * 5, b"\xff" * 7])
def test_payload_of_broken_words_is_refused(payload: bytes) -> None:
    with pytest.raises(BadSlicFile, match="32-bit words"):
        SymbolReader(payload)


def test_impossible_data_is_refused() -> None:
    """All ones lie beyond the last quantile: 2^64 - 1 is no multiple of 2^24."""
    with pytest.raises(BadSlicFile, match="impossible"):
        decode([PLAIN], b"\xff" * 12, [0] * 10)


@pytest.mark.parametrize("more", [b"\0\0\0\0\0\0\0\0", b"\x01\0\0\0\x01\0\0\0", b"\xff" * 400])
def test_data_after_the_last_symbol_is_refused(more: bytes) -> None:
    payload = encode([PLAIN], [0, 1, 2, 1], [0] * 4)
    with pytest.raises(BadSlicFile, match="ends with its last symbol"):
        decode([PLAIN], payload + more, [0] * 4)


def test_too_few_symbols_read_are_noticed() -> None:
    payload = encode([PLAIN], [1, 2] * 100, [0] * 200)
    with pytest.raises(BadSlicFile, match="ends with its last symbol"):
        decode([PLAIN], payload, [0] * 100)


@settings(max_examples=400, deadline=None)
@given(st.binary(min_size=0, max_size=48), families, st.integers(1, 40), st.integers(0, 2**32 - 1))
@example(b"\xff" * 8, [PLAIN], 1, 0)
@example(b"\xff" * 48, [PLAIN], 40, 0)
def test_any_payload_decodes_or_is_refused_as_the_document_says(
    payload: bytes, tables: list[Table], count: int, seed: int
) -> None:
    """Both decoders accept the same payloads, with the same symbols, and refuse the others in an orderly way.

    constriction reports impossible data with an AssertionError, and wrong arguments with a PanicException that is no
    Exception: either would end this test.
    """
    indices = np.random.default_rng(seed).integers(0, len(tables), count).tolist()
    try:
        expected: list[int] | None = reference_decode(tables, payload, indices)
    except ValueError:
        expected = None
    try:
        decoded: list[int] | None = decode(tables, payload, indices)
    except BadSlicFile:
        decoded = None
    assert decoded == expected


@quick
@given(families, st.data())
def test_damaged_payloads_decode_or_are_refused(tables: list[Table], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(tables) - 1), min_size=1, max_size=60))
    symbols = data.draw(st.lists(symbols_near, min_size=len(indices), max_size=len(indices)))
    payload = bytearray(encode(tables, symbols, indices))
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload) // 4)) * 4]
        assume(payload)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(0, 255))
    try:
        decoded = decode(tables, bytes(payload), indices)
    except BadSlicFile:
        return
    assert len(decoded) == len(symbols)
