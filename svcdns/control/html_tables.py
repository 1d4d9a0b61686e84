"""Sections and tables of the status page. Each text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

MANY_ROWS: Final = 50
"""The largest number of rows in a table. One more row states how many rows are left out."""


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]], *, wide: bool = False) -> str:
    """Returns a section with a table. If a head begins with `#`, its column has numbers."""
    if not rows:
        return ""
    numbers = [head.startswith("#") for head in heads]
    top = "".join(
        f'<th scope="col"{" class=n" if is_number else ""}>{escape(head.removeprefix("#"))}</th>'
        for head, is_number in zip(heads, numbers, strict=True)
    )
    body = "".join(f"<tr>{_cells(row, numbers)}</tr>" for row in rows[:MANY_ROWS])
    if len(rows) > MANY_ROWS:
        body += f'<tr><td colspan="{len(heads)}">and {len(rows) - MANY_ROWS} more</td></tr>'
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    return section(title, f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>', wide=wide)


def _cells(row: Iterable[object], numbers: Iterable[bool]) -> str:
    return "".join(
        f'<td class="{"n" if is_number else "name"}">{escape(str(cell))}</td>'
        for cell, is_number in zip(row, numbers, strict=True)
    )


def section(title: str, content: str, *, wide: bool = False) -> str:
    """Returns a section. `content` is HTML. A wide section takes the whole width of the window."""
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{content}</section>"


def number(value: float) -> str:
    """Returns a number with separators between thousands."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
