"""The reference and the man pages that are made from the commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.manpages import roff, write
from scripts.reference import Page, Paragraph, markdown, pages
from vfs.cli import COMMANDS

DOCS = Path(__file__).parents[3] / "docs"


def test_the_reference_is_up_to_date() -> None:
    written = (DOCS / "cli.md").read_text("utf-8")
    assert written == markdown(), "docs/cli.md is out of date; write it anew with:  ./scripts/docs"


def test_each_command_has_a_page_and_names_what_is_below_it() -> None:
    found = {page.name: page for page in pages()}
    assert {f"artisync {name}" for name in COMMANDS} < set(found)
    assert "artisync cache info" in found
    assert [name for name, _ in found["artisync"].commands] == list(COMMANDS)
    assert all(page.summary and page.paragraphs for page in found.values())


def test_a_page_has_the_commands_usage_text_and_options() -> None:
    text = markdown()
    start = text.index("## artisync connect\n")
    connect = text[start : text.index("\n## ", start)]
    assert "\n    artisync connect [OPTIONS] LINE...\n" in connect
    assert '\n    artisync connect "ssh -p 30022 user@host"\n' in connect
    assert "| `--transport [paramiko\\|openssh]` | SSH implementation" in connect
    assert "--verbose" not in connect


AWKWARD = Page(
    "artisync odd",
    "artisync odd [OPTIONS] 'X",
    '.begins with a dot, has "quotes" and \\n',
    [
        Paragraph(".PP is `no request`"),
        Paragraph("'nor this\n.nor this \\fB", verbatim=True),
    ],
    [("-o, --odd [a|b]", "'tis .odd \\e")],
    [],
)


@pytest.fixture(params=[page.name for page in pages()] + [AWKWARD.name])
def page(request: pytest.FixtureRequest) -> Page:
    return {AWKWARD.name: AWKWARD, **{page.name: page for page in pages()}}[request.param]


def test_man_understands_each_page(page: Page) -> None:
    if shutil.which("groff") is None:
        pytest.skip("no groff on this machine")
    done = subprocess.run(
        ["groff", "-man", "-K", "utf8", "-T", "utf8", "-ww", "-P", "-cbou"],
        input=roff(page),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    for _, text in page.options:
        assert text.split()[0].replace("`", "") in shown
    if page is AWKWARD:
        for line in ('.begins with a dot, has "quotes" and \\n', ".PP is no request", ".nor this \\fB"):
            assert line in shown


def test_whatis_finds_the_name_and_the_summary(tmp_path: Path) -> None:
    if shutil.which("lexgrog") is None:
        pytest.skip("no man-db on this machine")
    written = write(tmp_path / "man1")
    assert tmp_path / "man1" / "artisync-cache-info.1" in written
    done = subprocess.run(["lexgrog", *written], capture_output=True, text=True, check=True)
    assert '"artisync-unmount - Unmount' in done.stdout
    assert len(done.stdout.splitlines()) == len(written)
