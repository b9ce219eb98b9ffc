"""The command line: it parses, calls and prints. Nothing here, or imported here, loads torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from slic_cli import __version__
from slic_cli.console import Console, write_line
from slic_cli.errors import EXIT_INTERRUPTED, NobodyReads, SlicError, UsageError
from slic_cli.registry import DEFAULT_MODEL, MODELS_VARIABLE, find_model, list_models

_EXIT_CODES = (
    "Exit codes: 0 done, 1 internal fault, 2 usage, 3 bad input, 4 missing or damaged model, "
    "5 output not written, 130 interrupted, 143 terminated."
)
app = typer.Typer(
    name="slic",
    help="A secure learned image codec: a .slic picture is either original or visibly destroyed.",
    epilog=_EXIT_CODES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _model_names() -> list[str]:
    return [spec.name for spec in list_models()[0]]


def _edit_names() -> list[str]:
    from slic_cli.attacks import EDITS

    return ["all", *EDITS]


Inputs = Annotated[list[str], typer.Argument(metavar="IN...", help="Files, or - for standard input.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", help="File, directory, or - for standard output. Default: beside the input."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help=f"Model name, or a .safetensors file; more in ${MODELS_VARIABLE}.",
        autocompletion=_model_names,
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"Model name or file; default: the one a .slic names, {DEFAULT_MODEL} for a picture.",
        autocompletion=_model_names,
    ),
]
Device = Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="Where the transforms run.")]
Precision = Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="Of the transforms.")]
TrainingPrecision = Annotated[
    Literal["auto", "mixed", "bf16", "fp32"], typer.Option(help="Mixed: float32, with gradients in bfloat16.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs.")]
Strip = Annotated[bool, typer.Option("--strip", help="Leave out ICC profile and EXIF.")]
Check = Annotated[bool, typer.Option("--check", help="Decode the file, too, and warn of damage. Twice the time.")]
Background = Annotated[str | None, typer.Option(help="Colour to flatten transparency onto, as '#rrggbb'.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No log lines, only errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per result on standard output.")]


def _version(value: bool) -> None:
    if value:
        write_line(f"slic {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of slic itself."""


def run() -> int:
    """Parse the command line and run it; what the parser refuses ends as UsageError."""
    try:
        result = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except SystemExit as error:
        if error.code != 1:  # a signal's; 1 is the parser's answer to a broken pipe under its own help
            raise
        raise NobodyReads("standard output: could not be written: nobody reads it") from error
    except Exception as error:
        if not hasattr(error, "format_message"):  # the parser's own errors have it, under a private base class
            raise
        raise UsageError(f"{error.format_message()} (see slic --help)") from error
    if result == EXIT_INTERRUPTED:  # the parser swallows Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _console(quiet: bool, as_json: bool, outputs: Sequence[str]) -> Console:
    if as_json and "-" in outputs:
        raise UsageError("--json: expected standard output for itself, got -o - as well")
    return Console(quiet, as_json)


def _each(console: Console, names: Sequence[str], work: Callable[[int], None]) -> int:
    """Do every input; one bad input does not stop the others, and the first failure gives the exit code."""
    code = 0
    for index in range(len(names)):
        try:
            work(index)
        except NobodyReads:
            raise
        except SlicError as error:
            console.error(str(error))
            code = code or error.exit_code
    return code


