"""Make the files in tests/golden anew. Nothing else writes them; the tests only read them.

PYTHONPATH=. python scripts/regenerate_golden.py {model,autoregressive,compressai}

model       a small model and a .slic file made with it. Do this only when the format or the model format changes on
            purpose, since it throws away the proof that files made earlier still decode. Print the digests that
            tests/test_codec.py holds, to be copied by hand.
autoregressive  small models of the architectures with a context model; tests/entropy/test_autoregressive.py holds the
            digests of what they make.
compressai  what CompressAI 1.2.8 (extra `train`) computes with the small model's weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch

from slic_cli.codec import Codec
from slic_cli.container import serialise
from slic_cli.entropy.tables import FrequencyTables
from slic_cli.export import export_model
from slic_cli.latent_tables import scale_levels
from slic_cli.model_file import load_tensors, save_model
from slic_cli.quantisation import quantise
from slic_cli.registry import read_spec

TESTS = Path(__file__).parent.parent / "tests"
GOLDEN = TESTS / "golden"
MODEL = GOLDEN / "golden-model.safetensors"
PICTURE = GOLDEN / "golden.slic"
COMPRESSAI = GOLDEN / "compressai.safetensors"
KEPT_LEVELS = range(0, 72, 6)  # tables for deviations of 0.11 to 6: the others would be most of the file

Tensors = dict[str, npt.NDArray[Any]]


def main() -> None:
    """Make one family of golden files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "autoregressive", "compressai"))
    sys.path.insert(0, str(TESTS))
    what = parser.parse_args().what
    if what == "model":
        make_model(MODEL, "bmshj2018-hyperprior")
        make_picture()
    elif what == "autoregressive":
        for name in ("mbt2018", "cheng2020-anchor"):
            make_model(GOLDEN / f"golden-{name}.safetensors", name)
    else:
        make_compressai()


def make_model(path: Path, architecture: str) -> None:
    """A tiny model of tests/conftest.py, with few scale tables."""
    from conftest import TINY_METADATA, TINY_STATES

    metadata = TINY_METADATA | {"architecture": architecture}
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / "whole.safetensors"
        export_model(whole, TINY_STATES[architecture](), metadata, force=False)
        tensors = load_tensors(read_spec(whole))
    save_model(path, tensors | _few_tables(tensors), metadata, force=True)
    print(f"model digest {read_spec(path).digest}")


def _few_tables(tensors: Tensors) -> Tensors:
    """Every sixth scale table, and thresholds halfway between them."""
    tables = FrequencyTables(*(tensors[f"tables.y.{name}"] for name in ("frequencies", "lengths", "lowest")))
    starts, kept = tables.starts(), np.array(KEPT_LEVELS)
    parts = [tables.frequencies[starts[i] : starts[i] + tables.lengths[i]] for i in kept]
    levels = scale_levels()[kept]
    return {
        "tables.y.frequencies": np.concatenate(parts),
        "tables.y.lengths": tables.lengths[kept],
        "tables.y.lowest": tables.lowest[kept],
        "tables.y.thresholds": np.rint((levels[1:] + levels[:-1]) / 2 * 4096).astype(np.int32),
    }


def make_picture() -> None:
    """A .slic file of two strips."""
    import hashlib

    from conftest import photograph

    codec = Codec(read_spec(MODEL), "cpu", "fp32")
    file = codec.encode(photograph(70, 90), strip_rows=64)
    PICTURE.write_bytes(serialise(file))
    symbols = codec.latents(file).astype("<i2")
    print(f"latents {symbols.shape} digest {hashlib.sha256(symbols.tobytes()).hexdigest()}")


def make_compressai() -> None:
    """Inputs and outputs of each of CompressAI's transforms."""
    from compressai.models import ScaleHyperprior
    from conftest import TINY_M, TINY_N, photograph

    weights = {k: torch.from_numpy(v).float() for k, v in load_tensors(read_spec(MODEL)).items() if "tables." not in k}
    net = ScaleHyperprior(TINY_N, TINY_M)
    torch.nn.Module.load_state_dict(net, weights, strict=False)
    pixels = photograph(64, 80, seed=3)
    with torch.inference_mode():
        y = net.g_a(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
        z = net.h_a(y.abs())
        medians = net.entropy_bottleneck.quantiles[:, 0, 1][None, :, None, None]
        z_symbols = (z - medians).round()
        scales = net.h_s(z_symbols + medians)
        y_hat = (y.round() / 8).floor()  # the tiny model's own latents would clip most pixels
        x_hat = net.g_s(y_hat)
    outputs = {"y": y, "z": z, "scales": scales, "x_hat": x_hat}
    tensors: Tensors = {name: value[0].numpy() for name, value in outputs.items()}
    tensors |= {"pixels": pixels, "y_hat": quantise(y_hat[0]), "z_symbols": quantise(z_symbols[0])}
    COMPRESSAI.write_bytes(safetensors.numpy.save(tensors))


if __name__ == "__main__":
    main()
