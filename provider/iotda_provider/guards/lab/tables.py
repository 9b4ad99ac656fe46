"""Text for people: tables, durations and counts as the command prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns that line up: the first to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [_line(line, widths) for line in lines]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join((first, *others)).rstrip()


def duration(seconds: float | None) -> str:
    """A time span, in the largest unit that keeps it readable."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: float | None) -> str:
    """A number of devices, rounded to whole ones from ten on."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def chance(share: float) -> str:
    """A probability; one that is merely small does not look like none."""
    if 0 < share < 0.0001:
        return "<.01 %"
    if 0.9999 < share < 1 - 1e-9:
        return ">99.99 %"
    return f"{100 * share:.3g} %" if share < 0.9995 else f"{100 * share:.4g} %"
