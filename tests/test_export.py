"""From a CompressAI state dict to a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_METADATA, TINY_N, tiny_state

from slic_cli.entropy.tables import TOTAL
from slic_cli.errors import BadModelFile
from slic_cli.export import export_model
from slic_cli.latent_tables import SCALE_LEVELS, gaussian_tables, scale_levels, scale_thresholds
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec


def test_only_weights_and_tables_are_kept(tmp_path: Path) -> None:
    derived = {
        "g_a.1.beta_reparam.pedestal": np.zeros(1),
        "entropy_bottleneck.likelihood_lower_bound.bound": np.zeros(1),
    }
    derived |= {"entropy_bottleneck._offset": np.zeros(0), "gaussian_conditional.scale_table": np.zeros(0)}
    export_model(tmp_path / "x.safetensors", tiny_state() | derived, TINY_METADATA, force=False)
    tensors = load_tensors(read_spec(tmp_path / "x.safetensors"))
    assert {name for name in tensors if not name.startswith("tables.")} == tiny_state().keys()
    assert {array.dtype for name, array in tensors.items() if name in tiny_state()} == {np.dtype(np.float16)}


def test_weights_that_do_not_fit_half_precision_are_refused(tmp_path: Path) -> None:
    state = tiny_state()
    state["g_a.0.weight"][0, 0, 0, 0] = 1e6
    with pytest.warns(RuntimeWarning), pytest.raises(BadModelFile, match=r"g_a\.0\.weight"):
        export_model(tmp_path / "x.safetensors", state, TINY_METADATA, force=False)
    assert not list(tmp_path.iterdir())


def test_gaussian_tables_follow_their_scales() -> None:
    tables = gaussian_tables()
    assert len(tables.lengths) == SCALE_LEVELS
    for start, length, lowest, scale in zip(
        tables.starts(), tables.lengths, tables.lowest, scale_levels(), strict=True
    ):
        shares = tables.frequencies[start : start + length - 1] / TOTAL
        symbols = np.arange(lowest, lowest + length - 1)
        assert symbols[-1] == -lowest
        # Rounding to integers widens a Gaussian by 1 / 12 once it is wide enough to be called one.
        if scale > 1:
            assert (shares * symbols**2).sum() == pytest.approx(scale**2 + 1 / 12, rel=0.01)


def test_thresholds_lie_between_the_levels() -> None:
    borders, levels = scale_thresholds() / 4096, scale_levels()
    assert ((levels[:-1] < borders) & (borders < levels[1:])).all()


def test_factorised_tables_follow_the_prior(tmp_path: Path) -> None:
    export_model(tmp_path / "x.safetensors", tiny_state(), TINY_METADATA, force=False)
    tensors = load_tensors(read_spec(tmp_path / "x.safetensors"))
    assert len(tensors["tables.z.lengths"]) == TINY_N
    shares = np.split(tensors["tables.z.frequencies"], np.cumsum(tensors["tables.z.lengths"])[:-1])
    spread = [np.sqrt((part[:-1] / TOTAL * (np.arange(len(part) - 1) + low) ** 2).sum()) for part, low in
              zip(shares, tensors["tables.z.lowest"], strict=True)]  # fmt: skip
    assert all(1 < deviation < 30 for deviation in spread)  # CompressAI's initial prior spans about +-10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = tiny_state()
    state["h_s.2.bias"][3] = value
    with pytest.raises(BadModelFile, match=r"h_s\.2\.bias"):
        export_model(tmp_path / "x.safetensors", state, TINY_METADATA, force=False)
    assert not list(tmp_path.iterdir())


def test_a_hyper_synthesis_that_could_round_is_refused(tmp_path: Path) -> None:
    state = tiny_state()
    state["h_s.2.weight"] *= 5000
    with pytest.raises(BadModelFile, match="stay exact"):
        export_model(tmp_path / "x.safetensors", state, TINY_METADATA, force=False)
    assert not list(tmp_path.iterdir())


def test_a_prior_without_mass_is_refused(tmp_path: Path) -> None:
    state = tiny_state()
    state["entropy_bottleneck.quantiles"][2, 0, 1] = 60000
    with pytest.raises(BadModelFile, match="near the median"):
        export_model(tmp_path / "x.safetensors", state, TINY_METADATA, force=False)


def test_the_same_state_makes_the_same_model(tmp_path: Path) -> None:
    """The same digest: the files differ, since safetensors writes metadata in an order that is random."""
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path in paths:
        export_model(path, tiny_state(), TINY_METADATA, force=False)
    first, second = map(read_spec, paths)
    assert first.digest == second.digest
