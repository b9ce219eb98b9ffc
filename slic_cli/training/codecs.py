"""The codecs that can be trained, by the name of their architecture."""

from __future__ import annotations

from collections.abc import Sequence

from slic_cli.errors import BadModelFile
from slic_cli.training.cheng2020 import Cheng2020
from slic_cli.training.hyperprior import Hyperprior
from slic_cli.training.minnen2018 import Minnen2018

CODECS = {codec.architecture: codec for codec in (Hyperprior, Minnen2018, Cheng2020)}


def new_codec(architecture: str, n: int, m: int, gain: float = 1.0, widths: Sequence[int] | None = None) -> Hyperprior:
    """A codec with random weights; every one of them is a Hyperprior. Raises BadModelFile for other names."""
    if architecture not in CODECS:
        raise BadModelFile(f"expected one of the architectures {', '.join(CODECS)}, got {architecture}")
    return CODECS[architecture](n, m, gain, widths)