def _colour(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    match = re.fullmatch("#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text)
    if not match:
        raise UsageError(f"--background: expected a colour like '#ffffff', got {text!r}")
    red, green, blue = (int(part, 16) for part in match.groups())
    return red, green, blue


def _notes(console: Console, record: dict[str, Any]) -> None:
    for note in record.get("notes", ()):
        console.log(f"{record['input']}: {note}")


def _checked(record: dict[str, Any]) -> str:
    """What --check found, if it was asked for."""
    if "psnr_db" not in record:
        return ""
    return f"first decode {record['psnr_db']:.2f} dB (worst part {record['worst_block_db']:.2f} dB), "


@app.command()
def encode(
    inputs: Inputs,
    output: Output = None,
    model: ModelOption = DEFAULT_MODEL,
    device: Device = "auto",
    precision: Precision = "auto",
    background: Background = None,
    strip: Strip = False,
    check: Check = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Encode photographs to .slic files."""
    from slic_cli import operations, outputs

    find_model(model)  # a missing one is said once, not for each input
    colour, workshop = _colour(background), operations.Workshop(device, precision)
    planned = outputs.plan_outputs(inputs, output, ".slic", force)
    console = _console(quiet, as_json, planned)

    def work(index: int) -> None:
        record = operations.encode(inputs[index], planned[index], model, workshop, colour, strip, force, check)
        _notes(console, record)
        console.record(
            record,
            f"{record['input']} -> {record['output']}: {record['width']} x {record['height']}, "
            f"{record['bytes']} bytes, {record['bpp']:.3f} bits per pixel, {_checked(record)}{record['seconds']:.2f} s",
        )

    return _each(console, inputs, work)


@app.command()
def decode(
    inputs: Inputs,
    output: Output = None,
    model: OptionalModel = None,
    device: Device = "auto",
    precision: Precision = "auto",
    strip: Strip = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Decode .slic files to PNG: the first decode, clean to the eye and perturbed."""
    from slic_cli import operations, outputs

    workshop = operations.Workshop(device, precision)
    planned = outputs.plan_outputs(inputs, output, ".decoded.png", force)
    console = _console(quiet, as_json, planned)

    def work(index: int) -> None:
        record = operations.decode(inputs[index], planned[index], model, workshop, strip, force)
        console.record(
            record,
            f"{record['input']} -> {record['output']}: {record['width']} x {record['height']}, "
            f"{record['seconds']:.2f} s",
        )

    return _each(console, inputs, work)


@app.command()
def recompress(
    inputs: Inputs,
    output: Output = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many times.")] = 1,
    model: OptionalModel = None,
    device: Device = "auto",
    precision: Precision = "auto",
    background: Background = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Encode and decode a decoded (perhaps edited) picture or a .slic once more; report PSNR and rate."""
    from slic_cli import operations, outputs

    colour, workshop = _colour(background), operations.Workshop(device, precision)
    planned = outputs.plan_outputs(inputs, output, ".recompressed.png", force)
    console = _console(quiet, as_json, planned)

    def work(index: int) -> None:
        record = operations.recompress(inputs[index], planned[index], model, workshop, rounds, colour, force)
        _notes(console, record)
        steps = "; ".join(f"PSNR {s['psnr_db']:.2f} dB at {s['bpp']:.3f} bits per pixel" for s in record["rounds"])
        console.record(record, f"{record['input']} -> {record['output']}: {steps}")

    return _each(console, inputs, work)


@app.command()
def attack(
    inputs: Inputs,
    op: Annotated[
        list[str],
        typer.Option(
            "--op",
            metavar="NAME[:key=value,...]",
            help="Edit; repeatable; or all.",
            autocompletion=_edit_names,
        ),
    ],
    recompress_too: Annotated[
        bool, typer.Option("--recompress", help="Also the second decode and a contact sheet.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Directory, or a file for the one picture or contact sheet."),
    ] = None,
    decoded: Annotated[bool, typer.Option("--decoded", help="IN is a first decode already, not a photograph.")] = False,
    model: OptionalModel = None,
    device: Device = "auto",
    precision: Precision = "auto",
    background: Background = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Edit the first decode as a forger would; with --recompress, show what the codec then makes of it."""
    from slic_cli import attack_run, operations
    from slic_cli.attacks import parse_attacks

    colour, edits = _colour(background), parse_attacks(op)
    plan = attack_run.plan(inputs, output, edits, recompress_too, force)
    console = _console(quiet, as_json, [output or ""])
    workshop = operations.Workshop(device, precision)

    def work(index: int) -> None:
        picture, codec = operations.open_for_attack(inputs[index], model, workshop, decoded, colour)
        attack_run.run(inputs[index], picture, codec, plan[index], console)

    return _each(console, inputs, work)


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Recipe: a name of --list, or a .toml file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of photographs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the run. Default: runs/NAME.")] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage: base, jpeg-sim, carrier, slic or entropy; repeatable.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Weights for the first stage: pretrained, or a file.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the recipe's.")] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=8, help="Of lambda and alpha. Default: the recipe's.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Distance of the slic stage. Default: the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Training time of all stages together.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of all stages together.")] = None,
    backbone: Annotated[
        Path | None, typer.Option(envvar="SLIC_VGG16", help="VGG16 weights, for lpips, dists and vgg.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out was stopped.")] = False,
    register: Annotated[bool, typer.Option(help="Make the model known by its name.")] = True,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    device: Device = "auto",
    precision: TrainingPrecision = "auto",
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model from a folder of photographs, stage by stage, and register it. Needs the extra `train`."""
    from slic_cli import training_run

    console = Console(quiet, as_json)
    if list_recipes:
        training_run.print_recipes(console)
        return
    if recipe is None or data is None:
        raise UsageError("train: expected a recipe and --data FOLDER (see slic train --list)")
    request = training_run.Request(recipe, name, quality, metric, minutes, steps)
    places = {"data": data, "out": out, "backbone": backbone, "start": start, "stages": tuple(stage or ())}
    choices = {"device": device, "precision": precision, "resume": resume, "force": force, "register": register}
    training_run.train(request, places | choices, console)


@app.command()
def evaluate(
    inputs: Annotated[list[str], typer.Argument(metavar="DIR...", help="Directories of photographs, or files.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Model to evaluate; repeatable. Default: all registered ones that self-destruct.",
            autocompletion=_model_names,
        ),
    ] = None,
    tables: Annotated[
        str, typer.Option(help="Which: 3, 4, 5, A2 as in the paper, rd curves, harmless, sheets.")
    ] = "3,4,5,rd,harmless,A2,sheets",
    op: Annotated[
        list[str] | None,
        typer.Option(
            "--op",
            metavar="NAME[:key=value,...]",
            help="Edit, as for attack; repeatable. Default: those of docs/attacks.md.",
            autocompletion=_edit_names,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--out", "--output", help="Directory of the report and its records.")
    ] = "report",
    backbone: Annotated[
        str | None, typer.Option(help="VGG16 weights, for LPIPS as well; needs the extra 'train'.")
    ] = None,
    unet: Annotated[str | None, typer.Option(help="UNetJPEG of a slic train run, for its rows of Table A2.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Photographs of each directory at most.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    force: Annotated[bool, typer.Option("--force", help="Begin anew instead of going on.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure models as the paper does, and write a report; a run that was stopped goes on where it was."""
    from pathlib import Path

    from slic_cli.evaluation.run import Request, evaluate

    vgg, net = (Path(text) if text else None for text in (backbone, unet))
    request = Request(inputs, model or (), tables, op or (), Path(output), vgg, net, limit, device, precision, force)
    evaluate(request, Console(quiet, as_json))


@app.command()
def edits() -> None:
    """List the edits of `slic attack` with their parameters."""
    from slic_cli.attacks import describe

    write_line(describe())


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that can be named."""
    from slic_cli import listing

    listing.print_models(Console(json=as_json))


@app.command()
def info(inputs: Inputs, as_json: Json = False) -> int:
    """Tell what .slic files say about themselves; no model is loaded."""
    from slic_cli import listing, outputs

    outputs.check_inputs(inputs)
    console = Console(json=as_json)
    return _each(console, inputs, lambda index: listing.print_info(inputs[index], console))
