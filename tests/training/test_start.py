"""Starting weights of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import TINY_METADATA, photograph, tiny_state

pytest.importorskip("compressai")

from compressai.models import ScaleHyperprior

from slic_cli.errors import BadModelFile, MissingModel
from slic_cli.export import export_model
from slic_cli.model_file import save_difference
from slic_cli.registry import read_spec
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.pixels import to_tensor
from slic_cli.training.recipe import ModelTable
from slic_cli.training.start import read_weights, start_codec

MODEL = ModelTable("mine", 4, n=8, m=12)


def crops() -> list[torch.Tensor]:
    return [to_tensor(photograph(64, 64, seed), torch.device("cpu"))[0] for seed in range(2)]


def compressai_checkpoint(path: Path) -> ScaleHyperprior:
    torch.manual_seed(3)
    net = ScaleHyperprior(8, 12)
    net.update(force=True)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}, "epoch": 3}, path)
    return net


def test_a_compressai_checkpoint(tmp_path: Path) -> None:
    net = compressai_checkpoint(tmp_path / "net.pth.tar")
    codec = Hyperprior(8, 12, 4.0)
    start_codec(codec, str(tmp_path / "net.pth.tar"), MODEL, crops())
    folded = codec.folded()
    for name, value in net.named_parameters():
        np.testing.assert_allclose(folded[name], value.detach().numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    assert codec.gain == 4.0 and codec.spread.min() >= 0.2


def test_a_slic_model_keeps_its_spread(tiny_model: Path) -> None:
    arrays, gain = read_weights(tiny_model)
    assert gain is None and "spread" not in arrays
    codec = Hyperprior(8, 12, 4.0)
    start_codec(codec, str(tiny_model), MODEL, crops())
    np.testing.assert_allclose(codec.folded()["g_s.0.weight"], tiny_state()["g_s.0.weight"], rtol=2e-3, atol=1e-4)


def test_a_model_kept_as_a_difference_is_a_start(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIC_MODELS", str(tmp_path / "others"))
    whole = tmp_path / "whole.safetensors"
    export_model(whole, tiny_state(1), TINY_METADATA | {"gain": "3.5"}, force=False)
    save_difference(tmp_path / "kept.safetensors", read_spec(whole), read_spec(tiny_model))
    with pytest.raises(MissingModel, match="differs from"):
        read_weights(tmp_path / "kept.safetensors")
    shutil.copy(tiny_model, tmp_path)
    (kept, kept_gain), (arrays, gain) = (read_weights(tmp_path / f"{name}.safetensors") for name in ("kept", "whole"))
    assert kept.keys() == arrays.keys()
    assert all(np.array_equal(kept[name], array) for name, array in arrays.items())
    assert kept_gain == gain == 3.5


def test_published_weights_need_the_network(tmp_path: Path) -> None:
    codec = Hyperprior(8, 12)
    with (
        patch("compressai.zoo.bmshj2018_hyperprior", side_effect=OSError("no route")),
        pytest.raises(MissingModel, match="expected to download CompressAI's weights, got: no route"),
    ):
        start_codec(codec, "pretrained", MODEL, crops())
    net = compressai_checkpoint(tmp_path / "net.pth")
    with patch("compressai.zoo.bmshj2018_hyperprior", return_value=net):
        start_codec(codec, "pretrained", MODEL, crops())
    np.testing.assert_allclose(codec.folded()["g_a.0.weight"], net.g_a[0].weight.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.ckpt"])
def test_wrong_files(name: str, tmp_path: Path) -> None:
    path, codec = tmp_path / name, Hyperprior(8, 12)
    with pytest.raises(MissingModel, match="got no file there"):
        start_codec(codec, str(path), MODEL, [])
    path.write_bytes(b"nothing of use")
    with pytest.raises(BadModelFile, match="expected"):
        start_codec(codec, str(path), MODEL, [])
