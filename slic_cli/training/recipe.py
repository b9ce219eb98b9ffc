"""Recipes: what a model is and how it is trained, as TOML files checked when they are read.

    [model] what is made      [data] what it is shown
    [base] [jpeg-sim] [carrier] [slic] [entropy] the stages, in that order

A recipe holds data only; every wrong key or value is a UsageError that names it.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from slic_cli.errors import UsageError
from slic_cli.registry import NAME_PATTERN
from slic_cli.training.carrier_edits import CARRIER_EDITS
from slic_cli.training.distances import DISTANCES, TAUS

# CompressAI's weights of the distortion 255^2 MSE, qualities 1 to 8, and the alphas of Huang & Wu's reference code.
LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
ALPHAS = (0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.75, 2.5)
STAGES = ("base", "jpeg-sim", "carrier", "slic", "entropy")
CODEC_STAGES = ("base", "slic", "entropy")  # those that train a codec
ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018", "cheng2020-anchor")
_RESIDUAL = "cheng2020-anchor"
# Channels that a carrier takes after each analysis convolution, or on each grid of residual transforms.
_CARRIER_WIDTHS, _RESIDUAL_CARRIER_WIDTHS = (8, 16, 16, 17), (8, 24, 32, 17)
_LATENT_UNITS = 64  # entropy/latent_coder.py has the same, and torch, which recipes can be read without
_SUFFIX = ".toml"

Table = TypeVar("Table")


def _require(condition: bool, key: str, expected: str, got: object) -> None:
    if not condition:
        raise UsageError(f"{key}: expected {expected}, got {got!r}")


@dataclass(frozen=True)
class ModelTable:
    """What is trained: `n` and `m` are the paper's channel counts N and M; `quality` picks alpha, and lambda unless
    `distortion_weight` gives it: the weight of 255^2 MSE beside bits per pixel.

    `widths`, at most (N, N, N, M), are the channels in use after the four analysis convolutions, all of them if empty.
    Those of cheng2020-anchor, which has M = N, are on the grids of 1/2, 1/4, 1/8 and 1/16 of the picture's. `unit` is
    what the model's trellis counts in, in 64ths of a latent's step, if not the usual: more of them, fewer bits and less
    quality.
    """

    name: str
    quality: int
    architecture: str = "bmshj2018-hyperprior"
    n: int = 192
    m: int = 320
    widths: tuple[int, ...] = ()
    distortion_weight: float | None = None
    unit: int | None = None

    def __post_init__(self) -> None:
        _require(bool(NAME_PATTERN.fullmatch(self.name)), "name", "a-z, 0-9, '.', '_', '-'", self.name)
        _require(1 <= self.quality <= 8, "quality", "1 to 8", self.quality)
        _require(self.rate_weight > 0, "distortion_weight", "more than 0", self.distortion_weight)
        known = self.architecture in ARCHITECTURES
        _require(known, "architecture", f"one of {', '.join(ARCHITECTURES)}", self.architecture)
        _require(self.n >= 4 and self.m >= 4, "n and m", "at least 4", (self.n, self.m))
        most = (self.n, self.n, self.n, self.m)
        fitting = len(self.widths) == 4 and all(3 < width <= top for width, top in zip(self.widths, most, strict=True))
        _require(not self.widths or fitting, "widths", f"four numbers from 4 to {most}", self.widths)
        _require(self.unit is None or 1 <= self.unit <= _LATENT_UNITS, "unit", f"1 to {_LATENT_UNITS}", self.unit)
        if self.architecture == _RESIDUAL:
            _require(self.n == self.m, "n and m", f"equal numbers for {_RESIDUAL}", (self.n, self.m))

    @property
    def rate_weight(self) -> float:
        """Lambda of the rate-distortion loss."""
        return LAMBDAS[self.quality - 1] if self.distortion_weight is None else self.distortion_weight


@dataclass(frozen=True)
class DataTable:
    """What is shown: square crops of `patch` pixels; `validation` photographs are held out.

    `memory_gib` bounds the photographs kept in memory; larger collections are represented by windows. Each photograph
    is shown at one of `scales`: small ones hide the traces of old JPEG compression, large ones show photographs as
    cameras deliver them, where neighbouring pixels differ less than in pictures made small for the web. Photographs
    with a side below 400 pixels are not made smaller.
    """

    patch: int = 128
    validation: int = 8
    memory_gib: float = 4.0
    scales: tuple[float, ...] = (0.6, 0.75, 1.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.patch >= 64 and self.patch % 64 == 0, "patch", "a multiple of 64", self.patch)
        _require(self.validation >= 1, "validation", "at least 1", self.validation)
        _require(self.memory_gib > 0, "memory_gib", "more than 0", self.memory_gib)
        usable = bool(self.scales) and all(0 < scale <= 4 for scale in self.scales)
        _require(usable, "scales", "numbers above 0, up to 4", self.scales)


@dataclass(frozen=True)
class StageTable:
    """What all stages share. Exactly one of `minutes` and `steps` bounds a stage.

    `batch` counts the crops of all processes together. `schedule` is "cosine" (constant for the share `hold`, then
    down to a fiftieth at the end of the budget) or "plateau" (the paper's: times `decay` after `patience` validations
    without a better loss, ended after `stop_after` of them). `optimiser` is "adam" or "soap" (`soap.py`). Gradients are
    clipped to the norm `clip`. With a decay `average` above 0 the weights' exponential mean over the steps is what is
    validated and kept, not the last step's.
    """

    minutes: float | None = None
    steps: int | None = None
    batch: int = 16
    optimiser: str = "adam"
    learning_rate: float = 1e-4
    warmup_steps: int = 100
    schedule: str = "cosine"
    hold: float = 0.4
    decay: float = 0.5
    patience: int = 5
    stop_after: int = 15
    clip: float = 1.0
    average: float = 0.0
    validate_minutes: float = 10.0
    validate_steps: int | None = None
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        _require((self.minutes is None) != (self.steps is None), "minutes, steps", "one of the two", self.budget)
        _require(self.amount > 0, "minutes, steps", "more than 0", self.budget)
        _require(self.schedule in ("cosine", "plateau"), "schedule", "cosine or plateau", self.schedule)
        _require(self.batch >= 1, "batch", "at least 1", self.batch)
        _require(self.optimiser in ("adam", "soap"), "optimiser", "adam or soap", self.optimiser)
        _require(self.learning_rate > 0 and self.clip > 0, "learning_rate and clip", "more than 0", self.learning_rate)
        _require(0 <= self.hold <= 1, "hold", "0 to 1", self.hold)
        _require(0 <= self.average < 1, "average", "0 up to, but not, 1", self.average)
        _require(0 < self.decay <= 1 and self.patience >= 1, "decay and patience", "(0, 1] and 1 or more", self.decay)
        _require(self.validate_minutes > 0 and self.checkpoint_minutes > 0, "..._minutes", "more than 0", 0)
        _require(self.validate_steps is None or self.validate_steps >= 1, "validate_steps", "1 or more", 0)

    @property
    def budget(self) -> dict[str, float]:
        """The bounds that were given."""
        return {key: value for key in ("minutes", "steps") if (value := getattr(self, key)) is not None}

    @property
    def amount(self) -> float:
        """The budget's number, in whichever unit it was given."""
        return next(iter(self.budget.values()), 0.0)


