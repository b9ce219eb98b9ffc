"""mbt2018 as it is trained (Minnen et al. 2018): the scale hyperprior's transforms under a context model.

Normalised units as in hyperprior.py: h_a and the context model see latents over their spread, scales and means leave
the entropy parameters in units of it. The folds are exact: these maps are linear where the factors meet them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slic_cli.shapes import Shapes, joint_shapes
from slic_cli.training.hyperprior import QUIET_SCALE, Array, Arrays, Hyperprior, Prior

_LAST = "entropy_parameters.4"  # the layer that scales and means come from, one half of the channels each


class Minnen2018(Hyperprior):
    """mbt2018 with N = `n`, M = `m`, in normalised units.

    `fixed_means` holds whole numbers for the latents of a carrier, NaN for all others: a carrier's latents must stay
    whole numbers when they are coded as differences from a mean. In plain weights they are those whose means have no
    weight in the last layer of the entropy parameters. `hyper_magnitudes` says whether h_a sees |y|, as a scale
    hyperprior's does (scale_transfer.py).
    """

    architecture: ClassVar[str] = "mbt2018"
    halves: ClassVar[Mapping[str, int]] = {"entropy_parameters.0.weight": 1, f"{_LAST}.weight": 0, f"{_LAST}.bias": 0}
    fixed_means: Tensor
    hyper_magnitudes: Tensor

    def __init__(self, n: int, m: int, gain: float = 1.0, widths: Sequence[int] | None = None) -> None:
        super().__init__(n, m, gain, widths)
        self.register_buffer("fixed_means", torch.full((1, self.widths[3], 1, 1), torch.nan))
        self.register_buffer("hyper_magnitudes", torch.tensor(False))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """A checkpoint from before there was `hyper_magnitudes` has a codec without."""
        state_dict.setdefault(f"{prefix}hyper_magnitudes", torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def shapes(self) -> Shapes:
        """Of plain weights."""
        return joint_shapes(self.n, self.m)

    def _make_net(self) -> nn.Module:
        from compressai.models import JointAutoregressiveHierarchicalPriors

        return self._with_own_transforms(JointAutoregressiveHierarchicalPriors(self.n, self.widths[3]))

    def prior(self, y: Tensor, noisy: bool) -> Prior:
        """What `y` is coded with. The context is `y` with noise or rounded, as in CompressAI's forward pass.

        The decoder's context differs from it by less than a quantiser step: there latents are rounded around means that
        are known one after another.
        """
        hyper_seen = torch.where(self.hyper_magnitudes, y.abs(), y)
        z_hat, bits = self._hyper_latents(self.net.h_a(hyper_seen / self.spread), noisy)
        params = self.net.h_s(z_hat)
        seen = self.net.gaussian_conditional.quantize(y, "noise" if noisy else "dequantize")
        scales, means = self._gaussians(params, seen / self.spread)
        fixed = self.fixed_means
        return Prior(scales * self.spread, torch.where(fixed.isnan(), means * self.spread, fixed), bits)

    def _gaussians(self, params: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """Scales and means, float32.

        CompressAI's module masks its weights in place, after the step; here the masked ones get no gradients, which
        clipping would count. The two rows that are masked altogether are not computed.
        """
        layer = self.net.context_prediction
        kernel = layer.weight[:, :, :3] * layer.mask[:, :, :3]
        context = F.conv2d(F.pad(seen, (2, 2, 2, 0)), kernel, layer.bias)
        halves: tuple[Tensor, ...] = self.net.entropy_parameters(torch.cat([params, context], 1)).float().chunk(2, 1)
        return halves

    def decoded(self, y: Tensor) -> Tensor:
        """Latents as the decoder gets them, round(y - mean) + mean, straight through.

        The means' own gradient cancels, so they are worked out without one: a second pass costs the entropy model's
        forward pass and no more.
        """
        with torch.no_grad():
            prior = self.prior(y, noisy=False)
        return prior.round(y)

    @torch.no_grad()
    def isolate(self, own: slice) -> None:
        """Make the latents `own` no part of hyper-latents and context, with means of 0, of 1 for the very last."""
        channels = self.widths[3]
        self.spread[:, own] = 1
        self.net.h_a[0].weight[:, own] = 0
        self.net.context_prediction.weight[:, own] = 0
        last = self.net.entropy_parameters[4]
        last.weight.view(2, channels, -1)[:, own] = 0
        last.bias[:channels][own] = QUIET_SCALE
        self.fixed_means[:, own] = 0
        self.fixed_means[:, -1] = 1

    def folded(self) -> Arrays:
        """Plain CompressAI weights, float32, and `spread`."""
        arrays = super().folded()
        context = arrays["context_prediction.weight"]
        context[:, :, 2, 2:] = context[:, :, 3:] = 0  # what the mask hides was never trained
        fixed = np.asarray(self.fixed_means.cpu().flatten())
        known = np.flatnonzero(~np.isnan(fixed))
        arrays[f"{_LAST}.weight"][self.m + known] = 0
        arrays[f"{_LAST}.bias"][self.m + known] = fixed[known]
        return arrays

    def load_folded(self, arrays: Mapping[str, Array], gain: float) -> None:
        """Take plain CompressAI weights. Raises BadModelFile as the base class does."""
        super().load_folded(arrays, gain)
        weight, bias = (arrays[f"{_LAST}.{part}"][self.m :][: self.widths[3]] for part in ("weight", "bias"))
        fixed = np.where(weight.any((1, 2, 3)), np.nan, bias.astype(np.float32))
        self.fixed_means.copy_(torch.from_numpy(fixed.astype(np.float32)).view_as(self.fixed_means))
        self.hyper_magnitudes.fill_("hyper_magnitudes" in arrays)

    def _measured(self) -> dict[str, Tensor]:
        """`hyper_magnitudes` is there where it holds."""
        flag = {"hyper_magnitudes": torch.ones(1)} if self.hyper_magnitudes else {}
        return super()._measured() | flag

    def _entropy_factors(self) -> dict[str, Tensor | float]:
        spread = self.spread.detach().float().cpu()
        by_output = torch.cat([spread, spread], 1).view(-1, 1, 1, 1)
        return {
            "h_a.0.weight": 1 / spread,
            "context_prediction.weight": 1 / spread,
            f"{_LAST}.weight": by_output,
            f"{_LAST}.bias": by_output.flatten(),
        }
