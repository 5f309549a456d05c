"""`artisync doctor`: the troubleshooting, walked by the program."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from vfs.cli import console
from vfs.cli.options import BASE, given_options, json_option
from vfs.cli.remote_names import Experiment

if TYPE_CHECKING:
    from vfs.commands.doctor.finding import Finding

MARKS = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "skipped": ("–", "dim"),
}


class _NoNewHosts(console.TerminalPrompter):
    """Asks for passphrases; a host key is looked at, and accepted elsewhere."""

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        return False


@click.command(name="doctor")
@given_options(*BASE, "cache_size", "timeout", "transport", "accept_new_host_key")
@click.argument("experiment", required=False, type=Experiment())
@json_option()
def command(given: dict[str, Any], experiment: str | None, as_json: bool) -> int:
    """Find out what is wrong, from FUSE to the experiments (or the one EXPERIMENT) on the server.

    A line for each check: ✓ is well, ! is worth a look, ✗ is wrong, – was not looked at; with the next step to take.
    Each takes 10 seconds at most, or --timeout. The exit code is 1 if there is a ✗. No secret is told: paste it where
    you ask for help.
    """
    from vfs.commands.doctor.examine import examine

    findings = examine(given, experiment, _NoNewHosts() if console.prompter() else None)
    if as_json:
        found = list(findings)
        well = not any(finding.result == "failed" for finding in found)
        console.print_json({"ok": well, "checks": [f.as_json() for f in found]})
        return 0 if well else 1
    return _tell(findings)


def _tell(findings: Iterable[Finding]) -> int:
    """Each as soon as it is there; the exit code."""
    from rich.text import Text

    from vfs.commands.doctor.examine import TITLES

    out = console.stdout()
    margin = max(map(len, TITLES.values())) + 4
    code = 0
    for finding in findings:
        mark, style = MARKS[finding.result]
        code = 1 if finding.result == "failed" else code
        title = f"{mark} {TITLES[finding.check]}".ljust(margin)
        lines = _wrapped(finding.text, out.width - margin)
        if finding.next:
            first, *more = _wrapped(finding.next, out.width - margin - 2)
            lines += [f"→ {first}", *(f"  {line}" for line in more)]
        text = f"\n{' ' * margin}".join(lines)
        line = Text.assemble((title[:1], style), title[1:], (text, "dim" if style == "dim" else ""))
        out.print(line, soft_wrap=True)  # what is longer than a line stays one word, to be copied
    return code


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a width; paths and fingerprints are not broken."""
    shown = console.printable(text)
    return textwrap.wrap(shown, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]
