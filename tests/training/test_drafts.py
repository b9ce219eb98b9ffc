"""A codec on its way out: channels with tables of their own, a trellis, tables that fit, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_METADATA, TINY_STATES, State, photograph, tiny_state

pytest.importorskip("compressai")

from slic_cli.codec import Codec
from slic_cli.container import parse, serialise
from slic_cli.entropy.latent_coder import OWN, TRADEOFF
from slic_cli.entropy.trellis_coder import PAIRED, STEPS, TRANSITIONS, UNIT
from slic_cli.export import export_model
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec
from slic_cli.training import drafts
from slic_cli.training.codecs import new_codec
from slic_cli.training.drafts import Leaving, choose, loss, own_kinds, prepare
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.pixels import to_tensor
from slic_cli.training.recipe import carrier_widths
from slic_cli.training.start import read_codec, read_weights

HYPERPRIOR = "bmshj2018-hyperprior"
OWN_CHANNELS = [2, 5, 7]
SEEN = [photograph(128, 160, seed) for seed in range(3)]
LAST = {HYPERPRIOR: "h_s.4", "mbt2018": "entropy_parameters.4", "cheng2020-anchor": "entropy_parameters.4"}

every_architecture = pytest.mark.parametrize("architecture", list(TINY_STATES))


def with_carrier(architecture: str = HYPERPRIOR) -> State:
    """A tiny state dict in which channels 2, 5 and 7 are expected to be the same everywhere, the last with a scale of
    its own."""
    state = {name: array.copy() for name, array in TINY_STATES[architecture]().items()}
    channels = len(state["g_a.6.bias"])
    state["h_a.0.weight"][:, OWN_CHANNELS] = 0
    for part in ("weight", "bias"):
        array = state[f"{LAST[architecture]}.{part}"]
        array[OWN_CHANNELS] = 0
        if len(array) > channels:  # means
            array[[channel + channels for channel in OWN_CHANNELS]] = 0
    state[f"{LAST[architecture]}.bias"][OWN_CHANNELS] = 0.25, 0.25, 1.0
    return state


def loaded(architecture: str) -> Hyperprior:
    arrays = with_carrier(architecture)
    m, n = arrays["g_a.6.weight"].shape[:2]
    codec = new_codec(architecture, n, m)
    codec.load_folded(arrays, 1.0)
    return codec.eval()


def prepared(path: Path, architecture: str) -> Leaving:
    """Tiny weights, three of whose channels are expected to be the same everywhere."""
    arrays = with_carrier(architecture)
    arrays |= {"spread": np.linspace(1, 3, len(arrays["g_a.6.bias"]), dtype=np.float32)}
    return prepare(path / "tiny.safetensors", arrays, TINY_METADATA | {"architecture": architecture}, "cpu")


@pytest.fixture
def leaving(tmp_path: Path) -> Leaving:
    return prepared(tmp_path, HYPERPRIOR)


# --- channels that are the same everywhere --------------------------------------------------------------


@every_architecture
def test_kinds_are_numbered_by_scale(architecture: str) -> None:
    arrays = with_carrier(architecture)
    kinds = own_kinds(arrays, architecture)
    assert kinds is not None and kinds.dtype == np.int32
    channels = range(len(arrays["g_a.6.bias"]))
    assert kinds.tolist() == [0 if c in (2, 5) else 1 if c == 7 else -1 for c in channels]


@every_architecture
def test_a_codec_without_such_latents_has_no_kinds(architecture: str) -> None:
    assert own_kinds(TINY_STATES[architecture](), architecture) is None


def test_too_many_kinds_are_none() -> None:
    state = tiny_state()
    state["h_s.4.weight"][:9] = 0
    assert own_kinds(state, HYPERPRIOR) is None
    state["h_s.4.bias"][:2] = 1
    kinds = own_kinds(state, HYPERPRIOR)
    assert kinds is not None and kinds.max() == 7


@pytest.mark.parametrize(("architecture", "constant"), [(HYPERPRIOR, 1), ("mbt2018", 0), ("cheng2020-anchor", 0)])
def test_a_carriers_latents_are_told_apart(architecture: str, constant: int) -> None:
    """From all others, and without means those that find it from the constant that the wave is drawn from."""
    torch.manual_seed(0)
    n, m = (40, 40) if architecture == "cheng2020-anchor" else (24, 40)
    codec, own = new_codec(architecture, n, m), carrier_widths(architecture)[3]
    codec.isolate(slice(-own, None))
    kinds = own_kinds(codec.folded(), architecture)
    assert kinds is not None
    assert kinds.tolist() == [-1] * (m - own) + [0] * (own - 1) + [constant]


# --- models ---------------------------------------------------------------------------------------------


@every_architecture
def test_all_leave_with_a_trellis(architecture: str, tmp_path: Path) -> None:
    leaving = prepared(tmp_path, architecture)
    leaving.write(leaving.path, 4.0, leaving.expected, {"validation_bpp": "1.000"})
    spec = read_spec(leaving.path)
    tensors = load_tensors(spec)
    assert spec.metadata["validation_bpp"] == "1.000"
    assert {TRANSITIONS, PAIRED, UNIT, OWN} <= tensors.keys()
    assert tensors[STEPS].tolist() == [256 if architecture == HYPERPRIOR else 64]
    assert tensors[TRADEOFF].tolist() == [4.0]
    assert np.flatnonzero(tensors[OWN] >= 0).tolist() == OWN_CHANNELS
    assert len(set(tensors[OWN][OWN_CHANNELS])) == 2


@every_architecture
def test_a_codec_without_a_carrier_has_no_tables_for_one(architecture: str, tmp_path: Path) -> None:
    arrays = TINY_STATES[architecture]()
    leaving = prepare(tmp_path / "x.safetensors", arrays, TINY_METADATA | {"architecture": architecture}, "cpu")
    leaving.write(leaving.path, 12.0, leaving.expected)
    tensors = load_tensors(read_spec(leaving.path))
    assert TRANSITIONS in tensors and OWN not in tensors
    np.testing.assert_array_equal(tensors["g_a.6.bias"], arrays["g_a.6.bias"].astype(np.float16))


@every_architecture
def test_what_it_wrote_is_decoded_exactly(architecture: str, tmp_path: Path) -> None:
    """In several strips, by another codec with the same weights; channels of their own are rounded, as before."""
    leaving = prepared(tmp_path, architecture)
    codec, pixels = leaving.codec(4.0, leaving.fit(4.0, leaving.analyse(SEEN))), photograph(192, 320, 7)
    written = list(codec._code(pixels, 64))
    assert len(written) == 3
    file = codec.encode(pixels, strip_rows=64)
    assert list(file.strips) == [payload for payload, _ in written]
    other = Codec(read_spec(leaving.path), "cpu")
    latents = other.latents(parse(serialise(file)))
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, np.concatenate([y_hat for _, y_hat in written], 1))
    np.testing.assert_array_equal(latents * 64, np.rint(latents * 64))
    np.testing.assert_array_equal(latents[OWN_CHANNELS], np.rint(latents[OWN_CHANNELS]))
    plain = loaded(architecture).analyse(to_tensor(pixels, torch.device("cpu"))).detach()[0].numpy()
    assert np.square(latents[OWN_CHANNELS] - plain[OWN_CHANNELS]).mean() < 0.12  # 1 / 12 by rounding alone
    others = [channel for channel in range(len(plain)) if channel not in OWN_CHANNELS]
    assert np.square(latents[others] - plain[others]).mean() < 0.5


@every_architecture
def test_fitted_tables_take_fewer_bytes(architecture: str, tmp_path: Path) -> None:
    leaving, sizes = prepared(tmp_path, architecture), []
    for tables in (leaving.expected, leaving.fit(4.0, leaving.analyse(SEEN))):
        codec = leaving.codec(4.0, tables)
        sizes.append(sum(len(serialise(codec.encode(pixels))) for pixels in SEEN))
    assert sizes[1] < 0.97 * sizes[0]


@pytest.mark.parametrize("usual", [0.05, 1.0])
def test_the_best_tradeoff_is_chosen(usual: float, leaving: Leaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables fitted for a usual one; where errors weigh nothing, the one that spares most bits. What leaves has
    tables of its own tradeoff."""
    tradeoffs, pictures = (0.05, 4.0), [photograph(64, 64, 9)]
    monkeypatch.setattr(drafts, "TRADEOFFS", tradeoffs)
    monkeypatch.setattr(drafts, "USUAL", usual)
    tables = leaving.fit(usual, leaving.analyse(pictures))
    for rate_weight in (0.0, 10.0):
        losses = [loss(leaving.codec(bits, tables), pictures, rate_weight) for bits in tradeoffs]
        best = tradeoffs[int(np.argmin(losses))]
        assert best == 0.05 or rate_weight
        bits, chosen = choose(leaving, pictures, pictures, rate_weight)
        assert bits == best
        for (lowest, shares), (low, expected) in zip(
            chosen.distributions, leaving.fit(best, leaving.analyse(pictures)).distributions, strict=True
        ):
            assert lowest == low
            np.testing.assert_array_equal(shares, expected)


