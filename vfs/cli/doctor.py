"""`artisync doctor`: runs the checks of `commands/doctor` and prints what they find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from vfs.cli import console, remote_names
from vfs.cli.options import BASE, Command, given_options, json_option

if TYPE_CHECKING:
    from vfs.commands.doctor.finding import Finding

MARKS = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "skipped": ("–", "dim"),
}


class _NoNewHosts(console.TerminalPrompter):
    """Asks for passphrases and never accepts a host key: the check of the key reports it."""

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        return False


@click.command(name="doctor", cls=Command)
@given_options(*BASE, "cache_size", "timeout", "transport", "accept_new_host_key")
@click.argument("experiment", required=False, shell_complete=remote_names.paths(experiments=True))
@json_option()
def command(given: dict[str, Any], experiment: str | None, as_json: bool) -> int:
    """Find out what is wrong.

    Checks everything from FUSE to the experiments on the server, or only EXPERIMENT there: ✓ ok, ! worth a look, ✗ wrong,
    – skipped; with the next step to take. Each check takes at most 10 seconds, or --timeout. The exit code is 1 if
    there is a ✗. The output contains no secrets; it is safe to paste.
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
    """Print each finding when its check ends. Returns the exit code."""
    from rich.text import Text

    from vfs.commands.doctor.examine import TITLES

    out = console.stdout()
    margin = max(map(len, TITLES.values())) + 4
    code = 0
    for finding in findings:
        mark, style = MARKS[finding.result]
        code = 1 if finding.result == "failed" else code
        title = f"{mark} {TITLES[finding.check]}".ljust(margin)
        lines = console.wrap(console.printable(finding.text), out.width - margin)
        if finding.next:
            first, *more = console.wrap(console.printable(finding.next), out.width - margin - 2)
            lines += [f"→ {first}", *(f"  {line}" for line in more)]
        text = f"\n{' ' * margin}".join(lines)
        line = Text.assemble((title[:1], style), title[1:], (text, "dim" if style == "dim" else ""))
        out.print(line, soft_wrap=True)  # what is longer than a line stays one word, to be copied
    return code