@dataclass(frozen=True)
class BaseTable(StageTable):
    """Rate-distortion training of the vanilla codec.

    `start` is "karhunen-loeve", "lapped", "pretrained" (CompressAI's download) or the path of a checkpoint. For
    `noisy_share` of the budget the synthesis sees latents with uniform noise, then rounded ones, and for the last
    `trellis_share` those that dependent quantisation leaves, as in files (`trellis_rounding.py`).
    Networks around the hyper-latents learn `hyper_rate` times as fast. In plain transforms GDN learns `norm_rate` times
    as fast, in units of the activations (0: as all else, without units), and hidden channels whose deviation is below
    `wake` get a larger unit at the start (`norms.py`). Weights whose names begin with one of `frozen` stay as they are.
    """

    start: str = "karhunen-loeve"
    noisy_share: float = 0.7
    trellis_share: float = 0.0
    hyper_rate: float = 5.0
    norm_rate: float = 0.0
    wake: float = 0.0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.trellis_share <= 1, "trellis_share", "0 to 1", self.trellis_share)
        _require(self.norm_rate >= 0, "norm_rate", "0 or more", self.norm_rate)
        _require(self.wake >= 0, "wake", "0 or more", self.wake)


@dataclass(frozen=True)
class JpegSimTable(StageTable):
    """Training of UNetJPEG on pairs from the real encoder, of `quality` 1 to 100; `width` is 64 in the paper.

    With `near_identity` the network starts as one that leaves pictures nearly alone, and batch norm keeps that start's
    statistics: minutes instead of hours. Without, it starts at random.
    """

    width: int = 64
    quality: tuple[int, int] = (70, 95)
    near_identity: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.quality[0] >= 1 and self.quality[1] <= 100, "quality", "1 to 100", self.quality)
        _require(1 <= self.width <= 256, "width", "1 to 256", self.width)


