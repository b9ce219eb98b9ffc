"""Another carrier for a model that is finished: everything else stays as its file has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slic_cli.training.carrier import Carrier
from slic_cli.training.graft import answering, graft
from slic_cli.training.hyperprior import Arrays
from slic_cli.training.start import read_codec, read_weights

_TRANSFORMS = ("g_a.", "g_s.")


def recarry(path: Path, carrier: Carrier, sensitivity: float = 1.0) -> Arrays:
    """Plain weights of the model file with `carrier` in place of its own, as `graft` puts it there.

    Raises BadModelFile, MissingModel.
    """
    codec = read_codec(path)
    before = codec.folded()
    graft(codec, carrier, sensitivity)
    stored, after = read_weights(path)[0], codec.folded()
    # Weights in the codec's own units come back with other roundings: those that are not the carrier's are not taken.
    changed = {
        name: np.where(after[name] == before[name], array, after[name])
        for name, array in stored.items()
        if name.startswith(_TRANSFORMS)
    }
    return stored | changed | answering(codec)
