"""The table of docs/servers.md: what came of the contract, server by server; a run replaces what it ran."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.kinds import KINDS, PLACE

PAGE = Path(__file__).parents[2] / "docs/servers.md"
BEGIN, END = "<!-- the matrix: scripts/servers writes it -->\n", "<!-- the end of the matrix -->"
Row = dict[str, str]
"""What came of each test, by its name: passed, failed, or why it was skipped."""

_rows: defaultdict[str, Row] = defaultdict(dict)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = (yield).get_result()  # type: ignore[attr-defined]
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return
    kind, client = callspec.params.get("world", (callspec.params.get("kind"), "artisync"))
    if kind is None:
        return
    row = _rows[kind if client == "artisync" else f"{kind}, by {client}"]
    name = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        row.setdefault(name, reason.removeprefix("Skipped: "))
    elif report.failed or (expected and report.skipped):
        row[name] = "failed"
    elif report.when == "call":
        row.setdefault(name, "passed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Of the tests that did not run, what came of them before; no table until each server had its turn."""
    if "ARTISYNC_SERVERS" not in os.environ or session.shouldstop or not _rows:
        return
    kept = PLACE / "results.json"
    rows: dict[str, Row] = json.loads(kept.read_text()) if kept.exists() else {}
    for kind, row in _rows.items():
        rows.setdefault(kind, {}).update(row)
    kept.write_text(json.dumps(rows, indent=1))
    if KINDS.keys() - rows.keys():
        return
    rows = {kind: rows[kind] for kind in (*KINDS, *(kind for kind in rows if kind not in KINDS))}
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(rows)}{END}{after}")


def table(rows: dict[str, Row]) -> str:
    """In Markdown, a line for each server."""
    lines = ["| server | artisync | sshfs |", "|---|---|---|"]
    for kind, row in rows.items():
        if not kind.endswith(", by sshfs"):
            lines.append(f"| {kind} | {_cell(row)} | {_cell(rows.get(f'{kind}, by sshfs', {}))} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    failed = [name for name, outcome in row.items() if outcome == "failed"]
    passed = [name for name, outcome in row.items() if outcome == "passed"]
    if failed and not passed:
        return "nothing"
    if failed:
        return f"all but: {'; '.join(failed)}"
    return "all" if passed else next(iter(row.values()), "–")
