"""Latents of models with a trellis: what is written is read, by a second decoder as well, and damage is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from reference_decoder import ReferenceDecoder, decode_latents, decode_strip
from small_trellis import LEVELS, OWN_CHANNEL, OWN_TABLE, SCALES, Tensors, number, y_tensors

from slic_cli.entropy.coder import Census, SymbolReader, SymbolWriter
from slic_cli.entropy.hyperprior import HyperpriorCoder
from slic_cli.entropy.latent_coder import OWN, TRADEOFF
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT, TrellisLatentCoder, lanes_of
from slic_cli.errors import BadModelFile, BadSlicFile
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec
from slic_cli.trellis import make_transitions

Numbers = npt.NDArray[np.int64]

GOLDEN = Path(__file__).parent.parent / "golden"
N, M = 8, 12


def strip(
    rows: int, columns: int, levels: tuple[int, ...] = (0, 1, 2, 3), seed: int = 0
) -> tuple[npt.NDArray[np.float64], torch.Tensor]:
    """Scales, fixed-point, and latents that have them: (M, rows, columns)."""
    random = np.random.default_rng(seed)
    scales = np.array(SCALES, np.float64)[random.choice(levels, (M, rows, columns))]
    return scales, torch.from_numpy(random.normal(0, (scales + 400) / 4096)).float()


def write(coder: TrellisLatentCoder, y: torch.Tensor, indices: npt.NDArray[np.uint8]) -> tuple[bytes, Any]:
    writer = SymbolWriter()
    y_hat = coder.write(writer, y, indices)
    return writer.finish(), y_hat


def read(coder: TrellisLatentCoder, payload: bytes, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    reader = SymbolReader(payload)
    y_hat = coder.read(reader, indices)
    reader.finish()
    return y_hat


# --- round trips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 32, 256])
def test_lanes_leave_paths_of_some_length(steps: int) -> None:
    counts = (0, 1, steps, 2 * steps - 1, 2 * steps, 3 * steps - 1, 3 * steps, 1023 * steps, 1024 * steps, 10**7)
    assert [lanes_of(count, steps) for count in counts] == [1, 1, 1, 1, 2, 2, 3, 1023, 1024, 1024]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("levels", [(0, 1, 2, 3), (0, 3), (0,), (1,), (3,)])
@pytest.mark.parametrize(("rows", "columns", "unit"), [(1, 1, 43), (5, 3, 64), (8, 16, 43), (13, 11, 43), (13, 11, 1)])
def test_what_is_written_is_read(rows: int, columns: int, unit: int, levels: tuple[int, ...], own: bool) -> None:
    """One lane and up to six; counts that do and do not fill their last step; none at all, and nothing else."""
    tensors = y_tensors(own, unit)
    scales, y = strip(rows, columns, levels)
    check_round_trip(tensors, scales, y)


@pytest.mark.parametrize("steps", [1, 2, 32, 1 << 16])
def test_paths_of_any_length(steps: int) -> None:
    """From lanes of one latent each, and more of them than there may be, to a single lane."""
    scales, y = strip(13, 11, (1, 2, 3))
    check_round_trip(y_tensors(steps=steps), scales, y)


def check_round_trip(tensors: Tensors, scales: npt.NDArray[np.float64], y: torch.Tensor) -> None:
    """What is written is what is read, by the second decoder as well: whole 64ths."""
    coder = TrellisLatentCoder(tensors)
    indices = coder.indices(scales, 0)
    payload, y_hat = write(coder, y, indices)
    decoded = read(coder, payload, indices)
    assert decoded.dtype == y_hat.dtype == np.int32 and decoded.shape == y.shape
    np.testing.assert_array_equal(decoded, y_hat)
    decoder = ReferenceDecoder(payload)
    assert decode_latents(decoder, tensors, indices.ravel().tolist()) == y_hat.ravel().tolist()
    decoder.finish()


@pytest.mark.parametrize("unit", [32, 43, 64])
def test_what_becomes_of_latents(unit: int) -> None:
    """Channels with a table of their own are rounded, latents with small scales are even, the others near."""
    coder = TrellisLatentCoder(y_tensors(unit=unit))
    scales, y = strip(12, 16)
    indices = coder.indices(scales, 0)
    assert (indices[OWN_CHANNEL] == OWN_TABLE).all() and (np.delete(indices, OWN_CHANNEL, 0) < LEVELS).all()
    _, y_hat = write(coder, y, indices)
    np.testing.assert_array_equal(y_hat[OWN_CHANNEL], 64 * y[OWN_CHANNEL].round().numpy())
    assert (y_hat[indices == 0] % (2 * unit) == 0).all()
    wide = indices == LEVELS - 1
    assert {0, unit} == set(np.unique(y_hat[wide] % (2 * unit)))
    assert np.square(64 * y.numpy() - y_hat)[wide].mean() < 0.6 * unit**2


@pytest.mark.parametrize("unit", [43, 64])
@pytest.mark.parametrize("paid", [1.0, 4.0])
def test_even_latents_are_the_best_there_are(paid: float, unit: int) -> None:
    """Bits against squared errors in steps of latents, of the nearest even number and the next one towards 0."""
    coder = TrellisLatentCoder(y_tensors(unit=unit) | {TRADEOFF: np.array([paid], np.float32)})
    y = torch.linspace(-7, 7, 9 * 131).view(9, 131).expand(M, 9, 131)
    indices = coder.indices(np.zeros(y.shape), 0)
    _, y_hat = write(coder, y, indices)
    latents, costs = y[0].double().numpy(), coder.tables.costs(16)[0]

    def price(symbols: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        error = latents - symbols * 2 * unit / 64
        loss: npt.NDArray[np.float64] = costs[abs(symbols).astype(int)] + paid * np.square(error)
        return loss

    nearest = np.rint(latents * 64 / (2 * unit))
    best = np.minimum(price(nearest), price(nearest - np.sign(nearest)))
    np.testing.assert_allclose(price(y_hat[0] / (2 * unit)), best, atol=1e-4)
    assert (y_hat[0] != nearest * 2 * unit).any()


def test_a_squared_step_is_one_of_latents_and_not_of_units() -> None:
    """Half the unit for half the latents makes the same symbols where errors that are half as large weigh as much."""
    scales, y = strip(13, 11)
    payloads = []
    for unit, paid in ((64, 3.0), (32, 12.0), (32, 3.0)):
        coder = TrellisLatentCoder(y_tensors(False, unit) | {TRADEOFF: np.array([paid], np.float32)})
        payloads.append(write(coder, y * unit / 64, coder.indices(scales, 0))[0])
    assert payloads[0] == payloads[1] != payloads[2]


def test_a_channel_of_its_own_has_no_say_in_paths() -> None:
    """Whatever scales are predicted for it."""
    coder = TrellisLatentCoder(y_tensors())
    scales, y = strip(9, 9)
    _, before = write(coder, y, coder.indices(scales, 0))
    scales[OWN_CHANNEL], y[OWN_CHANNEL] = SCALES[3] - scales[OWN_CHANNEL], 7 - y[OWN_CHANNEL]
    _, after = write(coder, y, coder.indices(scales, 0))
    np.testing.assert_array_equal(np.delete(after, OWN_CHANNEL, 0), np.delete(before, OWN_CHANNEL, 0))


@pytest.mark.parametrize("paid", [0.1, 1e4])
def test_escapes_inside_paths(paid: float) -> None:
    coder = TrellisLatentCoder(y_tensors() | {TRADEOFF: np.array([paid], np.float32)})
    scales, y = strip(12, 10)
    y[::2, ::3, ::2] *= 9000
    indices = coder.indices(scales, 0)
    payload, y_hat = write(coder, y, indices)
    assert (abs(y_hat) > 64 * 5000).sum() > 30
    np.testing.assert_array_equal(read(coder, payload, indices), y_hat)


def test_latents_beyond_16_bits_are_clipped() -> None:
    coder = TrellisLatentCoder(y_tensors())
    scales, y = strip(4, 4)
    y.sign_().mul_(1e6)
    indices = coder.indices(scales, 0)
    payload, y_hat = write(coder, y, indices)
    np.testing.assert_array_equal(np.sign(y_hat), y.sign().numpy())
    assert (abs(y_hat) >= 31990 * 43).all()
    np.testing.assert_array_equal(read(coder, payload, indices), y_hat)


def test_what_was_read_is_written_again() -> None:
    """An encoder that pays for nothing but exactness finds the very path of latents that lie on one."""
    coder = TrellisLatentCoder(y_tensors() | {TRADEOFF: np.array([1e6], np.float32)})
    scales, y = strip(16, 9)
    indices = coder.indices(scales, 0)
    payload, y_hat = write(coder, y, indices)
    again, same = write(coder, torch.from_numpy(y_hat).float() / 64, indices)
    np.testing.assert_array_equal(same, y_hat)
    assert again == payload


def test_a_census_counts_every_symbol_with_its_table() -> None:
    coder = TrellisLatentCoder(y_tensors())
    scales, y = strip(13, 11)
    indices, census = coder.indices(scales, 0), Census(coder.coder)
    coder.write(census, y, indices)
    by_table = census.counts.sum(1)
    assert by_table.sum() == y.numel()
    assert by_table[OWN_TABLE] == 13 * 11 and by_table[0] == (indices == 0).sum()
    for level, pair in ((1, 4), (2, 5), (3, 6)):
        assert by_table[level] + by_table[pair] == (indices == level).sum()
        assert min(by_table[level], by_table[pair]) > 0
    middle = census.counts.shape[1] // 2
    assert census.counts[OWN_TABLE, middle + 1] == (y[OWN_CHANNEL].round() == 1).sum()


# --- literal bytes --------------------------------------------------------------------------------------


def arithmetic(shape: tuple[int, ...], limit: int) -> Numbers:
    """Numbers from arithmetic alone, up to `limit` in size."""
    values = np.arange(1, int(np.prod(shape)) + 1, dtype=np.int64) * 2654435761 % 4294967291 % (2 * limit + 1) - limit
    return values.reshape(shape)


def on_paths(symbols: Numbers, indices: npt.NDArray[np.uint8], tensors: Tensors) -> Numbers:
    """The latents, in 64ths, that symbols of any class stand for, as docs/format.md has it."""
    flat, tables = symbols.ravel(), indices.ravel()
    unit, steps = int(tensors[UNIT][0]), int(tensors[STEPS][0])
    latents = np.where(tables < LEVELS, 2 * unit, 64) * flat
    dependent = [place for table in range(1, LEVELS) for place in np.flatnonzero(tables == table)]
    lanes = max(1, min(1024, len(dependent) // steps))
    states = [0] * lanes
    for i, place in enumerate(dependent):
        state = states[i % lanes]
        latents[place] -= np.sign(flat[place]) * (state % 2) * unit
        states[i % lanes] = int(tensors[TRANSITIONS][state, flat[place] % 2])
    return latents.reshape(symbols.shape)


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """A tiny model with a trellis whose encoder finds latents that lie on a path."""
    whole = load_tensors(read_spec(GOLDEN / "golden-model.safetensors"))
    return dict(whole) | y_tensors() | {TRADEOFF: np.array([1e6], np.float32)}


def test_golden_payload(tensors: Tensors) -> None:
    """Two lanes, one without a latent in the last step, and escapes in all classes: the format must not drift."""
    coder, rows, columns = HyperpriorCoder(tensors), 9, 8
    z = arithmetic((N, 3, 2), 5)
    indices = coder.table_indices(z.astype(np.int16), rows, columns)
    assert [int((indices == table).sum()) for table in (*range(LEVELS), OWN_TABLE)] == [85, 122, 536, 49, 72]
    symbols = arithmetic((M, rows, columns), 6)
    symbols[3, 2, :3], symbols[OWN_CHANNEL, 1, 1] = (300, -16000, 15999), -700
    y = on_paths(symbols, indices, tensors)
    medians = torch.from_numpy(coder.hyper_latents.medians)[:, None, None]
    payload, y_hat = coder.encode_latents(torch.from_numpy(y / 64).float(), torch.from_numpy(z) + medians)
    assert y_hat.dtype == np.float32
    np.testing.assert_array_equal(y_hat * 64, y)
    assert payload[:16].hex() == "633809839b72250fbb67381a968ec418"
    assert hashlib.sha256(payload).hexdigest() == "2a09753156b26bea3711e82b1a1599f01bdb0fe8cad7ae6292b63878c28900ed"
    decoded = coder.decode(payload, rows, columns)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, y_hat)
    assert decode_strip(tensors, payload, rows, columns) == (z.ravel().tolist(), y.ravel().tolist())


# --- damage ---------------------------------------------------------------------------------------------


def own_of(*numbers: int) -> npt.NDArray[np.int32]:
    return np.array([*numbers, *[-1] * (M - len(numbers))], np.int32)


@pytest.mark.parametrize(
    ("name", "damaged", "said"),
    [
        (PAIRED, np.array([-1, 4, 5, 8], np.int32), "expected a second table for scale levels, or -1"),
        (PAIRED, np.array([-1, 4, 5, 3], np.int32), "expected a second table for scale levels, or -1"),
        (PAIRED, np.array([-1, 4, 5], np.int32), "expected a second table for scale levels, or -1"),
        (PAIRED, np.array([4, 4, 5, 6, 6], np.int32), "a table for each"),
        (PAIRED, np.array([-1, 4, 5, 6], np.int64), "expected a list of int32 in tables.y.paired, got int64"),
        (PAIRED, np.array([[-1, 4, 5, 6]], np.int32), "expected a list of int32 in tables.y.paired"),
        (PAIRED, np.empty(0, np.int32), "expected a second table for scale levels, or -1"),
        (TRANSITIONS, np.zeros((8, 2), np.int32), "expected a trellis"),
        (TRANSITIONS, make_transitions(8)[:7], "expected a trellis"),
        (TRANSITIONS, make_transitions(8).astype(np.uint8), "expected a trellis"),
        (OWN, own_of(7, 8), "expected for each channel a table beyond"),
        (OWN, own_of(7, 3), "expected for each channel a table beyond"),
        (OWN, own_of(7)[:-1], "expected for each channel a table beyond"),
        (OWN, np.append(own_of(7), np.int32(7)), "expected for each channel a table beyond"),
        (OWN, own_of(7).astype(np.int64), "expected for each channel a table beyond"),
        (OWN, np.int32(7), "expected for each channel a table beyond"),
        (OWN, own_of(), "a table for each"),
        ("tables.y.thresholds", np.array([3000, 9000], np.int32), "a second table for scale levels"),
        *[(UNIT, number(value), "expected one int32 from 1 to 64 in trellis.unit") for value in (0, 65, -43)],
        *[(STEPS, number(value), "expected one int32 from 1 to 65536 in trellis.steps") for value in (0, -1, 65537)],
        *[(name, np.array([8, 8], np.int32), f"expected one int32 from 1 to .* in {name}") for name in (UNIT, STEPS)],
        *[(name, np.empty(0, np.int32), f"expected one int32 from 1 to .* in {name}") for name in (UNIT, STEPS)],
        *[(name, np.int32(8), f"expected one int32 from 1 to .* in {name}") for name in (UNIT, STEPS)],
        *[(name, np.array([8], np.int64), f"expected one int32 from 1 to .* in {name}") for name in (UNIT, STEPS)],
        *[(name, np.array([8.0], np.float32), f"expected one int32 from 1 to .* in {name}") for name in (UNIT, STEPS)],
    ],
)
def test_damaged_tensors_are_refused(name: str, damaged: npt.NDArray[Any], said: str, tensors: Tensors) -> None:
    with pytest.raises(BadModelFile, match=said):
        HyperpriorCoder(tensors | {name: np.asarray(damaged)})


@pytest.mark.parametrize("missing", [PAIRED, STEPS, UNIT])
def test_what_a_trellis_needs_is_named_where_it_is_missing(missing: str, tensors: Tensors) -> None:
    with pytest.raises(BadModelFile, match=f"tensor {missing}, got a model without"):
        HyperpriorCoder({name: tensor for name, tensor in tensors.items() if name != missing})


def test_second_tables_without_a_trellis_are_refused(tensors: Tensors) -> None:
    with pytest.raises(BadModelFile, match="a table for each"):
        HyperpriorCoder({name: tensor for name, tensor in tensors.items() if name not in (TRANSITIONS, OWN)})


def outcome(coder: HyperpriorCoder, payload: bytes) -> list[float] | None:
    """The latents, or None where a payload is refused in an orderly way."""
    try:
        return list(coder.decode(payload, 9, 8).ravel().tolist())
    except BadSlicFile:
        return None


def test_damaged_payloads_decode_or_are_refused(tensors: Tensors) -> None:
    coder, random = HyperpriorCoder(tensors), np.random.default_rng(7)
    payload, y_hat = coder.encode_latents(strip(9, 8)[1], torch.from_numpy(arithmetic((N, 3, 2), 5)).float())
    assert outcome(coder, payload) == y_hat.ravel().tolist()
    damaged = [payload[:length] for length in range(0, len(payload), 54)]
    damaged += [payload + b"\0" * 8, payload[:-1], *[random.bytes(4 * length) for length in range(0, 160, 8)]]
    for place in random.integers(0, len(payload), 20):
        damaged.append(payload[:place] + bytes([payload[place] ^ 1 << int(random.integers(8))]) + payload[place + 1 :])
    assert [outcome(coder, each) for each in damaged].count(None) > 20
