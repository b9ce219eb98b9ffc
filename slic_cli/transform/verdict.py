"""What an encoder makes of a carrier's answers: a photograph's own, the wave's, or some of each.

Photographs wake a few latents of a carrier, here and there, too weakly for anything to show, and each costs many bits.
Those are left out. Where a model says so, alarms that stand alone are left out, too, unless they are as loud as only
the wave's own: a first decode has its wave everywhere, a photograph something like it in places.

And where a model says so, answers that agree over a whole strip, or would if it were turned, larger or smaller, are
taken for those of a wave that an edit has left little of, and written as if it had left all; and so are those of a
strip in which the model's pattern of lightness is found. The synthesis then destroys the strip. That is the encoder's
doing; without it the network destroys where its own alarms are loud enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slic_cli.errors import BadModelFile
from slic_cli.transform.alarm import GROUPS, HARMLESS, alarm_of, evidence
from slic_cli.transform.coherence import coherence, least_coherence

ANSWERS, CHANNELS = "encoder.answers", "encoder.answering"  # the tensors of a model
CHANCE, COHERENCE = "encoder.chance", "encoder.coherence"
QUIET = 5.0  # an alarm below which noise of an eighth of an 8-bit level is all that happens
LOUD = 600.0  # the wave raises more in most places of 160 pixels, after many edits, too; photographs hardly ever half

_REACH = 2  # latents between one that is not 0 and the farthest place where it adds to an alarm
_SCALED = 2.0  # times the agreement: at twice the size the blocks of codecs are as long as the wave
_FULL = 4.0  # an answer of twice what an undisturbed wave gets


@dataclass(frozen=True)
class Verdict:
    """On the latents `channels`; `answers` as `evidence` wants them.

    Those around which no alarm reaches QUIET are left out. Where less than the share `chance` of a strip's alarms
    reaches HARMLESS, those below LOUD are taken for chance's. From `agreement`, a coherence, on they are a wave's.
    """

    answers: Tensor
    channels: Tensor
    chance: float = 0.0
    agreement: float | None = None

    @torch.inference_mode()
    def __call__(
        self,
        y: Tensor,
        above: bool,
        below: bool,
        views: Iterable[tuple[float, Tensor]] = (),
        patterned: Callable[[], bool] = lambda: False,
    ) -> Tensor:
        """`y` (M, rows, columns), whole or a strip of a picture with more of it `above` or `below`, where the alarm is
        not known and everything stays that is not taken for chance's.

        `views` are the same channels of the strip seen otherwise, and at which size; `patterned` says whether the
        pattern is found in it. Both are asked only where they can matter."""
        own = y[self.channels].cpu()
        y = y.clone()
        if self._agree([(1.0, own)]) or patterned() or self._agree(views):
            y[self.channels] = self._full.to(y)
        else:
            y[self.channels] = (own * self._kept(own.round(), above, below)).to(y)
        return y

    def is_full(self, y: Tensor) -> bool:
        """Whether `y` is as it is written where a strip is taken for a first decode."""
        return bool((y[self.channels].cpu() == self._full).all())

    def _agree(self, views: Iterable[tuple[float, Tensor]]) -> bool:
        """Whether answers do, at one of the sizes; views are asked for as far as it takes."""
        if self.agreement is None:
            return False
        for size, answers in views:
            least = self.agreement * (1 if size == 1 else _SCALED)
            if coherence(answers.round()) >= least_coherence(least, answers[0].numel()):
                return True
        return False

    def _kept(self, rounded: Tensor, above: bool, below: bool) -> Tensor:
        """1 where answers stay, else 0: (rows, columns)."""
        alarms = alarm_of(rounded[None], self.answers)
        alone = (alarms >= HARMLESS).float().mean() < self.chance
        loud = F.max_pool2d((alarms >= (LOUD if alone else QUIET)).float(), 4)
        for more, edge in ((above, slice(_REACH)), (below, slice(-_REACH, None))):
            if more and not alone:
                loud[:, :, edge] = 1
        return F.max_pool2d(loud, 2 * _REACH + 1, 1, _REACH)[0, 0]

    @cached_property
    def _full(self) -> Tensor:
        """Of each group the latent that, the same everywhere, is the most evidence: (channels, 1, 1)."""
        count, side = len(self.channels), 4 * _REACH
        alone = _FULL * torch.eye(count)[:, :, None, None].expand(-1, -1, side, side)
        inside = slice(4 * _REACH, -4 * _REACH)
        found = evidence(alone, self.answers)[:, :, inside, inside].mean((2, 3))
        full = torch.zeros(count, 1, 1)
        for group, own in enumerate(torch.arange(count).chunk(GROUPS)):
            full[own[found[own, group].argmax()]] = _FULL
        return full


def verdict_of(tensors: Mapping[str, npt.NDArray[Any]]) -> Verdict | None:
    """None for a model without a carrier. Raises BadModelFile."""
    if ANSWERS not in tensors and CHANNELS not in tensors:
        return None
    answers, channels = tensors.get(ANSWERS), tensors.get(CHANNELS)
    chance, agreement = tensors.get(CHANCE), tensors.get(COHERENCE)
    shares = [share for share in (chance, agreement) if share is not None]
    known = len(tensors["g_a.6.bias"])
    fitting = (
        answers is not None
        and channels is not None
        and answers.ndim == 5
        and answers.shape[0] == GROUPS
        and answers.shape[3:] == (5, 5)
        and min(answers.shape) > 0
        and np.isfinite(answers).all()
        and channels.dtype == np.int32
        and channels.shape == (GROUPS * answers.shape[1],)
        and 0 <= channels.min() <= channels.max() < known
        and all(share.dtype == np.float32 and share.shape == (1,) and 0 <= share[0] <= 1 for share in shares)
        and (agreement is None or answers.shape[1] % 2 == 0)
    )
    if not fitting:
        parts = f"finite kernels (2, n, sums, 5, 5) in {ANSWERS}", f"2 n of {known} channels in {CHANNELS}"
        more = f"a share in {CHANCE}", f"another in {COHERENCE}, then with an even n"
        raise BadModelFile(f"expected {', '.join((*parts, *more))}, got others")
    kernels, own = torch.from_numpy(np.array(answers, np.float32)), torch.from_numpy(np.array(channels, np.int64))
    return Verdict(
        kernels,
        own,
        chance=0.0 if chance is None else float(chance[0]),
        agreement=None if agreement is None else float(agreement[0]),
    )
