"""The whole codec with a context model: exact whatever made a file, any size, strips, damage; CompressAI's result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import torch
from conftest import AUTOREGRESSIVE, TINY_M, TINY_METADATA, TINY_N, TINY_STATES, photograph, round_plainly

from slic_cli import container, operations
from slic_cli.codec import Codec, latent_size, strips_of
from slic_cli.entropy.autoregressive import AutoregressiveCoder
from slic_cli.errors import BadModelFile, BadSlicFile
from slic_cli.export import export_model
from slic_cli.latent_tables import expected_tables
from slic_cli.model_file import load_tensors, save_model
from slic_cli.registry import read_spec

LARGEST_MEAN_ERROR = 0.15  # of a quantiser step, fixed point against float, on means of some steps
TYPICAL_MEAN_ERROR = 0.03


@pytest.fixture(params=AUTOREGRESSIVE)
def model(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Path:
    return tiny_models[request.param]


@pytest.fixture
def codec(model: Path) -> Codec:
    return Codec(read_spec(model), "cpu", "fp32")


def analysed(codec: Codec, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
    y: npt.NDArray[np.float32] = codec._transform.analyse_rows(
        torch.from_numpy(padded), 0, latent_size(height, width)[0]
    ).numpy()
    return y


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_decoder_gets_what_the_encoder_ended_with(
    model: Path, codec: Codec, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within half a step of the latents, as they are rounded: a decoder that lost its way would be anywhere."""
    pixels, writer = photograph(150, 203), Codec(read_spec(model), "cpu", precision)
    round_plainly(monkeypatch, writer._coder)
    file = container.parse(container.serialise(writer.encode(pixels)))
    latents = codec.latents(file)
    assert latents.dtype == np.float32
    assert latents.shape[1:] == (10, 13)
    y = analysed(writer, pixels)
    assert np.abs(y).max() > 50
    assert np.abs(latents - y).max() < 0.51  # half a step, and half of the means' grid
    assert np.array_equal(writer.latents(file), latents)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (15, 16), (65, 63), (129, 1), (2, 300)])
