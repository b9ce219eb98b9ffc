"""What a table is: rows of named cells, and how its columns show them."""

from __future__ import annotations

from dataclasses import dataclass

Cell = str | float | int | None
Row = dict[str, Cell]


@dataclass(frozen=True)
class Column:
    """A column shows the cells of `key`; numbers with `digits` after the point, or as a percentage."""

    key: str
    heading: str
    digits: int = 2
    percent: bool = False


@dataclass(frozen=True)
class Table:
    """Table `name` for one data set; a missing cell is None. `model` is empty for a table of several."""

    name: str
    title: str
    note: str
    dataset: str
    model: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def shown(self) -> list[Column]:
        """The columns that have a cell at all."""
        return [column for column in self.columns if any(row.get(column.key) is not None for row in self.rows)]
