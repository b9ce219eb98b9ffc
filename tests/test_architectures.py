"""The table of architectures, and the shapes of each that CompressAI gives its tensors."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_METADATA, TINY_STATES, photograph

from slic_cli.architectures import ARCHITECTURES, find_architecture
from slic_cli.codec import Codec
from slic_cli.errors import BadModelFile
from slic_cli.export import export_model
from slic_cli.model_file import load_tensors
from slic_cli.registry import read_spec
from slic_cli.shapes import check_shapes


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadModelFile, match="bmshj2018-hyperprior, mbt2018, cheng2020-anchor, got mbt1999"):
        find_architecture("mbt1999")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_exports_loads_and_codes(tiny_models: dict[str, Path], name: str) -> None:
    spec = read_spec(tiny_models[name])
    tensors = load_tensors(spec)
    assert {key for key in tensors if not key.startswith("tables.")} == TINY_STATES[name]().keys()
    check_shapes(tensors, ARCHITECTURES[name].shapes)
    codec = Codec(spec, "cpu", "fp32")
    assert codec.decode(codec.encode(photograph(20, 30))).shape == (20, 30, 3)


@pytest.mark.parametrize(("name", "other"), list(permutations(ARCHITECTURES, 2)))
def test_weights_of_another_architecture_are_refused(tmp_path: Path, name: str, other: str) -> None:
    with pytest.raises(BadModelFile, match="expected"):
        export_model(tmp_path / "x.safetensors", TINY_STATES[name](), TINY_METADATA | {"architecture": other}, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "network", "widths"),
    [
        ("bmshj2018-hyperprior", "ScaleHyperprior", (192, 320)),
        ("mbt2018", "JointAutoregressiveHierarchicalPriors", (192, 320)),
        ("mbt2018", "JointAutoregressiveHierarchicalPriors", (192, 192)),
        ("cheng2020-anchor", "Cheng2020Anchor", (128,)),
        ("cheng2020-anchor", "Cheng2020Anchor", (192,)),
    ],
)
def test_shapes_are_those_of_compressai(name: str, network: str, widths: tuple[int, ...]) -> None:
    models = pytest.importorskip("compressai.models")
    state: dict[str, Any] = getattr(models, network)(*widths).state_dict()
    shapes = ARCHITECTURES[name].shapes(widths[0], widths[-1])
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    derived = ("bound", "pedestal", "target", "_offset", "_quantized_cdf", "_cdf_length", "scale_table", "mask")
    rest = [key for key in state.keys() - shapes.keys() if not key.endswith(derived)]
    assert all(key.startswith("entropy_bottleneck.") for key in rest)
