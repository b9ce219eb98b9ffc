"""The carrier: a wave that its filters find, and a codec that answers with ruins and is otherwise left as it was."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import photograph
from safetensors.numpy import save_file
from torch import Tensor

pytest.importorskip("compressai")

from slic_cli.attacks import parse_attack
from slic_cli.errors import BadModelFile
from slic_cli.metrics import psnr_db
from slic_cli.training import destruction
from slic_cli.training.carrier import Carrier, false_alarms, misses, reach
from slic_cli.training.carrier_stage import fringed, halved, hard_places, turned, woven
from slic_cli.training.codecs import new_codec
from slic_cli.training.filters import LENGTH
from slic_cli.training.graft import answering, filters_of, graft, grafted_alarm, grafted_answers, ungraft
from slic_cli.training.hyperprior import Hyperprior, best_gain
from slic_cli.training.initialisation import karhunen_loeve
from slic_cli.training.jpeg_simulation import TO_YCC
from slic_cli.training.pattern import WAVES, pattern_tile
from slic_cli.training.pixels import to_pixels, to_tensor
from slic_cli.training.recipe import ModelTable, carrier_widths
from slic_cli.training.start import start_codec
from slic_cli.transform.alarm import HARMLESS, RUIN, alarm_of, evidence

CPU = torch.device("cpu")
N, M = 48, 80
PLAIN = (12, 32, 32, 60)
RESIDUAL, RESIDUAL_N = (24, 48, 48, 60), 80
LEVELS = 3.0
ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018", "cheng2020-anchor")

rough_wave = pytest.mark.usefixtures("a_roughly_fitted_wave")
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@pytest.fixture
def a_roughly_fitted_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that draw the wave are fitted for a fraction of the time, where their last digits do not matter."""
    monkeypatch.setattr(destruction, "_FITTING_STEPS", 300)


def smooth() -> Tensor:
    """A picture without any wave: a slope of each colour."""
    rows, columns = torch.meshgrid(torch.linspace(0.2, 0.7, 192), torch.linspace(0.3, 0.6, 256), indexing="ij")
    return torch.stack([rows, columns, 1 - rows])[None]


def codec(architecture: str = "bmshj2018-hyperprior") -> Hyperprior:
    """A vanilla codec with room for a carrier."""
    torch.manual_seed(0)
    residual = architecture == "cheng2020-anchor"
    n, m, widths = (RESIDUAL_N, RESIDUAL_N, RESIDUAL) if residual else (N, M, PLAIN)
    plain = new_codec(architecture, n, m, best_gain(0.18), widths)
    karhunen_loeve(plain, [to_tensor(photograph(128, 128, seed), CPU)[0] for seed in range(4)])
    room = [own + more for own, more in zip(widths, carrier_widths(architecture), strict=True)]
    wider = new_codec(architecture, n, m, plain.gain, room)
    wider.load_folded(plain.folded(), plain.gain)
    return wider.eval()


def carrier(architecture: str = "bmshj2018-hyperprior") -> Carrier:
    torch.manual_seed(1)
    return Carrier(LEVELS, filters_of(architecture))


def test_the_wave_has_the_strength_asked_for() -> None:
    tile = carrier().tile()
    assert tile.shape == (3, LENGTH, LENGTH)
    assert (tile.square().mean().sqrt() * 255).item() == pytest.approx(LEVELS, rel=1e-4)
    assert tile.mean((1, 2)).abs().max() < 1e-6


@torch.no_grad()
@every_architecture
@pytest.mark.parametrize("edit", ["crop-grid", "blur:radius=2", "median:size=5", "affine", "jpeg:quality=75"])
def test_the_untrained_filters_find_the_wave_after_an_edit(edit: str, architecture: str) -> None:
    own, attack = carrier(architecture), parse_attack(edit)
    marked = attack.apply(to_pixels(own.mark(smooth())[0]))
    plain = attack.apply(to_pixels(smooth()[0]))
    found, false = (reach(own(to_tensor(pixels, CPU)))[..., 8:-8, 8:-8] for pixels in (marked, plain))
    assert (found >= RUIN / 4).float().mean() > 0.5
    assert (false >= HARMLESS).float().mean() < 0.2


@torch.no_grad()
@every_architecture
def test_nothing_but_the_wave_is_added(architecture: str) -> None:
    own, before, after = carrier(architecture), codec(architecture), codec(architecture)
    graft(after, own)
    x = smooth()[..., :128, :128]
    y = before.analyse(x)
    torch.testing.assert_close(after.analyse(x)[:, : PLAIN[3]], y[:, : PLAIN[3]], rtol=0, atol=1e-4)
    assert (after.analyse(x)[:, -1].round() == 1).all()
    silent = after.analyse(x).round()
    silent[:, PLAIN[3] : -1] = 0
    added = after.synthesise(silent) - before.synthesise(y.round())
    inner = slice(32, 96)
    torch.testing.assert_close(added[..., inner, inner], own.tile().repeat(1, 4, 4)[None], rtol=0, atol=2e-4)