@dataclass(frozen=True)
class CarrierTable(StageTable):
    """Training of a carrier (slic_cli/training/carrier.py), which the slic stage then starts with.

    `levels` is the wave's root mean square in 8-bit levels, `pattern` that of the luma of the pattern drawn with it
    (slic_cli/training/pattern.py), 0 for none: what the first decode pays. `caution` weighs false alarms
    against missed ones, and `sensitivity` multiplies the last filters when training is over: the two trade one for the
    other. `sums` then multiplies the sums over latents: the encoder leaves alarms out that stand alone, which training
    does not know. The wave, and the sums, learn `wave_rate` times as fast as the filters. `edits` are drawn as in
    [slic]; left out, they are those of carrier_edits.py. `start` is an earlier carrier to go on from: a checkpoint, or
    a model that has one, by name or path. `hard_share` of the crops are taken where photographs come nearest to an
    alarm when the stage begins.
    """

    start: str = ""
    levels: float = 1.4
    pattern: float = 0.3
    caution: float = 2.0
    sensitivity: float = 1.0
    sums: float = 1.0
    wave_rate: float = 5.0
    hard_share: float = 0.0
    edits: tuple[Mapping[str, Any], ...] = CARRIER_EDITS

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.levels <= 16, "levels", "more than 0, up to 16", self.levels)
        _require(0 <= self.pattern <= 4, "pattern", "0 to 4", self.pattern)
        for key in ("caution", "sensitivity", "sums", "wave_rate"):
            _require(getattr(self, key) > 0, key, "more than 0", getattr(self, key))
        _require(0 <= self.hard_share <= 1, "hard_share", "0 to 1", self.hard_share)


