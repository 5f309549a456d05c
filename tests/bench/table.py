"""Results as a page of Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.bench.results import CaseResult, Outcome, spread

ABSENT = "–"

HEAD = """# Benchmarks

Written by `scripts/bench`; each table names the command that made it. A cell is the median of all rounds, with the least
and the most in brackets. All peers ran in alternation in one run, against one sshd with one cipher (AES-128-GCM). A mount is mounted
before the clock starts and has an empty cache; a copy begins with connecting.
"""


def number(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if 0 < abs(value) < 0.001:
        return "< 0.001"
    return f"{value:.3g}"


def cell(values: Iterable[float]) -> str:
    """Median, and the ends where there was more than one round."""
    found = list(values)
    if not found:
        return ABSENT
    median, least, most, rounds = spread(found)
    return number(median) if rounds == 1 else f"{number(median)} ({number(least)}–{number(most)})"


def rows(head: list[str], body: list[list[str]]) -> str:
    """A table; all columns but the first are set to the right."""
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])


def case_table(case: CaseResult) -> str:
    """One case: what was measured, the table, the reasons of what is missing, and where it ran."""
    head = ["", *(f"{figure.label}, {figure.unit}" for figure in case.figures.values())]
    body = [_row(case, outcome) for outcome in case.outcomes if outcome.values]
    notes = [f"- {outcome.peer}: {outcome.note}" for outcome in case.outcomes if outcome.note]
    machine = ", ".join(case.machine.values())
    versions = ", ".join(f"{name} {version}" for name, version in case.versions.items())
    parts = [f"## {case.name}: {case.title}", rows(head, body) if body else "", "\n".join(notes)]
    rounds = "one round" if case.rounds == 1 else f"{case.rounds} rounds"
    parts.append(f"`{case.command}`, {rounds}, {case.date}. {machine}. {versions}.")
    return "\n\n".join(part for part in parts if part)


def page(cases: Mapping[str, CaseResult], picture: str | None = None) -> str:
    """The whole page. `picture`: the file name of the plot beside it."""
    parts = [HEAD.rstrip()]
    if picture is not None:
        parts.append(f"![the cases as bars]({picture})")
    parts += [case_table(case) for case in cases.values()]
    return "\n\n".join(parts) + "\n"


def _row(case: CaseResult, outcome: Outcome) -> list[str]:
    return [outcome.peer, *(cell(outcome.values.get(key, ())) for key in case.figures)]