def test_any_size(codec: Codec, size: tuple[int, int]) -> None:
    file = container.parse(container.serialise(codec.encode(photograph(*size))))
    decoded = codec.decode(file)
    assert decoded.shape == (*size, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("strip_rows", [64, 128, 1024])
def test_strips_restart_and_stay_exact(codec: Codec, strip_rows: int) -> None:
    pixels = photograph(200, 80)
    file = codec.encode(pixels, strip_rows=strip_rows)
    latents = codec.latents(file)
    assert len(file.strips) == -(-200 // strip_rows)
    assert np.abs(latents - analysed(codec, pixels)).max() < 1
    for strip, payload in zip(strips_of(200, strip_rows), file.strips, strict=True):
        rows = min(200, strip.stop * 16) - strip.start * 16
        alone = replace(file, height=rows, strips=(payload,))
        assert np.array_equal(codec.latents(alone), latents[:, strip.start : strip.stop])


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("size", [(1, 1), (65, 63), (200, 90)])
def test_a_trellis_changes_nothing_for_readers(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Any size, several strips, either precision, another codec with the same weights: exact."""
    path = tmp_path / "trellis.safetensors"
    metadata = TINY_METADATA | {"architecture": name}
    export_model(path, TINY_STATES[name](), metadata, False, 12.0, expected_tables(steps=32))
    pixels, writer = photograph(*size), Codec(read_spec(path), "cpu", "bf16")
    file = container.parse(container.serialise(writer.encode(pixels, strip_rows=64)))
    reader = Codec(read_spec(path), "cpu", "fp32")
    latents = reader.latents(file)
    written = [y_hat for _, y_hat in writer._code(pixels, 64)]
    assert len(written) == -(-size[0] // 64)
    assert np.array_equal(latents, np.concatenate(written, 1))
    assert np.array_equal(latents * 64, np.rint(latents * 64))
    assert np.abs(latents - analysed(writer, pixels)).max() < 3
    assert reader.decode(file).shape == pixels.shape


def test_one_codec_for_many_pictures_equals_one_each(model: Path, codec: Codec) -> None:
    pictures = [photograph(90, 70, seed) for seed in range(3)]
    together = [codec.encode(pixels) for pixels in pictures]
    assert together == [Codec(read_spec(model), "cpu", "fp32").encode(pixels) for pixels in pictures]


def test_a_misshapen_tensor_is_named(model: Path, tmp_path: Path) -> None:
    tensors = safetensors.numpy.load_file(model)
    for name in ("context_prediction.weight", "entropy_parameters.4.bias", "h_s.4.weight", "g_s.4.conv1.weight"):
        if name in tensors:
            changed = tensors | {name: tensors[name][:-1]}
            save_model(tmp_path / "wrong.safetensors", changed, read_spec(model).metadata, force=True)
            with pytest.raises(BadModelFile, match=name):
                Codec(read_spec(tmp_path / "wrong.safetensors"), "cpu")


# --- damage under right checksums -----------------------------------------------------------------------


@pytest.fixture
def workplace(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small .slic file, in a folder where `slic decode` finds its model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIC_MODELS", str(model.parent))
    return container.serialise(Codec(read_spec(model), "cpu").encode(photograph(40, 50)))


def decode(workshop: operations.Workshop, data: bytes) -> dict[str, Any]:
    Path("x.slic").write_bytes(data)
    return operations.decode("x.slic", "x.png", None, workshop, False, True)


def test_damage_is_refused_or_another_picture(workplace: bytes) -> None:
    random, workshop, refusals = np.random.default_rng(1), operations.Workshop(), 0
    file = container.parse(workplace)
    assert decode(workshop, workplace)["width"] == 50
    for _ in range(40):
        payload = bytearray(file.strips[0])
        for place in random.integers(0, len(payload), random.integers(1, 4)):
            payload[place] = random.integers(256)
        try:
            assert decode(workshop, container.serialise(replace(file, strips=(bytes(payload),))))["width"] == 50
        except BadSlicFile as error:
            assert "strip 1 of 1" in str(error)
            refusals += 1
    assert 20 < refusals <= 40


def test_truncated_and_lengthened_payloads(workplace: bytes) -> None:
    workshop, file, accepted = operations.Workshop(), container.parse(workplace), 0
    payload = file.strips[0]
    for changed in [payload[:length] for length in range(1, len(payload), 29)] + [payload + b"\1\0\0\0", b"\xff" * 64]:
        try:
            decode(workshop, container.serialise(replace(file, strips=(changed,))))
            accepted += 1
        except BadSlicFile:
            pass
    assert accepted <= 3  # zeros for what is missing may happen to be right at the very end


def test_every_flipped_bit_of_the_file_is_refused(workplace: bytes) -> None:
    workshop = operations.Workshop()
    for bit in range(0, 8 * len(workplace), 11):
        data = bytearray(workplace)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadSlicFile):
            decode(workshop, bytes(data))


def test_a_large_picture_without_the_data_for_it(workplace: bytes) -> None:
    file = container.parse(workplace)
    workshop = operations.Workshop()
    with pytest.raises(BadSlicFile, match="strip"):
        decode(workshop, container.serialise(replace(file, width=1024, height=1024, strip_rows=1024)))
    huge = replace(file, width=16384, height=16384, strip_rows=16384)
    with pytest.raises(BadSlicFile, match="4194304 pixels"):
        decode(workshop, container.serialise(huge))


# --- CompressAI -----------------------------------------------------------------------------------------


def calm_state(name: str) -> dict[str, npt.NDArray[Any]]:
    """The tiny model with latents that its scales fit, so that few are escaped."""
    state = TINY_STATES[name]()
    for part in ("weight", "bias"):
        state[f"g_a.6.{part}"] *= 0.1
    state["context_prediction.weight"] *= 1.5
    return {key: value.astype(np.float16).astype(np.float32) for key, value in state.items()}


@pytest.fixture(params=AUTOREGRESSIVE)
def calm(request: pytest.FixtureRequest, tmp_path: Path) -> Codec:
    path = tmp_path / "calm.safetensors"
    export_model(path, calm_state(request.param), TINY_METADATA | {"architecture": request.param}, force=False)
    return Codec(read_spec(path), "cpu", "fp32")


def compressai(name: str) -> Any:
    """CompressAI's network with the same weights."""
    models = pytest.importorskip("compressai.models")
    net = models.JointAutoregressiveHierarchicalPriors(TINY_N, TINY_M)
    if name == "cheng2020-anchor":
        net = models.Cheng2020Anchor(TINY_N)
    state = {key: torch.from_numpy(value) for key, value in calm_state(name).items()}
    torch.nn.Module.load_state_dict(net, state, strict=False)
    net.eval().update(force=True)
    return net


def test_means_and_scales_are_those_of_compressai(calm: Codec) -> None:
    """The float networks on the very latents that ours has decoded."""
    net, tensors, coder = compressai(calm.spec.architecture), load_tensors(calm.spec), calm._coder
    assert isinstance(coder, AutoregressiveCoder)
    y = torch.from_numpy(analysed(calm, photograph(192, 256, 4)))
    z = coder.hyper_latents.quantise(calm._transform.hyper_analysis(y))
    means, indices = torch.zeros_like(y), np.zeros(y.shape, int)

    def code(front: Any, mean: Any, index: Any) -> Any:
        for i in range(front.count):
            at = front.row + i, front.column - 3 * i
            means[:, at[0], at[1]], indices[:, at[0], at[1]] = mean[i] / 64, index[i]
        places = [(front.row + i, front.column - 3 * i) for i in range(front.count)]
        columns = torch.stack([y[:, row, column] for row, column in places])
        return 64 * torch.round(columns - mean / 64).int().numpy()

    y_hat = torch.from_numpy(coder._walk(z, y.shape[1], y.shape[2], code))
    with torch.inference_mode():
        medians = net.entropy_bottleneck.quantiles[:, 0, 1][:, None, None]
        params = net.h_s((torch.from_numpy(z).float() + medians)[None])
        both = net.entropy_parameters(torch.cat((params, net.context_prediction(y_hat[None])), 1))[0]
    scales, expected = both.chunk(2)
    errors = (means - expected).abs()
    assert expected.std() > 0.1
    assert errors.max() < LARGEST_MEAN_ERROR
    assert errors.mean() < TYPICAL_MEAN_ERROR
    floats = np.searchsorted(tensors["tables.y.thresholds"] / 4096, scales.numpy(), "right")
    assert len(np.unique(floats)) > 5
    assert (floats != indices).mean() < 0.2
    assert np.abs(floats - indices)[scales.numpy() > 0.5].max() <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_latents_and_sizes_are_those_of_compressai(calm: Codec) -> None:
    net, pixels = compressai(calm.spec.architecture), photograph(192, 256, 4)
    file = calm.encode(pixels)
    with torch.inference_mode():
        coded = net.compress(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
        decoded: list[torch.Tensor] = []
        net.g_s.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0][0]))
        net.decompress(coded["strings"], coded["shape"])
    size = sum(len(string) for family in coded["strings"] for string in family)
    assert sum(map(len, file.strips)) <= 1.01 * size
    differences = np.abs(calm.latents(file) - decoded[0].numpy())
    assert np.median(differences) < TYPICAL_MEAN_ERROR
    assert (differences > 0.5).mean() < 0.05  # rounded the other way, half a step from either side
