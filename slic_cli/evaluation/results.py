"""The records of one run, ready for tables: who was measured on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from slic_cli.attacks import parse_attack
from slic_cli.evaluation.plan import Plan
from slic_cli.evaluation.records import Figures, Job


@dataclass
class Results:
    """figures: by digest of the photograph and job. pictures: names by digest, for each data set.

    skipped: one line for each file or job that could not be measured.
    """

    plan: Plan
    settings: str
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    figures: dict[tuple[str, Job], Figures] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def values(self, dataset: str, job: Job, figure: str = "psnr_db") -> list[float]:
        """One figure of a job, picture by picture; those that do not have it are left out."""
        found = (self.figures.get((picture, job)) for picture in self.pictures[dataset])
        return [figures[figure] for figures in found if figures is not None and figure in figures]

    def mean(self, dataset: str, job: Job, figure: str = "psnr_db") -> float | None:
        """The mean over a data set; None if no picture has the figure."""
        values = self.values(dataset, job, figure)
        return fmean(values) if values else None

    def model_names(self) -> Mapping[str, str]:
        """Names of the models by digest."""
        return {spec.digest: spec.name for spec in self.plan.models}


def edit_label(text: str) -> str:
    """The short name of an edit for people."""
    return parse_attack(text).label if text else "no edit"
