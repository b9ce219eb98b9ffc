"""Another carrier in a finished model: the wave changes, and nothing that is not the carrier's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photograph

pytest.importorskip("compressai")

from slic_cli.entropy.trellis_coder import UNIT
from slic_cli.export import export_model
from slic_cli.registry import read_spec
from slic_cli.training import destruction
from slic_cli.training.carrier import Carrier
from slic_cli.training.codecs import new_codec
from slic_cli.training.finish import leave
from slic_cli.training.graft import answering, filters_of, graft, ungraft
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.pixels import to_tensor
from slic_cli.training.recarry import recarry
from slic_cli.training.recipe import ModelTable, carrier_widths
from slic_cli.training.start import read_codec, read_weights

N, M, WIDTHS = 48, 80, (12, 32, 32, 60)
METADATA = {"architecture": "bmshj2018-hyperprior", "quality": "8", "metric": "carrier", "N": "48", "M": "80"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a carrier of three levels."""
    monkeypatch.setattr(destruction, "_FITTING_STEPS", 300)
    torch.manual_seed(0)
    room = [own + more for own, more in zip(WIDTHS, carrier_widths(METADATA["architecture"]), strict=True)]
    plain, codec = (new_codec(METADATA["architecture"], N, M, 20.0, widths) for widths in (WIDTHS, room))
    karhunen_loeve(plain, [to_tensor(photograph(128, 128, seed), torch.device("cpu"))[0] for seed in range(4)])
    codec.load_folded(plain.folded(), plain.gain)
    graft(codec, a_carrier(3.0))
    path = tmp_path / "mine.safetensors"
    export_model(path, codec.folded() | answering(codec), METADATA | {"gain": repr(codec.gain)}, force=False)
    return path


def a_carrier(levels: float) -> Carrier:
    torch.manual_seed(int(levels))
    return Carrier(levels, filters_of(METADATA["architecture"]))


def test_nothing_else_changes(model: Path) -> None:
    before, after = read_weights(model)[0], recarry(model, a_carrier(2.0))
    assert before.keys() == after.keys() - {"answers", "answering", "chance", "coherence"}
    changed = {name for name, array in before.items() if not np.array_equal(array, after[name])}
    assert {"g_a.0.weight", "g_a.6.weight", "g_s.0.weight", "g_s.6.weight"} <= changed
    assert all(name.startswith(("g_a.", "g_s.")) for name in changed)
    for name, own in (("g_a.0.weight", WIDTHS[0]), ("g_a.6.weight", WIDTHS[3]), ("g_s.0.weight", WIDTHS[3])):
        assert np.array_equal(before[name][:own], after[name][:own]), name


def test_a_factor_on_the_sums_is_in_what_encoders_are_told(model: Path) -> None:
    once, twice = (recarry(model, a_carrier(2.0), sums)["answers"] for sums in (1.0, 2.0))
    assert np.allclose(twice, 2 * once, rtol=1e-4)
    assert once.any()


def test_the_new_wave_is_drawn(model: Path, tmp_path: Path) -> None:
    arrays = recarry(model, a_carrier(2.0))
    crops = torch.stack([to_tensor(photograph(64, 64, seed), torch.device("cpu"))[0] for seed in range(2)])
    held_out = [torch.from_numpy(photograph(128, 128, 9)).permute(2, 0, 1)]
    target, table = tmp_path / "other.safetensors", ModelTable("mine", 8, n=N, m=M, unit=48)
    figures = leave(target, arrays, METADATA | {"gain": "20.0"}, table, crops, held_out, "cpu")
    assert ungraft(read_codec(target)).levels == pytest.approx(2.0, rel=0.02)
    assert float(read_spec(target).metadata["validation_bpp"]) == pytest.approx(figures["validation_bpp"], abs=1e-3)
    assert read_weights(target)[0][UNIT].tolist() == [48]
