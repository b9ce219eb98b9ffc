"""All tables of a plan: functions of results that know nothing of files or pages.

A further table of the paper is one more function, named in BUILDERS and in plan.TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slic_cli.evaluation.edit_tables import table_3, table_4, table_5
from slic_cli.evaluation.harmless_table import table_harmless
from slic_cli.evaluation.rate_tables import table_rd
from slic_cli.evaluation.results import Results
from slic_cli.evaluation.simulation_table import table_a2
from slic_cli.evaluation.table import Table

BUILDERS: dict[str, Callable[[Results], Iterator[Table]]] = {
    "3": table_3, "4": table_4, "5": table_5, "rd": table_rd, "harmless": table_harmless,
    "A2": table_a2,
}  # fmt: skip


def build(results: Results) -> list[Table]:
    """The tables of the plan that have rows, in its order."""
    return [
        table for name in results.plan.tables if name in BUILDERS for table in BUILDERS[name](results) if table.rows
    ]
