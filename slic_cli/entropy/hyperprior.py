"""The entropy model of bmshj2018-hyperprior: one strip's latents to bytes and back, exactly.

A payload holds, in one range-coded stream, z (each channel with its own table), then y (each symbol with the table its
predicted scale names). docs/format.md specifies it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter
from slic_cli.entropy.hyper_latents import HyperLatentCoder, Tensors
from slic_cli.entropy.integer_network import ACTIVATION_BITS, IntegerHyperSynthesis
from slic_cli.entropy.latent_coder import LATENT_UNITS, Latents
from slic_cli.entropy.trellis_coder import TrellisLatentCoder, make_latent_coder
from slic_cli.errors import BadModelFile


class HyperpriorCoder:
    """Codes strips of latents with the tables and the integer hyper-synthesis of one model.

    Latents are whole numbers, int16, without a trellis; else float32 and whole 64ths.
    """

    def __init__(self, tensors: Tensors) -> None:
        try:
            self.hyper_latents = HyperLatentCoder(tensors, ACTIVATION_BITS)
            self.latents = make_latent_coder(tensors)
            self.latents_dtype = np.dtype(np.float32 if isinstance(self.latents, TrellisLatentCoder) else np.int16)
            layers = ("h_s.0", "h_s.2", "h_s.4")
            self._h_s = IntegerHyperSynthesis(
                [tensors[f"{name}.weight"] for name in layers], [tensors[f"{name}.bias"] for name in layers]
            )
        except KeyError as error:
            raise BadModelFile(f"expected the tensor {error.args[0]}, got a model without it") from error

    def table_indices(self, z_symbols: Symbols, rows: int, columns: int) -> npt.NDArray[np.uint8]:
        """The table of each symbol of y, (M, rows, columns), from z: int16 (N, ceil(rows / 4), ceil(columns / 4))."""
        return self.latents.indices(self._h_s(self.hyper_latents.z_hat(z_symbols))[:, :rows, :columns], 0)

    def encode_latents(
        self, y: Tensor, z: Tensor, writer: SymbolWriter | None = None
    ) -> tuple[bytes, npt.NDArray[Any]]:
        """Code one strip of real latents: y (M, rows, columns) and z (N, ceil(rows / 4), ceil(columns / 4)).

        The payload, and what `decode` makes of it.
        """
        writer = writer or SymbolWriter()
        z_symbols = self.hyper_latents.quantise(z)
        self.hyper_latents.encode(writer, z_symbols)
        y_hat = self.latents.write(writer, y, self.table_indices(z_symbols, *y.shape[1:]))
        return writer.finish(), self._in_steps(y_hat)

    def encode(self, y_symbols: Symbols, z_symbols: Symbols) -> bytes:
        """The payload of symbols, both int16, of a model without a trellis."""
        writer = SymbolWriter()
        self.hyper_latents.encode(writer, z_symbols)
        self.latents.encode(writer, y_symbols, self.table_indices(z_symbols, *y_symbols.shape[1:]))
        return writer.finish()

    def decode(self, payload: bytes, rows: int, columns: int) -> npt.NDArray[Any]:
        """The very latents that the encoder ended with: (M, rows, columns) of `latents_dtype`. Raises BadSlicFile."""
        reader = SymbolReader(payload)
        z_symbols = self.hyper_latents.decode(reader, rows, columns)
        y_hat = self.latents.read(reader, self.table_indices(z_symbols, rows, columns))
        reader.finish()
        return self._in_steps(y_hat)

    def _in_steps(self, latents: Latents) -> npt.NDArray[Any]:
        return (latents / np.float32(LATENT_UNITS)).astype(self.latents_dtype)