@every_architecture
def test_training_gets_its_weights_back(architecture: str, tmp_path: Path) -> None:
    """A trellis changes none of them."""
    leaving = prepared(tmp_path, architecture)
    leaving.write(leaving.path, 4.0, leaving.expected)
    arrays, _ = read_weights(leaving.path)
    export_model(tmp_path / "plain.safetensors", leaving.arrays, leaving.metadata, force=False)
    plain, _ = read_weights(tmp_path / "plain.safetensors")
    assert {name.split(".")[0] for name in arrays.keys() - plain.keys()} == {"trellis", "tables", "encoder"}
    for name, array in plain.items():
        if name.startswith("tables.y."):
            continue
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    np.testing.assert_array_equal(arrays["spread"], leaving.arrays["spread"])
    x = to_tensor(photograph(128, 128), torch.device("cpu"))
    with torch.no_grad():
        y, again = (codec.analyse(x) for codec in (loaded(architecture), read_codec(leaving.path).eval()))
    torch.testing.assert_close(again, y, rtol=0.02, atol=0.1)


def test_models_without_a_trellis_are_read_as_they_are(tmp_path: Path) -> None:
    export_model(tmp_path / "x.safetensors", tiny_state(), TINY_METADATA, force=False)
    arrays, _ = read_weights(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(arrays["g_a.6.weight"], tiny_state()["g_a.6.weight"].astype(np.float16))


@every_architecture
def test_counts_are_of_all_strips(architecture: str, tmp_path: Path) -> None:
    leaving = prepared(tmp_path, architecture)
    codec, strips = leaving.codec(4.0, leaving.expected), leaving.analyse(SEEN)
    assert len(strips) == len(SEEN)  # strip_rows_for(160) is at least 128
    counts = codec.count_symbols(strips)
    assert counts.sum() == len(SEEN) * len(leaving.arrays["g_a.6.bias"]) * 8 * 10
    np.testing.assert_array_equal(counts, sum(codec.count_symbols([strip]) for strip in strips))
