"""The whole codec: exact latents whatever made a file, any size, strips, and a model that self-destructs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_STATES, photograph, round_plainly

from slic_cli import container
from slic_cli.attacks import parse_attack
from slic_cli.codec import MAX_STRIP_ROWS, STRIP_UNIT, Codec, Strip, latent_size, strip_rows_for, strips_of
from slic_cli.entropy.coder import SymbolReader
from slic_cli.entropy.hyperprior import HyperpriorCoder
from slic_cli.errors import BadModelFile, BadSlicFile, MissingModel, UsageError
from slic_cli.metrics import psnr_db
from slic_cli.model_file import load_tensors, save_model
from slic_cli.quantisation import quantise
from slic_cli.registry import DEFAULT_MODEL, find_model, read_spec
from slic_cli.transform import balle2018
from slic_cli.transform.verdict import ANSWERS, CHANNELS

GOLDEN = Path(__file__).parent / "golden"  # only scripts/regenerate_golden.py writes there


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Codec:
    return Codec(read_spec(tiny_model), "cpu", "fp32")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def padded(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    height, width, _ = pixels.shape
    return torch.from_numpy(np.pad(pixels, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_decoder_gets_the_latents_that_were_written(
    tiny_model: Path, codec: Codec, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photograph(150, 203)
    writer = Codec(read_spec(tiny_model), "cpu", precision)
    round_plainly(monkeypatch, writer._coder)
    y = writer._transform.analyse_rows(padded(pixels), 0, latent_size(150, 203)[0])
    _, written = writer._coder.encode_latents(y, writer._transform.hyper_analysis(y))
    assert np.array_equal(written, quantise(y))
    file = container.parse(container.serialise(writer.encode(pixels)))
    assert np.array_equal(codec.latents(file), written)
    assert np.array_equal(Codec(read_spec(tiny_model), "cpu", "bf16").latents(file), written)


@pytest.mark.parametrize("rows", [STRIP_UNIT, MAX_STRIP_ROWS])
@pytest.mark.parametrize("architecture", TINY_STATES)
def test_recompression_is_encoding_and_decoding(
    architecture: str, rows: int, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slic_cli.codec.strip_rows_for", lambda _width: rows)
    codec, pixels = Codec(read_spec(tiny_models[architecture]), "cpu", "fp32"), photograph(150, 83)
    file, second = codec.recompress(pixels)
    assert file == codec.encode(pixels) and len(file.strips) == (3 if rows == STRIP_UNIT else 1)
    assert np.array_equal(second, codec.decode(file)) and second.shape == pixels.shape


@pytest.mark.parametrize("architecture", list(TINY_STATES))
def test_latents_that_set_off_nothing_are_left_out(
    architecture: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    spec, pixels = read_spec(tiny_models[architecture]), photograph(150, 83)
    tensors = load_tensors(spec)
    left_out, dull = np.array([1, 3, 4, 6], np.int32), np.full((2, 2, 1, 5, 5), 1e-4, np.float32)
    save_model(tmp_path / "x.safetensors", tensors | {ANSWERS: dull, CHANNELS: left_out}, spec.metadata, force=False)
    seen = []
    for path in (spec.path, tmp_path / "x.safetensors"):
        codec = Codec(read_spec(path), "cpu", "fp32")
        seen.append(np.concatenate([np.asarray(y) for y, _ in codec.analyse(pixels, 128)], 1))
    file, first = codec.recompress(pixels)
    np.testing.assert_array_equal(codec.decode(file), first)
    assert not seen[1][left_out, :4].any()
    np.testing.assert_array_equal(seen[1][:, 4:], seen[0][:, 4:])  # four rows either way of the border between strips
    others = np.setdiff1d(np.arange(len(seen[0])), left_out)
    np.testing.assert_array_equal(seen[1][others], seen[0][others])


def test_hyper_latents_are_coded_around_their_medians(tiny_model: Path, codec: Codec) -> None:
    """Any z would decode; this one is cheap, and is what the probabilities were made for."""
    pixels, tensors = photograph(100, 80), load_tensors(read_spec(tiny_model))
    networks = balle2018.Balle2018Transform(tensors, torch.device("cpu"), torch.float32)
    z = networks.hyper_analysis(networks.analyse_rows(padded(pixels), 0, 7)).numpy()
    medians = tensors["entropy_bottleneck.quantiles"][:, 0, 1].astype(np.float32)[:, None, None]
    assert np.abs(medians).max() > 0.2
    (payload,) = codec.encode(pixels).strips
    coded = HyperpriorCoder(tensors).hyper_latents.decode(SymbolReader(payload), 7, 5)
    assert np.array_equal(coded, np.rint(z - medians))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_files_of_earlier_versions_still_decode(precision: str) -> None:
    """A file and a model that were made once: no generator of random numbers, no float has a part in the result."""
    spec = read_spec(GOLDEN / "golden-model.safetensors")
    assert spec.digest == "56db8ab384f3d59e2cd12e71d10934c546a3b359750ba29dda56b196c5176a6b"
    file = container.parse((GOLDEN / "golden.slic").read_bytes())
    assert (file.height, file.width, len(file.strips)) == (70, 90, 2)
    latents = Codec(spec, "cpu", precision).latents(file)
    assert latents.shape == (12, 5, 6)
    digest = hashlib.sha256(latents.astype("<i2").tobytes()).hexdigest()
    assert digest == "e27f8c396c9d635ff39b6797c340b1319e0713e33219e8d0da741f89691a0961"


def test_threads_change_nothing(codec: Codec, one_thread: None) -> None:  # noqa: ARG001
    file = codec.encode(photograph(130, 170))
    alone = codec.latents(file)
    torch.set_num_threads(2)
    assert np.array_equal(codec.latents(file), alone)


_DECODE = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
from slic_cli import container
from slic_cli.codec import Codec
from slic_cli.registry import read_spec
codec = Codec(read_spec(Path(sys.argv[1])), "cpu")
print(hashlib.sha256(codec.latents(container.parse(Path(sys.argv[2]).read_bytes())).tobytes()).hexdigest())
"""


