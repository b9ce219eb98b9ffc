"""What a carrier's latents set off in the synthesis, and which of them set off nothing.

A carrier (training/carrier.py) has latents that answer to its wave, in two groups, and destroys where the answers of
both come together. Photographs wake a few, here and there, too weakly for anything to show, and each costs an encoder
many bits. It leaves those out. And where a model says so it leaves out alarms that stand alone, unless they are as loud
as only the wave's own: a first decode has its wave everywhere, a photograph something like it in places. This is a
matter of the encoder alone; it destroys nothing that the synthesis would not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile

ANSWERS, CHANNELS, CHANCE = "encoder.answers", "encoder.answering", "encoder.chance"  # the tensors of a model
QUIET = 5.0  # an alarm below which noise of an eighth of an 8-bit level is all that happens
HARMLESS, RUIN = 10.0, 40.0  # alarms: from where they can be seen, and from where hardly a pixel is left
LOUD = 600.0  # the wave raises more in most places of 160 pixels, after many edits, too; photographs hardly ever half

SPREAD = torch.tensor([1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3])  # over a neighbourhood; constants stay as they are
TWICE: dict[str, Any] = {"stride": 2, "padding": 2, "output_padding": 1}  # the synthesis's upsampling
_LEAST_EVIDENCE = 0.2  # keeps the slope of a root, and a logarithm, finite
_REACH = 2  # latents between one that is not 0 and the farthest place where it adds to an alarm
_GROUPS = 2


def evidence(latents: Tensor, answers: Tensor) -> Tensor:
    """What g_s makes of both groups' latents before they meet: (n, 2, h / 4, w / 4).

    `answers` are a carrier's kernels (2, latents, sums, 5, 5); what they sum is multiplied by its own magnitude, and
    spread.
    """
    sums = answers.shape[2]
    answered = F.conv_transpose2d(latents, answers.flatten(0, 1), groups=_GROUPS, **TWICE)
    magnitude = (_by_group(answered) + _LEAST_EVIDENCE**2).sqrt().repeat_interleave(sums, 1)
    kernel = (SPREAD[:, None] * SPREAD).to(latents).expand(_GROUPS * sums, 1, 5, 5)
    spread = F.conv_transpose2d(answered * magnitude, kernel, groups=_GROUPS * sums, **TWICE)
    return (_by_group(spread) + _LEAST_EVIDENCE**4).sqrt()


def _by_group(answers: Tensor) -> Tensor:
    """The squared magnitude of each group's channels."""
    return torch.stack([part.square().sum(1) for part in answers.chunk(_GROUPS, 1)], 1)


def alarm_of(latents: Tensor, answers: Tensor) -> Tensor:
    """The root of the product of both groups' evidence: (n, 1, h / 4, w / 4)."""
    a, b = evidence(latents, answers).chunk(_GROUPS, 1)
    return (a * b).sqrt()


class Silence:
    """Leaves out the latents `channels` around which no alarm reaches QUIET; `answers` as `evidence` wants them.

    Where less than the share `chance` of a strip's alarms reaches HARMLESS, those below LOUD are taken for chance's.
    """

    def __init__(self, answers: Tensor, channels: Tensor, chance: float = 0.0) -> None:
        self._answers, self._channels, self._chance = answers, channels, chance

    @torch.inference_mode()
    def __call__(self, y: Tensor, above: bool, below: bool) -> Tensor:
        """`y` (M, rows, columns), whole or a strip of a picture with more of it `above` or `below`, where the alarm is
        not known and everything stays that is not taken for chance's."""
        own = y[self._channels].cpu()
        alarms = alarm_of(own.round()[None], self._answers)
        alone = (alarms >= HARMLESS).float().mean() < self._chance
        loud = F.max_pool2d((alarms >= (LOUD if alone else QUIET)).float(), 4)
        for more, edge in ((above, slice(_REACH)), (below, slice(-_REACH, None))):
            if more and not alone:
                loud[:, :, edge] = 1
        kept = F.max_pool2d(loud, 2 * _REACH + 1, 1, _REACH)[0]
        y = y.clone()
        y[self._channels] = (own * kept).to(y)
        return y


def silence_of(tensors: Mapping[str, npt.NDArray[Any]]) -> Silence | None:
    """None for a model without a carrier. Raises BadModelFile."""
    if ANSWERS not in tensors and CHANNELS not in tensors:
        return None
    answers, channels = tensors.get(ANSWERS), tensors.get(CHANNELS)
    chance = tensors.get(CHANCE, np.zeros(1, np.float32))
    known = len(tensors["g_a.6.bias"])
    fitting = (
        answers is not None
        and channels is not None
        and answers.ndim == 5
        and answers.shape[0] == _GROUPS
        and answers.shape[3:] == (5, 5)
        and min(answers.shape) > 0
        and np.isfinite(answers).all()
        and channels.dtype == np.int32
        and channels.shape == (_GROUPS * answers.shape[1],)
        and 0 <= channels.min() <= channels.max() < known
        and chance.dtype == np.float32
        and chance.shape == (1,)
        and 0 <= chance[0] <= 1
    )
    if not fitting:
        parts = f"finite kernels (2, n, sums, 5, 5) in {ANSWERS}", f"2 n of {known} channels in {CHANNELS}"
        raise BadModelFile(f"expected {', '.join(parts)}, a share in {CHANCE}, got others")
    kernels, own = torch.from_numpy(np.array(answers, np.float32)), torch.from_numpy(np.array(channels, np.int64))
    return Silence(kernels, own, float(chance[0]))