@dataclass(frozen=True)
class SlicTable(StageTable):
    """Adversarial fine-tuning, equations 5 and 6.

    `alpha` and `tau` are the paper's; alpha's default goes by quality, 0 makes a control that stays idempotent; tau's
    goes by `metric`, and distances count in units of it. For `log_share` of the budget relu(1 - d / tau) is replaced by
    relu(-log(d / tau)), which has a gradient where d is near 0, weighted by `log_weight`. `passes` is "one" (each crop
    is either left clean or edited, `clean_share` of them clean: twice the steps in the same time) or "both" (the
    paper's: each crop clean and edited). Crops are moved by up to 15 pixels with probability `shift`, then edited in
    groups of `group` by one of `edits`. The distance is taken over a random window of `window` pixels (0: the whole
    crop): VGG costs more than the codec. `carrier` weighs the losses of the carrier that the recipe's carrier stage
    made, `caution` false alarms among them.
    """

    metric: str = "lpips"
    alpha: float | None = None
    tau: float | None = None
    log_share: float = 0.5
    log_weight: float = 0.4
    passes: str = "one"
    clean_share: float = 0.25
    shift: float = 0.9
    group: int = 2
    window: int = 0
    carrier: float = 0.0
    caution: float = 2.0
    start: str = ""
    edits: tuple[Mapping[str, Any], ...] = ()
    clip: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.passes in ("one", "both"), "passes", "one or both", self.passes)
        _require(self.alpha is None or self.alpha >= 0, "alpha", "0 or more", self.alpha)
        _require(self.window == 0 or self.window >= 64, "window", "0, or at least 64", self.window)
        _require(self.metric in DISTANCES, "metric", f"one of {', '.join(DISTANCES)}", self.metric)
        _require(self.margin > 0, "tau", "more than 0", self.tau)
        for key in ("log_share", "clean_share", "shift"):
            _require(0 <= getattr(self, key) <= 1, key, "0 to 1", getattr(self, key))

    @property
    def margin(self) -> float:
        """The paper's tau: the distance from which on a picture counts as destroyed."""
        return TAUS[self.metric] if self.tau is None else self.tau


@dataclass(frozen=True)
class EntropyTable(StageTable):
    """Training of the entropy model alone: the transforms, and so the pictures, stay as they are.

    `start` is the name of a model or the path of weights; if empty, what this run's slic or base stage left. mbt2018
    takes the transforms of a scale hyperprior with the same N and M. `metric` is that of the codec it starts from, for
    the model's metadata. Networks around the hyper-latents learn `hyper_rate` times as fast.
    """

    start: str = ""
    metric: str = "none"
    hyper_rate: float = 1.0
    learning_rate: float = 3e-4


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; a stage that is None is not part of it."""

    model: ModelTable
    data: DataTable = field(default_factory=DataTable)
    base: BaseTable | None = None
    jpeg_sim: JpegSimTable | None = None
    carrier: CarrierTable | None = None
    slic: SlicTable | None = None
    entropy: EntropyTable | None = None
    about: str = ""

    def __post_init__(self) -> None:
        _require(any(self.stage(name) for name in STAGES), "recipe", f"one of [{'], ['.join(STAGES)}]", "none")
        most = (self.model.n, self.model.n, self.model.n, self.model.m)
        room = all(width <= top for width, top in zip(self.widths(self.carrier is not None), most, strict=True))
        own = carrier_widths(self.model.architecture)
        residual = self.model.architecture == _RESIDUAL
        norms = (self.base.norm_rate, self.base.wake) if self.base else (0.0, 0.0)
        _require(not (residual and any(norms)), "base.norm_rate and base.wake", f"0 for {_RESIDUAL}", norms)
        _require(room, "model.widths", f"{own} channels less than {most}, for the carrier", self.model.widths)

    def stage(self, name: str) -> StageTable | None:
        """The table of a stage of that name."""
        table: StageTable | None = getattr(self, name.replace("-", "_"))
        return table

    def widths(self, carried: bool = False) -> tuple[int, ...]:
        """Channels in use after the four analysis convolutions, those of the carrier included if it is `carried`."""
        model = self.model
        plain = model.widths or (model.n, model.n, model.n, model.m)
        return tuple(map(sum, zip(plain, carrier_widths(model.architecture), strict=True))) if carried else plain

    @property
    def stages(self) -> list[str]:
        """The names of the stages this recipe has, in the order in which they run."""
        return [name for name in STAGES if self.stage(name)]


def carrier_widths(architecture: str) -> tuple[int, ...]:
    """Channels that a carrier takes of a codec's widths."""
    return _RESIDUAL_CARRIER_WIDTHS if architecture == _RESIDUAL else _CARRIER_WIDTHS


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in _shipped().iterdir() if entry.name.endswith(_SUFFIX))


