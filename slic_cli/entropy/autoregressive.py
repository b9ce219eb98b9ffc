"""The entropy model of mbt2018 and cheng2020-anchor: one strip's latents to bytes and back, exactly.

A payload holds, in one range-coded stream, z (each channel with its own table), then y, front by front
(entropy/wavefront.py). Each latent is coded as its difference from a mean that the context model gives on a fixed-point
grid, rounded, so that what is decoded, and feeds the context, is exact. The mean depends on the decoded neighbours, so
encoder and decoder walk the same way. docs/format.md specifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slic_cli.entropy.byte_network import HIDDEN_BITS, ByteHyperSynthesis
from slic_cli.entropy.byte_product import LIMIT
from slic_cli.entropy.coder import SymbolReader, Symbols, SymbolWriter
from slic_cli.entropy.context_model import ContextModel
from slic_cli.entropy.hyper_latents import HyperLatentCoder, Tensors
from slic_cli.entropy.latent_coder import LATENT_UNITS, Indices, Latents
from slic_cli.entropy.phases import Kind
from slic_cli.entropy.trellis_coder import make_latent_coder
from slic_cli.entropy.wavefront import Front, LatentPlane, along, fronts
from slic_cli.errors import BadModelFile

FrontCoder = Callable[[Front, Tensor, Indices], Latents]


class AutoregressiveCoder:
    """Codes strips of latents with the tables and integer networks of one model.

    `layers` names the convolutions of its hyper-synthesis, with what each does to the grid; all but the last are
    followed by a leaky ReLU.
    """

    latents_dtype = np.dtype(np.float32)

    def __init__(self, tensors: Tensors, layers: Sequence[tuple[str, Kind]]) -> None:
        try:
            self.hyper_latents = HyperLatentCoder(tensors, HIDDEN_BITS)
            self.latents = make_latent_coder(tensors)
            weights, biases = ([tensors[f"{name}.{part}"] for name, _ in layers] for part in ("weight", "bias"))
            self._h_s = ByteHyperSynthesis(weights, biases, [kind for _, kind in layers])
            self._context = ContextModel(tensors)
        except KeyError as error:
            raise BadModelFile(f"expected the tensor {error.args[0]}, got a model without it") from error

    @torch.inference_mode()
    def encode_latents(
        self, y: Tensor, z: Tensor, writer: SymbolWriter | None = None
    ) -> tuple[bytes, npt.NDArray[np.float32]]:
        """Code one strip of real latents: y (M, rows, columns) and z (N, ceil(rows / 4), ceil(columns / 4)).

        The payload, and what `decode` makes of it.
        """
        _, rows, columns = y.shape
        writer, plane = writer or SymbolWriter(), y.float().cpu().permute(1, 2, 0).contiguous()
        z_symbols = self.hyper_latents.quantise(z)
        self.hyper_latents.encode(writer, z_symbols)

        def code(front: Front, means: Tensor, indices: Indices) -> Latents:
            return self.latents.write(writer, along(plane, front) - means / LATENT_UNITS, indices)

        y_hat = self._walk(z_symbols, rows, columns, code)
        return writer.finish(), y_hat

    @torch.inference_mode()
    def decode(self, payload: bytes, rows: int, columns: int) -> npt.NDArray[np.float32]:
        """The very y_hat that the encoder ended with: float32 (M, rows, columns), whole 64ths. Raises BadSlicFile."""
        reader = SymbolReader(payload)
        z_symbols = self.hyper_latents.decode(reader, rows, columns)

        def code(front: Front, means: Tensor, indices: Indices) -> Latents:
            del front, means
            return self.latents.read(reader, indices)

        y_hat = self._walk(z_symbols, rows, columns, code)
        reader.finish()
        return y_hat

    def _walk(self, z_symbols: Symbols, rows: int, columns: int, code: FrontCoder) -> npt.NDArray[np.float32]:
        """Call `code` for each front, with means and table indices, (count, M); it gives what is added to the means."""
        z_hat = self.hyper_latents.z_hat(z_symbols).clip(-LIMIT, LIMIT).astype(np.int16)
        params = self._h_s(torch.from_numpy(z_hat).permute(1, 2, 0))
        shares = self._context.hyper_share(params[:rows, :columns])
        plane = LatentPlane(self._context.channels, rows, columns)
        with _one_thread():
            for front in fronts(rows, columns):
                parameters = self._context(plane.neighbours(front), along(shares, front))
                means = parameters.means.float()
                offsets = code(front, means, self.latents.indices(parameters.scales.numpy(), 1))
                plane.write(front, torch.from_numpy(offsets).float().add_(means))
        y_hat: npt.NDArray[np.float32] = (plane.latents() / LATENT_UNITS).numpy()
        return y_hat


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fronts are small: on a machine with other work, waiting for a second thread costs ten times what it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
