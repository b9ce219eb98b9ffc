"""Print the figures of docs/benchmarks.md as Markdown tables, measured here and now.

    python scripts/benchmark.py rate PHOTOS        file size and PSNR against CompressAI on the same weights
    python scripts/benchmark.py rate_fp32 PHOTOS   the same with --precision fp32
    python scripts/benchmark.py speed PHOTOS       encode and decode in process, side by side with CompressAI
    python scripts/benchmark.py joint PHOTOS       the same for untrained models of mbt2018 and cheng2020-anchor
    python scripts/benchmark.py process PHOTOS     whole `slic` processes against `python -c "import torch"`
    python scripts/benchmark.py memory PHOTOS      a 20 MP mosaic: peak memory, and strips against one piece
    python scripts/benchmark.py integers PHOTOS    bits that the integer hyper-synthesis costs
    python scripts/benchmark.py trellis PHOTOS     the same weights with and without dependent quantisation

PHOTOS is a directory of pictures, such as the Kodak set. rate and speed need the extra `train` (CompressAI).
What models do to edited pictures is measured by `slic evaluate`.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slic_cli import codec as codec_module
from slic_cli import container
from slic_cli.codec import Codec, latent_size
from slic_cli.entropy.hyperprior import HyperpriorCoder
from slic_cli.entropy.latent_coder import TRADEOFF
from slic_cli.image_io import Picture, decode_image, encode_png
from slic_cli.latent_tables import expected_tables, gaussian_tables
from slic_cli.metrics import bits_per_pixel, psnr_db
from slic_cli.model_file import load_tensors, save_model
from slic_cli.quantisation import quantise
from slic_cli.registry import DEFAULT_MODEL, ModelSpec, find_model, read_spec
from slic_cli.transform import balle2018

Pixels = npt.NDArray[np.uint8]
MOSAIC = (3648, 5472)


def photographs(directory: Path) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels of each picture in a directory."""
    for path in sorted(directory.glob("*.png")) + sorted(directory.glob("*.jpg")):
        yield path.name, decode_image(path.read_bytes(), path.name).pixels


