"""Man pages, made from the commands: `python -m scripts.manpages DIR` writes them. Source: man(7)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from scripts.reference import INTRODUCTION, Page, Paragraph, pages
from vfs import __version__


def write(directory: Path) -> list[Path]:
    """Write a page for each command into `directory`, which is made if need be. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for page in pages():
        path = directory / f"{_title(page.name)}.1"
        path.write_text(roff(page), encoding="utf-8")
        written.append(path)
    return written


def roff(page: Page) -> str:
    """One page."""
    title = _title(page.name)
    lines = [
        f'.TH "{_text(title.upper())}" "1" "" "artisync {__version__}" "artisync"',
        ".nh",  # command names are not to be hyphenated
        ".SH NAME",
        f"{title} \\- {_text(page.summary)}",  # whatis(1) takes the first escaped minus for the separator
        ".SH SYNOPSIS",
        f".B {_text(page.name)}",
        _text(page.usage.removeprefix(page.name).strip()),
        ".SH DESCRIPTION",
        *_described(page.paragraphs),
    ]
    if page.name == "artisync":
        lines += _described([Paragraph(" ".join(part.split())) for part in INTRODUCTION.split("\n\n")])
    if page.options:
        lines += [".SH OPTIONS", *_listed(page.options)]
    if page.commands:
        lines += [".SH COMMANDS", *_listed(page.commands)]
    above = page.name.rpartition(" ")[0]
    related = [_title(above)] if above else []
    related += [f"{title}-{name}" for name, _ in page.commands]
    if related:
        lines += [".SH SEE ALSO", ",\n".join(f"\\fB{_text(name)}\\fR(1)" for name in related)]
    return "\n".join(lines) + "\n"


def _title(name: str) -> str:
    return name.replace(" ", "-")


def _described(paragraphs: list[Paragraph]) -> list[str]:
    lines = []
    for paragraph in paragraphs:
        if paragraph.verbatim:
            lines += [".PP", ".RS 4", ".nf", *map(_text, paragraph.text.split("\n")), ".fi", ".RE"]
        else:
            lines += [".PP", _text(paragraph.text)]
    return lines


def _listed(rows: list[tuple[str, str]]) -> list[str]:
    return [line for names, text in rows for line in (".TP", f"\\fB{_text(names)}\\fR", _text(text))]


def _text(text: str) -> str:
    """A line of text such that nothing of it is a request or an escape; what is between backticks is bold."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    escaped = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
    return re.sub(r"^([.'])", r"\\&\1", escaped)


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
