"""Tables of results, and how figures are written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """One table of the results.

    Attributes:
        title: its heading.
        columns: the first one names the rows.
        rows: cells as text.
        notes: lines below it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def markdown(self, level: int = 3) -> str:
        """The table as GitHub's Markdown."""
        lines = [
            f"{'#' * level} {self.title}",
            "",
            _row(self.columns),
            _row(["---"] + ["---:"] * len(self.columns[1:])),
        ]
        lines += [_row(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def duration(nanoseconds: float) -> str:
    """A time with its unit, in three figures or so."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{nanoseconds:.0f} ns"


def ratio(value: float) -> str:
    """A ratio, such as `2.31x`."""
    return f"{value:,.2f}x" if value < 10 else f"{value:,.1f}x" if value < 100 else f"{value:,.0f}x"
