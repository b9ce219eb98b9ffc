"""What an evaluation measures: which models, which edits, which tables, and the jobs they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slic_cli.attacks import missing_format, parse_attacks
from slic_cli.errors import MissingModel, UsageError
from slic_cli.evaluation import file_codecs, paper, simulations
from slic_cli.evaluation.records import Job
from slic_cli.registry import ModelSpec, find_model, list_models

TABLES = ("3", "4", "5", "rd", "harmless", "A2", "sheets")
_WITHOUT_MODELS = {"A2"}
VANILLA = "none"  # the metric of a codec that does not self-destruct

# The strengths of Table 2 as far as they are known (docs/attacks.md), and what happens to pictures besides.
EDITS = (
    "crop", "crop-grid", "blur", "blur:radius=2", "median", "median:size=5", "lighten", "sharpen", "equalize",
    "affine", "jpeg:quality=95", "jpeg", "jpeg:quality=75", "jpeg:quality=50", "webp", "avif", "jxl",
    "resize:scale=0.95", "resize", "resize:scale=0.5", "rotate", "rotate:degrees=10", "mirror", "turn", "grey", "noise",
    "darken", "copy-border", "screenshot", "splice", "inpaint",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """subjects: the models under test. bases: vanilla codecs that re-compress for Table 5 and stand beside the
    subjects in the rate-distortion curves. edits: texts of attacks. files: settings of file_codecs.
    simulations: coders of Table A2."""

    subjects: tuple[ModelSpec, ...]
    bases: tuple[ModelSpec, ...]
    edits: tuple[str, ...]
    tables: tuple[str, ...]
    files: tuple[str, ...]
    simulations: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """All models that may be loaded."""
        return tuple({spec.digest: spec for spec in (*self.subjects, *self.bases)}.values())

    @property
    def secured(self) -> tuple[ModelSpec, ...]:
        """The subjects that are meant to self-destruct."""
        return tuple(spec for spec in self.subjects if spec.metric != VANILLA)

    @property
    def by_metric(self) -> tuple[ModelSpec, ...]:
        """The subjects in the order of Table 3, vanilla codecs last."""
        return tuple(sorted(self.subjects, key=lambda spec: (spec.metric == VANILLA, spec.metric, spec.name)))

    def jobs(self) -> list[Job]:
        """All that is measured on each photograph; jobs on one picture follow one another."""
        photograph = [Job("", "", spec.digest) for spec in self.subjects] if _needs_models(self.tables) else []
        if {"5", "rd"} & set(self.tables):
            photograph += [Job("", "", spec.digest) for spec in self.bases]
        if "rd" in self.tables:
            photograph += [Job("", "", coder) for coder in self.files]
        if "harmless" in self.tables:
            photograph += [Job("", edit, spec.digest) for edit in self.edits for spec in self.secured]
        for quality in simulations.QUALITIES:
            photograph += [Job("", f"jpeg:quality={quality}", coder) for coder in self.simulations]
        decodes = [job for spec in self.subjects for job in self._jobs_on_decodes(spec)]
        return list(dict.fromkeys((*photograph, *decodes)))

    def _jobs_on_decodes(self, spec: ModelSpec) -> list[Job]:
        edits = self.edits if {"4", "harmless"} & set(self.tables) else self.paper_edits()
        clean = [Job(spec.digest, "", spec.digest)]
        if "5" in self.tables and spec in self.secured:
            clean += [Job(spec.digest, "", base.digest) for base in self.bases]
        if not {"3", "4", "harmless"} & set(self.tables):
            return clean[1:]
        return clean + [Job(spec.digest, edit, spec.digest) for edit in edits]

    def paper_edits(self) -> tuple[str, ...]:
        """Those of `edits` that are the paper's eight, at the default strengths."""
        eight = {attack.text for attack in parse_attacks(paper.EIGHT)}
        return tuple(edit for edit in self.edits if edit in eight)


def make_plan(
    models: Sequence[str], tables: str, edits: Sequence[str], unet: Path | None = None
) -> tuple[Plan, list[str]]:
    """The plan, and notes on what is left out. Raises UsageError, MissingModel, BadModelFile.

    Without `models` every registered model that self-destructs is a subject; vanilla codecs of the registry, and those
    named, are bases. Without `edits` they are EDITS, those left out for which a file format is missing here. `unet` has
    the weights of UNetJPEG.
    """
    names = parse_tables(tables)
    registered, notes = list_models()
    notes = [f"skipped {problem}" for problem in notes]
    subjects = [find_model(name) for name in models] or [spec for spec in registered if spec.metric != VANILLA]
    if not subjects and _needs_models(names):
        raise MissingModel("expected a model that self-destructs in the registry, got none; name one with --model")
    subjects = list({spec.digest: spec for spec in subjects}.values())
    bases = {spec.digest: spec for spec in (*subjects, *registered) if spec.metric == VANILLA}
    chosen = [attack.text for attack in parse_attacks(edits or EDITS)]
    absent = {text: missing_format(text.partition(":")[0]) for text in chosen}
    notes += [f"{text} is left out: needs {missing}" for text, missing in absent.items() if missing]
    kept = tuple(text for text in chosen if not absent[text])
    simulated = simulations.coders(unet) if "A2" in names else ()
    if simulated and unet is None:
        notes.append("UNetJPEG is left out of Table A2: needs --unet with its weights")
    files = tuple(file_codecs.coders())
    return Plan(tuple(subjects), tuple(bases.values()), kept, names, files, simulated), notes


def _needs_models(tables: Sequence[str]) -> bool:
    return not _WITHOUT_MODELS.issuperset(tables)


def parse_tables(text: str) -> tuple[str, ...]:
    """The tables named in a comma-separated list, in the order of TABLES. Raises UsageError."""
    known = {name.lower() for name in TABLES}
    asked = [name.strip().lower() for name in text.split(",")]
    for name in asked:
        if name not in known:
            raise UsageError(f"--tables: expected some of {','.join(TABLES)}, got {name!r}")
    return tuple(name for name in TABLES if name.lower() in asked)