def _shipped() -> Any:
    return resources.files("slic_cli.training") / "recipes"


def read_recipe(name_or_path: str) -> tuple[Recipe, str]:
    """A shipped recipe by name, or a .toml file by path: (recipe, its text). Raises UsageError."""
    if name_or_path in recipe_names():
        text = (_shipped() / f"{name_or_path}{_SUFFIX}").read_text(encoding="utf-8")
    elif name_or_path.endswith(_SUFFIX):
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"{name_or_path}: expected a readable recipe, got: {error}") from error
    else:
        raise UsageError(f"expected a {_SUFFIX} file or one of {', '.join(recipe_names())}, got {name_or_path!r}")
    return parse_recipe(text, name_or_path), text


def parse_recipe(text: str, where: str = "recipe") -> Recipe:
    """The recipe that a TOML text holds. Raises UsageError naming `where` and the key."""
    try:
        return _build(Recipe, {key.replace("-", "_"): value for key, value in tomllib.loads(text).items()})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: expected TOML, got: {error}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _build(cls: type[Table], table: Mapping[str, Any]) -> Table:
    """A dataclass from a TOML table: unknown and missing keys and wrong types are named."""
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(cls)
    for key in table:
        _require(key in fields, key, f"one of {', '.join(fields)}", "an unknown key")
    for name, item in fields.items():
        needed = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        _require(not needed or name in table, name, "a value", None)
    return cls(**{key: _convert(kinds[key], value, key) for key, value in table.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    if isinstance(kind, types.UnionType):
        kind = next(part for part in kind.__args__ if part is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        _require(isinstance(value, Mapping), key, "a table", value)
        try:
            return _build(typing.cast(type[Any], kind), value)
        except UsageError as error:
            raise UsageError(f"{key}.{error}") from error
    if typing.get_origin(kind) is tuple:
        return _convert_list(kind, value, key)
    whole = kind is float and isinstance(value, int) and not isinstance(value, bool)
    _require(type(value) is kind or whole, key, _KINDS[kind], value)
    return float(value) if whole else value


def _convert_list(kind: Any, value: Any, key: str) -> tuple[Any, ...]:
    """tuple[int, int] is an ordered range, tuple[int, ...], tuple[float, ...] and tuple[str, ...] are lists,
    tuple[Mapping, ...] tables for others to check."""
    parts = typing.get_args(kind)
    _require(isinstance(value, list), key, "a list", value)
    if parts in ((float, ...), (str, ...)):
        return tuple(_convert(parts[0], item, key) for item in value)
    if parts == (int, ...):
        _require(all(type(item) is int for item in value), key, "a list of whole numbers", value)
    elif parts[-1] is Ellipsis:
        _require(all(isinstance(item, Mapping) for item in value), key, "a list of tables", value)
    else:
        right = len(value) == len(parts) and all(type(item) is int for item in value) and value == sorted(value)
        _require(right, key, "two whole numbers in order", value)
    return tuple(value)


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def scale_budgets(recipe: Recipe, minutes: float | None, steps: int | None, stages: list[str]) -> Recipe:
    """The recipe with the budgets of `stages` made to sum to `minutes` or `steps`, in the recipe's proportions."""
    if minutes is None and steps is None:
        return recipe
    total = sum(table.amount for name in stages if (table := recipe.stage(name)))
    changed: dict[str, Any] = {}
    for name in stages:
        table = recipe.stage(name)
        if table is None:
            continue
        share = table.amount / total
        budget = {"minutes": minutes * share} if minutes is not None else {"steps": max(1, round((steps or 0) * share))}
        changed[name.replace("-", "_")] = dataclasses.replace(table, **({"minutes": None, "steps": None} | budget))
    return dataclasses.replace(recipe, **changed)
