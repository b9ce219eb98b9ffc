"""Carriers of finished models: one taken out, and another put in where everything else stays as the file has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slic_cli.training.carrier import Carrier, load_carrier
from slic_cli.training.graft import answering, graft, ungraft
from slic_cli.training.hyperprior import Arrays
from slic_cli.training.start import path_of, read_codec, read_weights

_TRANSFORMS = ("g_a.", "g_s.")


def read_carrier(start: str) -> Carrier:
    """What a carrier stage left (.ckpt), or the carrier of a model, by name or path.

    Raises BadModelFile, MissingModel.
    """
    path = Path(path_of(start))
    return load_carrier(path) if path.suffix == ".ckpt" else ungraft(read_codec(path))


def recarry(path: Path, carrier: Carrier, sums: float = 1.0) -> Arrays:
    """Plain weights of the model file with `carrier` in place of its own, as `graft` puts it there.

    `sums` multiplies its sums. Raises BadModelFile, MissingModel.
    """
    codec = read_codec(path)
    before = codec.folded()
    graft(codec, carrier, sums=sums)
    stored, after = read_weights(path)[0], codec.folded()
    # Weights in the codec's own units come back with other roundings: those that are not the carrier's are not taken.
    changed = {
        name: np.where(after[name] == before[name], array, after[name])
        for name, array in stored.items()
        if name.startswith(_TRANSFORMS)
    }
    return stored | changed | answering(codec)