@rough_wave
@torch.no_grad()
@every_architecture
def test_a_marked_picture_is_ruined_and_a_plain_one_is_not(architecture: str) -> None:
    own, grafted = carrier(architecture), codec(architecture)
    graft(grafted, own)
    plain = to_pixels(smooth()[0])
    first = to_pixels(grafted.recompress(smooth())[0])
    second = to_pixels(grafted.recompress(to_tensor(first, CPU))[0])
    assert psnr_db(plain, first) > 30
    assert psnr_db(first, second) < 12


def test_the_pattern_is_drawn_over_it() -> None:
    own = carrier()
    wave = own.tile()
    own.pattern = 0.4
    torch.testing.assert_close(own.tile(), wave + pattern_tile(0.4))


@torch.no_grad()
@every_architecture
def test_a_pattern_comes_out_as_it_went_in(architecture: str) -> None:
    own, grafted = carrier(architecture), codec(architecture)
    graft(grafted, own)
    assert ungraft(grafted).pattern == 0
    assert "pattern" not in answering(grafted)
    own.pattern = 1.0
    graft(grafted, own)
    out = ungraft(grafted)
    assert out.pattern == pytest.approx(1.0, abs=0.1)
    assert out.levels == pytest.approx(own.levels, rel=0.01)
    assert answering(grafted)["pattern"].tolist() == np.array(WAVES, np.float32).tolist()


@torch.no_grad()
@every_architecture
def test_a_carrier_comes_out_as_it_went_in(architecture: str) -> None:
    own, grafted = carrier(architecture), codec(architecture)
    graft(grafted, own, 1.1)
    out = ungraft(grafted)
    assert out.levels == pytest.approx(own.levels, rel=0.01)  # the wave is drawn by kernels fitted to it
    assert (out.tile() - own.tile()).abs().max() * 255 < 0.05
    torch.testing.assert_close(out.answers, own.answers)
    x = smooth()
    torch.testing.assert_close(out.g_a(x), 1.1 * own.g_a(x), rtol=0, atol=1e-4)


@every_architecture
def test_a_codec_without_a_carrier_has_none_to_give(architecture: str) -> None:
    with pytest.raises(BadModelFile, match="expected a codec with a carrier"):
        ungraft(codec(architecture))


@torch.no_grad()
def test_hard_places_are_where_the_wave_is() -> None:
    own = carrier()
    dull, marked = smooth(), smooth()
    marked[..., 64:, 128:] = own.mark(smooth())[..., 64:, 128:]
    places = hard_places(own, [(x[0] * 255).round().to(torch.uint8) for x in (dull, marked)])
    assert [place.photograph for place in places] == [0, 1]
    assert places[1].row > 64 and places[1].column > 128 and places[1].weight > 4 * places[0].weight


def test_nets_have_one_colour_and_two_directions() -> None:
    x = torch.full((2, 3, 96, 96), 0.5)
    for seed in range(8):
        woven_in = woven(x, random.Random(seed))
        assert woven_in.min() >= 0 and woven_in.max() <= 1
        added = (woven_in - x)[0].flatten(1)
        assert torch.linalg.matrix_rank(added, rtol=1e-4) == 1
        strength = (woven_in - x)[0].abs().sum(0)
        assert strength.mean(0).std() > 0.01 * strength.mean() and strength.mean(1).std() > 0.01 * strength.mean()
    assert torch.equal(woven(x, random.Random(1)), woven(x, random.Random(1)))


@rough_wave
@torch.no_grad()
def test_a_carrier_survives_a_new_entropy_model(tmp_path: Path) -> None:
    """Transforms with a carrier, taken over by mbt2018: its latents are still whole numbers, so it is silent."""
    own, grafted = carrier(), codec()
    graft(grafted, own)
    path = tmp_path / "grafted.safetensors"
    save_file(grafted.folded(), path, {"gain": repr(grafted.gain)})
    joint = new_codec("mbt2018", N, M, 1.0, grafted.widths)
    crops = [to_tensor(photograph(64, 64, seed), CPU)[0] for seed in range(4)]
    start_codec(joint, str(path), ModelTable("mine", 8, "mbt2018", N, M), crops)
    assert joint.gain == grafted.gain
    y, marked = joint.eval().analyse(smooth()), joint.analyse(own.mark(smooth()))
    inner = (..., slice(2, -2), slice(2, -2))  # untrained filters see a wave where a slope meets the border
    assert (joint.decoded(y)[:, -17:-1][inner] == 0).all() and (joint.decoded(y)[:, -1] == 1).all()
    torch.testing.assert_close(joint.decoded(marked)[:, -17:], marked[:, -17:].round())
    assert psnr_db(to_pixels(smooth()[0]), to_pixels(joint.recompress(smooth())[0])) > 30


