"""Tables for people: fields under each other, and none of them broken."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

GAP = 2
"""Spaces between two columns."""
WIDEST = 80
"""Columns that a first field may take where there is no width to fit into."""


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def first_width(names: Sequence[str], room: int) -> int:
    """The width of a first column, its title being the first of `names`. Those that take more than `room` do not count."""
    return max(cells(names[0]), *(width for name in names if (width := cells(name)) <= room), 0)


def lay_out(
    rows: Sequence[Sequence[str]], *, right: Collection[int], width: int | None, indent: int = 0
) -> Iterator[list[str]]:
    """The lines of each row, the first row being the titles. The columns in `right` are set to the right. `width` None: no bound.

    A field that does not fit into `width` beside those before it goes on in a line of its own, as does what follows a
    long first field.
    """
    columns = list(zip(*rows, strict=True))
    widths = [0, *(max(map(cells, column)) for column in columns[1:])]
    room = WIDEST if width is None else width - indent - sum(GAP + one for one in widths[1:])
    widths[0] = first_width(columns[0], room)
    starts = [indent + sum(GAP + one for one in widths[:i]) for i in range(len(widths))]
    for row in rows:
        lines = [""]
        for i, field in enumerate(row):
            if not field:
                continue
            used, needed = cells(lines[-1]), cells(field)
            start = starts[i] + (widths[i] - needed if i in right else 0)
            if width is None:
                start = max(start, used + GAP if used else 0)
            elif used and (used + GAP > start or start + needed > width >= indent + GAP + needed):
                lines.append("")
                used, start = 0, max(indent + GAP, min(start, width - needed))
            lines[-1] += " " * (start - used) + field
        yield lines