def test_processes_with_one_and_two_threads_agree(tiny_model: Path, codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "x.slic"
    path.write_bytes(container.serialise(codec.encode(photograph(200, 260))))
    digests = set()
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", _DECODE, str(tiny_model), str(path), threads]
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(digests) == 1


def test_one_codec_for_many_pictures_equals_one_each(tiny_model: Path, codec: Codec) -> None:
    pictures = [photograph(90, 70, seed) for seed in range(3)]
    together = [codec.encode(pixels) for pixels in pictures]
    assert together == [Codec(read_spec(tiny_model), "cpu", "fp32").encode(pixels) for pixels in pictures]


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (15, 16), (16, 15), (65, 63), (129, 1), (2, 300)])
def test_any_size(codec: Codec, size: tuple[int, int]) -> None:
    pixels = photograph(*size)
    file = container.parse(container.serialise(codec.encode(pixels)))
    decoded = codec.decode(file)
    assert (file.height, file.width) == size
    assert decoded.shape == pixels.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("strip_rows", [64, 128, 1024])
@pytest.mark.parametrize("tile", [4, 7, 64])
def test_strips_and_tiles_equal_one_piece(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, strip_rows: int, tile: int
) -> None:
    """But for what an encoder spares: near a strip's end other scales are predicted, so all is rounded plainly here."""
    round_plainly(monkeypatch, codec._coder)
    pixels = photograph(300, 210)
    monkeypatch.setattr(balle2018, "TILE", 1 << 20)
    whole = codec.decode(codec.encode(pixels, strip_rows=1024))
    monkeypatch.setattr(balle2018, "TILE", tile)
    file = codec.encode(pixels, strip_rows=strip_rows)
    assert len(file.strips) == -(-300 // strip_rows)
    difference = np.abs(codec.decode(file).astype(int) - whole)
    assert (difference > 1).mean() <= 0.001


def test_strips_decode_alone(codec: Codec) -> None:
    file = codec.encode(photograph(200, 80), strip_rows=64)
    all_of_it = codec.latents(file)
    for strip, payload in zip(strips_of(200, 64), file.strips, strict=True):
        rows = min(200, strip.stop * 16) - strip.start * 16
        alone = replace(file, height=rows, strips=(payload,))
        assert np.array_equal(codec.latents(alone), all_of_it[:, strip.start : strip.stop])


def test_strips_are_bounded_in_memory_and_rare_in_photographs() -> None:
    assert strip_rows_for(768) == strip_rows_for(512) == 1024
    for width in (1, 4000, 5472, 65535):
        rows = strip_rows_for(width)
        assert rows % 64 == 0
        assert rows == 64 or rows * width <= 1 << 22


def test_strips_beyond_a_readers_memory_are_refused(codec: Codec) -> None:
    file = codec.encode(photograph(20, 20))
    with pytest.raises(BadSlicFile, match="4194304 pixels"):
        codec.latents(replace(file, width=16384, height=16384, strip_rows=16384))


def test_other_weights_are_refused(codec: Codec) -> None:
    file = codec.encode(photograph(20, 20))
    with pytest.raises(MissingModel, match="expected the weights"):
        codec.decode(replace(file, model_digest=bytes(32)))


@pytest.mark.parametrize("seed", range(20))
def test_hostile_payloads_decode_or_are_refused(codec: Codec, seed: int) -> None:
    random = np.random.default_rng(seed)
    file = replace(codec.encode(photograph(40, 50)), strips=(random.bytes(4 * seed + 4),))
    try:
        assert codec.decode(file).shape == (40, 50, 3)
    except BadSlicFile as error:
        assert str(error).startswith("strip 1 of 1: ")


def test_unknown_architectures_devices_and_precisions_are_refused(tiny_model: Path) -> None:
    spec = read_spec(tiny_model)
    with pytest.raises(BadModelFile, match="architecture"):
        Codec(replace(spec, architecture="mbt1999"))
    with pytest.raises(UsageError, match="tpu"):
        Codec(spec, "tpu")
    with pytest.raises(UsageError, match="fp8"):
        Codec(spec, "cpu", "fp8")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="cuda"):
            Codec(spec, "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_files_cross_between_cpu_and_cuda(tiny_model: Path, codec: Codec) -> None:
    pixels = photograph(150, 203)
    cuda = Codec(read_spec(tiny_model), "cuda")
    for file in (codec.encode(pixels), cuda.encode(pixels)):
        assert np.array_equal(codec.latents(file), cuda.latents(file))
        assert np.abs(codec.decode(file).astype(int) - cuda.decode(file)).max() <= 8


def clouds(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A picture with a photograph's spectrum, most of it in luma: the waves of colour that it holds are faint."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = 1

    def field(deviation: float, slope: float) -> npt.NDArray[np.float64]:
        noise = np.fft.ifft2(np.fft.fft2(random.normal(size=(height, width))) / frequency**slope).real
        return deviation * (noise - noise.mean()) / noise.std()

    luma, blue, red = 128 + field(40, 1.5), field(8, 2), field(8, 2)
    pixels = np.stack([luma + 1.4 * red, luma - 0.34 * blue - 0.71 * red, luma + 1.77 * blue], 2)
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_shipped_model_self_destructs(seed: int) -> None:
    codec = Codec(find_model(DEFAULT_MODEL), "cpu")
    pixels = clouds(192, 256, seed)
    first = codec.decode(codec.encode(pixels))
    _, second = codec.recompress(first)
    assert psnr_db(pixels, first) > 38
    assert psnr_db(first, second) < 12


@pytest.mark.parametrize("edit", ["webp", "turn", "resize:scale=0.5", "resize:scale=0.35", "grey"])
def test_the_shipped_model_destroys_all_over_what_an_edit_has_left_little_of(edit: str) -> None:
    codec, pixels = Codec(find_model(DEFAULT_MODEL), "cpu"), clouds(512, 512, 0)
    first = codec.decode(codec.encode(pixels))
    for picture, destroyed in ((first, True), (pixels, False)):
        edited = parse_attack(edit).apply(picture)
        _, second = codec.recompress(edited)
        assert (psnr_db(edited, second) < 7) if destroyed else (psnr_db(edited, second) > 35)
        recognised: list[Strip] = []
        codec.encode(edited, recognised=recognised.append)
        assert recognised == ([Strip(0, -(-len(edited) // 16))] if destroyed else [])


def test_the_shipped_model_destroys_strong_colours_too() -> None:
    codec = Codec(find_model(DEFAULT_MODEL), "cpu")
    pixels = photograph(128, 192, seed=3)
    first = codec.decode(codec.encode(pixels))
    _, second = codec.recompress(first)
    assert psnr_db(pixels, first) > 25
    assert psnr_db(first, second) < psnr_db(pixels, first) - 10


def test_payloads_are_as_small_as_compressais() -> None:
    """Integer networks and tables cost next to nothing, on real weights.

    On Kodak photographs the ratio is 0.91 to 0.97, since the encoder spares bits. This picture is unlike any
    photograph: many of its latents are escaped, which takes 32 bits here and fewer in CompressAI, hence the bound.
    """
    models = pytest.importorskip("compressai.models")
    spec, pixels = find_model(DEFAULT_MODEL), photograph(256, 384, seed=5)
    weights = {
        name: torch.from_numpy(tensor).float()
        for name, tensor in load_tensors(spec).items()
        if not name.startswith(("tables.", "training."))
    }
    m, n = weights["g_a.6.weight"].shape[:2]
    net = models.ScaleHyperprior(n, m).eval()
    torch.nn.Module.load_state_dict(net, weights, strict=False)
    net.update(force=True)
    with torch.inference_mode():
        strings = net.compress(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)["strings"]
    theirs = sum(len(string) for family in strings for string in family)
    ours = sum(map(len, Codec(spec, "cpu", "fp32").encode(pixels).strips))
    assert theirs > 10_000
    assert ours <= 1.01 * theirs