def row(*cells: object) -> None:
    """One line of a Markdown table."""
    print(
        "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def header(*cells: str) -> None:
    """The head of a Markdown table."""
    row(*cells)
    row(*["---"] * len(cells))


class Reference:
    """CompressAI's network with the weights of one of our models, as its documentation uses it."""

    def __init__(self, spec: ModelSpec) -> None:
        from compressai import models

        tensors = load_tensors(spec)
        state = {
            name: torch.from_numpy(array.astype(np.float32))
            for name, array in tensors.items()
            if not name.startswith(("tables.", "training."))
        }
        m, n = state["g_a.6.weight"].shape[:2]
        self.net = {
            "bmshj2018-hyperprior": lambda: models.ScaleHyperprior(n, m),
            "mbt2018": lambda: models.JointAutoregressiveHierarchicalPriors(n, m),
            "cheng2020-anchor": lambda: models.Cheng2020Anchor(n),
        }[spec.architecture]().eval()
        torch.nn.Module.load_state_dict(self.net, state, strict=False)
        self.net.update(force=True)

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> dict[str, Any]:
        """compress() on a picture whose sides are multiples of 64."""
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        result: dict[str, Any] = self.net.compress(x)
        return result

    @torch.no_grad()
    def decode(self, coded: dict[str, Any]) -> Pixels:
        """decompress() to bytes."""
        x_hat = self.net.decompress(**coded)["x_hat"][0]
        pixels: Pixels = (x_hat * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return pixels


def rate(photos: Path, spec: ModelSpec, precision: str = "auto") -> None:
    """File bytes (ours: the whole file; CompressAI's: its strings alone) and PSNR of the decode."""
    ours, reference = Codec(spec, precision=precision), Reference(spec)
    header("photograph", "bytes", "CompressAI's", "ratio", "bpp", "PSNR (dB)", "CompressAI's", "difference")
    rows = []
    for name, pixels in photographs(photos):
        file = ours.encode(pixels)
        coded = reference.encode(pixels)
        size, theirs = len(container.serialise(file)), sum(len(part[0]) for part in coded["strings"])
        first, second = psnr_db(pixels, ours.decode(file)), psnr_db(pixels, reference.decode(coded))
        bpp = bits_per_pixel(size, *pixels.shape[:2])
        rows.append((size, theirs, size / theirs, bpp, first, second, first - second))
        row(name, *rows[-1])
    row("mean", *(float(np.mean([line[i] for line in rows])) for i in range(7)))
    print(f"\nlargest ratio {max(r[2] for r in rows):.4f}, largest loss {-min(r[6] for r in rows):.4f} dB")


def rate_fp32(photos: Path, spec: ModelSpec) -> None:
    """The same with all transforms in float32."""
    rate(photos, spec, "fp32")


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed(photos: Path, spec: ModelSpec, repeats: int = 15) -> None:
    """Ratios are taken pair by pair, because a machine's speed drifts."""
    name, pixels = next(photographs(photos))
    print(f"{name}, {_machine(Codec(spec))}, {repeats} pairs\n")
    header(*SPEEDS)
    _compare_speed("", pixels, spec, repeats)


SPEEDS = ("", "CompressAI (s)", "slic (s)", "ratio, median", "lowest", "highest")


def _machine(codec: Codec) -> str:
    return f"{torch.get_num_threads()} threads, {codec.precision}, torch {torch.__version__}"


def _compare_speed(label: str, pixels: Pixels, spec: ModelSpec, repeats: int) -> None:
    """Two rows of a table with the columns of SPEEDS."""
    ours, reference = Codec(spec), Reference(spec)
    coded, file = reference.encode(pixels), ours.encode(pixels)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode": (lambda: reference.encode(pixels), lambda: ours.encode(pixels)),
        "decode": (lambda: reference.decode(coded), lambda: ours.decode(file)),
    }
    for verb, (theirs, mine) in pairs.items():
        times = [(timed(theirs), timed(mine)) for _ in range(repeats)]
        ratios = sorted(a / b for a, b in times)
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        row(f"{label} {verb}".strip(), *medians, statistics.median(ratios), ratios[0], ratios[-1])


JOINT = {  # name in the table: architecture, N, M, quality, channels in use after the analysis's four convolutions
    "mbt2018, all channels": ("mbt2018", 192, 320, 8, None),
    "mbt2018, widths 56, 112, 192, 320": ("mbt2018", 192, 320, 8, (56, 112, 192, 320)),
    "cheng2020-anchor, N = 128, all channels": ("cheng2020-anchor", 128, 128, 3, None),
    "cheng2020-anchor, N = 128, widths 32, 64, 96, 128": ("cheng2020-anchor", 128, 128, 3, (32, 64, 96, 128)),
    "cheng2020-anchor, N = 192, all channels": ("cheng2020-anchor", 192, 192, 6, None),
    "cheng2020-anchor, N = 192, widths 32, 64, 128, 192": ("cheng2020-anchor", 192, 192, 6, (32, 64, 128, 192)),
}


def joint(photos: Path, _spec: ModelSpec, repeats: int = 3) -> None:
    """Models as training starts them: their latents are those of a photograph, few of their weights are 0."""
    name, pixels = next(photographs(photos))
    with tempfile.TemporaryDirectory() as directory:
        specs = {label: _untrained(photos, Path(directory), number) for number, label in enumerate(JOINT)}
        print(f"{name}, {_machine(Codec(next(iter(specs.values()))))}, {repeats} pairs\n")
        header(*SPEEDS)
        for label, spec in specs.items():
            _compare_speed(label, pixels, spec, repeats)
        print()
        header("peak memory (MB)", "CompressAI", "slic")
        for label, spec in specs.items():
            row(label, *(_peak_of(photos, spec, command) for command in ("compressai_once", "slic_once")))


def _untrained(photos: Path, directory: Path, number: int) -> ModelSpec:
    from slic_cli.export import export_model
    from slic_cli.training.codecs import new_codec
    from slic_cli.training.hyperprior import best_gain
    from slic_cli.training.initialisation import karhunen_loeve
    from slic_cli.training.recipe import LAMBDAS

    architecture, n, m, quality, widths = list(JOINT.values())[number]
    torch.manual_seed(0)
    codec = new_codec(architecture, n, m, best_gain(LAMBDAS[quality - 1]), widths)
    crops = [torch.from_numpy(pixels[:256, :256].copy()) for _, pixels in photographs(photos)][:8]
    karhunen_loeve(codec, [crop.permute(2, 0, 1).float() / 255 for crop in crops])
    path = directory / f"untrained-{number}.safetensors"
    metadata = {"architecture": architecture, "quality": str(quality), "metric": "none"}
    export_model(path, codec.folded(), metadata, force=False)
    return read_spec(path)


def compressai_once(photos: Path, spec: ModelSpec) -> None:
    """For its peak memory: one photograph, there and back."""
    reference = Reference(spec)
    reference.decode(reference.encode(next(photographs(photos))[1]))


def slic_once(photos: Path, spec: ModelSpec) -> None:
    """The same here."""
    codec = Codec(spec)
    codec.decode(codec.encode(next(photographs(photos))[1]))


def _peak_of(photos: Path, spec: ModelSpec, command: str) -> int:
    whole = [sys.executable, __file__, command, str(photos), "--model", str(spec.path)]
    peak = subprocess.run([sys.executable, "-c", _PEAK, *whole], check=True, capture_output=True, text=True)
    return int(peak.stdout.split()[-1]) // 1024


def process(photos: Path, _spec: ModelSpec, repeats: int = 7) -> None:
    """Whole processes in turn, so that both see the same machine."""
    photo = min(photos.glob("*.png"))
    with tempfile.TemporaryDirectory() as directory:
        coded = f"{directory}/x.slic"
        slic = [sys.executable, "-m", "slic_cli"]
        commands = {
            'python -c "import torch"': [sys.executable, "-c", "import torch"],
            "slic encode": [*slic, "encode", str(photo), "-o", coded, "--force", "-q"],
            "slic decode": [*slic, "decode", coded, "-o", f"{directory}/x.png", "--force", "-q"],
            "slic info": [*slic, "info", coded],
            "slic --help": [*slic, "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats + 1):
            for name, command in commands.items():
                times[name].append(timed(functools.partial(subprocess.run, command, check=True, capture_output=True)))
    base = times['python -c "import torch"'][1:]
    header("process", "seconds, median", "ratio to import torch, median")
    for name, values in times.items():
        ratios = [value / first for value, first in zip(values[1:], base, strict=True)]
        row(name, statistics.median(values[1:]), statistics.median(ratios))


def mosaic(photos: Path) -> Pixels:
    """A 20 MP picture made of the photographs, upright ones turned."""
    tiles = [p if p.shape[1] >= p.shape[0] else np.rot90(p) for _, p in photographs(photos)]
    rows, columns = min(t.shape[0] for t in tiles), min(t.shape[1] for t in tiles)
    down, across = -(-MOSAIC[0] // rows), -(-MOSAIC[1] // columns)
    order = [tiles[(i * 7 + i // across) % len(tiles)][:rows, :columns] for i in range(down * across)]
    bands = [np.concatenate(order[i * across : (i + 1) * across], 1) for i in range(down)]
    return np.ascontiguousarray(np.concatenate(bands)[: MOSAIC[0], : MOSAIC[1]])


_PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def memory(photos: Path, spec: ModelSpec) -> None:
    """Peak resident memory of whole processes, then strips and tiles against one piece."""
    pixels = mosaic(photos)
    with tempfile.TemporaryDirectory() as directory:
        picture, coded, decoded = (f"{directory}/x.{suffix}" for suffix in ("png", "slic", "decoded.png"))
        Path(picture).write_bytes(encode_png(Picture(pixels)))
        header(f"{pixels.shape[1]} x {pixels.shape[0]}", "seconds", "peak memory (MB)")
        for verb, source, target in (("encode", picture, coded), ("decode", coded, decoded)):
            command = [sys.executable, "-m", "slic_cli", verb, source, "-o", target, "-q", "--model", str(spec.path)]
            start = time.perf_counter()
            peak = subprocess.run([sys.executable, "-c", _PEAK, *command], check=True, capture_output=True, text=True)
            row(f"slic {verb}", time.perf_counter() - start, int(peak.stdout) // 1024)
    _compare_strips(pixels, Codec(spec))


def _compare_strips(pixels: Pixels, codec: Codec) -> None:
    stripped = codec.decode(codec.encode(pixels))
    tile, balle2018.TILE = balle2018.TILE, 1 << 20
    bound, codec_module.STRIP_PIXELS = codec_module.STRIP_PIXELS, 1 << 30
    whole = codec.decode(codec.encode(pixels, strip_rows=-(-pixels.shape[0] // 64) * 64))
    balle2018.TILE, codec_module.STRIP_PIXELS = tile, bound
    difference = np.abs(stripped.astype(np.int16) - whole).max(2)
    error = np.square(stripped.astype(np.float32) - pixels).mean(2)
    side = tile * balle2018.LATENT_UNIT
    near = np.zeros(error.shape, bool)
    for position in range(side, max(error.shape), side):
        near[position - 8 : position + 8] = near[:, position - 8 : position + 8] = True
    other = _shifted_borders(near, side // 2)
    print(f"\npixels that differ from the picture in one piece: {(difference > 0).mean():.6%}")
    print(f"by more than 1/255: {(difference > 1).mean():.6%}, largest {difference.max()}/255")
    seam, elsewhere = error[near].mean(), error[other].mean()
    print(f"mean squared error within 8 pixels of a border: {seam:.3f}, half a tile away: {elsewhere:.3f}")


def _shifted_borders(near: npt.NDArray[np.bool_], shift: int) -> npt.NDArray[np.bool_]:
    return np.roll(near, (shift, shift), (0, 1)) & ~near


def integers(photos: Path, spec: ModelSpec) -> None:
    """Ideal bits of y, plainly rounded and with Gaussian tables, with scales from h_s in double precision, and from the
    integer network; channels with a table of their own have no scale and are left out."""
    codec, tensors = Codec(spec), load_tensors(spec)
    coder = HyperpriorCoder(tensors)
    tables = gaussian_tables()
    starts = tables.starts()
    exact, ours = 0.0, 0.0
    for _, pixels in photographs(photos):
        rows, columns = latent_size(*pixels.shape[:2])
        y = codec._transform.analyse_rows(torch.from_numpy(pixels), 0, rows)
        symbols, z = quantise(y), coder.hyper_latents.quantise(codec._transform.hyper_analysis(y))
        scales = _float_scales(tensors, z + coder.hyper_latents.medians[:, None, None])[:, :rows, :columns]
        for indices, add in (
            (coder.table_indices(z, rows, columns), "ours"),
            (coder.latents.indices(scales, 0), ""),
        ):
            scaled = indices < coder.latents.levels
            indices = indices[scaled]
            letters = symbols[scaled] - tables.lowest[indices]
            escape = tables.lengths[indices] - 1
            letters = np.where((letters < 0) | (letters >= escape), escape, letters)
            bits = float((24 - np.log2(tables.frequencies[starts[indices] + letters])).sum())
            ours, exact = (ours + bits, exact) if add else (ours, exact + bits)
    print(f"integer hyper-synthesis: {ours:.0f} bits, double precision: {exact:.0f} bits, cost {ours / exact - 1:.5%}")


def trellis(photos: Path, spec: ModelSpec) -> None:
    """Means of whole files and decodes, float32: of the model, and of its weights with scalar quantisers."""
    kept = {
        name: tensor
        for name, tensor in load_tensors(spec).items()
        if not name.startswith(("trellis.", "tables.y.", "encoder.bits"))
    }
    metadata = {"architecture": spec.architecture, "quality": str(spec.quality), "metric": spec.metric}
    header("quantisers", "bits paid for a squared step", "bpp", "PSNR (dB)")
    with tempfile.TemporaryDirectory() as scratch:
        row("trellis", "the model's", *_rate_and_psnr(photos, spec))
        for bits in (12.0, 32.0):
            path = Path(scratch) / f"scalar-{bits:.0f}.safetensors"
            save_model(path, {**kept, **expected_tables().tensors(), TRADEOFF: np.array([bits], np.float32)}, metadata)
            row("scalar", f"{bits:.0f}", *_rate_and_psnr(photos, read_spec(path)))


def _rate_and_psnr(photos: Path, spec: ModelSpec) -> tuple[float, float]:
    codec, rows = Codec(spec, precision="fp32"), []
    for _, pixels in photographs(photos):
        file = codec.encode(pixels)
        size = len(container.serialise(file))
        rows.append((bits_per_pixel(size, *pixels.shape[:2]), psnr_db(pixels, codec.decode(file))))
    rates, qualities = zip(*rows, strict=True)
    return statistics.mean(rates), statistics.mean(qualities)


def _float_scales(
    tensors: dict[str, npt.NDArray[Any]], z_hat: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    from torch.nn import functional as F

    t = {name: torch.from_numpy(tensors[name].astype(np.float64)) for name in tensors if name.startswith("h_s")}
    x = torch.from_numpy(z_hat.astype(np.float64))[None]
    for name in ("h_s.0", "h_s.2"):
        x = F.relu(F.conv_transpose2d(x, t[f"{name}.weight"], t[f"{name}.bias"], stride=2, padding=2, output_padding=1))
    x = F.relu(F.conv2d(x, t["h_s.4.weight"], t["h_s.4.bias"], padding=1))
    scales: npt.NDArray[np.float64] = (x[0] * 4096).numpy()
    return scales


def main() -> None:
    """Parse and run one benchmark."""
    benchmarks = (rate, rate_fp32, speed, joint, compressai_once, slic_once, process, memory, integers, trellis)
    commands = {f.__name__: f for f in benchmarks}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=commands)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    commands[arguments.benchmark](arguments.photos, find_model(arguments.model))


if __name__ == "__main__":
    main()