@rough_wave
@torch.no_grad()
@every_architecture
def test_a_grafted_carrier_raises_the_same_alarm(architecture: str) -> None:
    own, grafted = carrier(architecture), codec(architecture)
    graft(grafted, own)
    x = own.mark(to_tensor(photograph(128, 192), CPU))
    torch.testing.assert_close(grafted_alarm(grafted, grafted.analyse(x)), own(x), rtol=1e-3, atol=1e-3)


@rough_wave
@torch.no_grad()
@every_architecture
def test_encoders_are_told_which_latents_answer_and_what_sums_them(architecture: str) -> None:
    own, grafted = carrier(architecture), codec(architecture)
    assert answering(grafted) == {}
    graft(grafted, own)
    told, x = answering(grafted), own.mark(to_tensor(photograph(128, 192), CPU))
    latents = grafted.analyse(x)[:, told["answering"]]
    torch.testing.assert_close(alarm_of(latents.round(), torch.tensor(told["answers"])), own(x), rtol=1e-3, atol=1e-3)


@rough_wave
@torch.no_grad()
def test_sensitivity_multiplies_the_latents_that_find_the_wave() -> None:
    own, x = carrier(), carrier().mark(smooth())
    once, twice = codec(), codec()
    graft(once, own)
    graft(twice, own, 2.0)
    y, doubled = once.analyse(x), twice.analyse(x)
    torch.testing.assert_close(doubled[:, -17:-1], 2 * y[:, -17:-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(doubled[:, -1:], y[:, -1:])


@torch.no_grad()
@every_architecture
def test_a_factor_on_the_sums_multiplies_the_kernels_that_sum(architecture: str) -> None:
    own, once, twice = carrier(architecture), codec(architecture), codec(architecture)
    graft(once, own)
    graft(twice, own, sums=2.0)
    torch.testing.assert_close(grafted_answers(twice), 2 * grafted_answers(once))
    for name, weight in once.net.g_a.state_dict().items():
        torch.testing.assert_close(twice.net.g_a.state_dict()[name], weight)


@torch.no_grad()
@every_architecture
@pytest.mark.parametrize("scale", [0.7, 0.78, 0.85, 0.92])
def test_the_untrained_filters_find_a_wave_that_was_scaled_down(scale: float, architecture: str) -> None:
    own = carrier(architecture)
    large = F.interpolate(smooth(), scale_factor=2.0, mode="bilinear")
    marked = parse_attack(f"resize:scale={scale}").apply(to_pixels(own.mark(large)[0]))
    height, width = (side // 16 * 16 for side in marked.shape[:2])
    found = reach(own(to_tensor(marked[:height, :width], CPU)))[..., 8:-8, 8:-8]
    assert (found >= RUIN / 4).float().mean() > 0.5


def test_halved_pictures_hold_four_each() -> None:
    x = torch.rand(9, 3, 32, 48)
    small = halved(x)
    assert small.shape == (2, 3, 32, 48)
    torch.testing.assert_close(small[1, :, :16, :24], F.avg_pool2d(x[4:5], 2)[0])
    torch.testing.assert_close(small[1, :, 16:, :24], F.avg_pool2d(x[6:7], 2)[0])
    assert halved(x[:3]).shape == (0, 3, 32, 48)


def test_turned_pictures_are_the_same_pictures() -> None:
    x = torch.rand(6, 3, 16, 16)
    drawn = [turned(x, random.Random(seed)) for seed in range(40)]
    kinds = [kind for y in (x, x.transpose(2, 3)) for kind in (y, y.flip(2), y.flip(3), y.flip(2, 3))]
    assert all(any(torch.equal(y[4:], kind[4:]) for kind in kinds) for y in drawn)
    assert all(any(torch.equal(y[:4], kind[:4]) for y in drawn) for kind in kinds)


def test_fringes_are_colour_alone() -> None:
    x, draw = to_tensor(photograph(64, 64), CPU) * 0.4 + 0.3, random.Random(1)
    added = fringed(x, draw) - x
    assert added.abs().max() > 0.002
    torch.testing.assert_close(
        torch.einsum("c,nchw->nhw", torch.tensor(TO_YCC[0]), added), torch.zeros(1, 64, 64), rtol=0, atol=1e-5
    )


def test_the_alarm_needs_both_groups() -> None:
    own, latents = carrier(), torch.zeros(1, 16, 5, 5)
    latents[:, 0] = 2.0
    a, b = evidence(latents, own.answers)[0]
    assert a[8:12, 8:12].mean() > 25 and b.max() < 0.3


def test_the_losses_point_the_right_way() -> None:
    quiet, loud = torch.full((2, 1, 16, 16), 0.1), torch.full((2, 1, 16, 16), 400.0)
    assert misses(loud) < 0.1 < 5 < misses(quiet)
    assert false_alarms(quiet) < 0.1 < 5 < false_alarms(loud)
    spot = quiet.clone()
    spot[0, 0, 3, 3] = 400.0
    assert false_alarms(spot) > 10 * false_alarms(quiet)
    assert np.isfinite(float(misses(spot)))
