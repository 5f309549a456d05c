"""Names and words of a hostile server through every command: none drives the terminal or makes a line of its own."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.hostile_names import NAMES, WORDS, dangerous
from tests.unit.commands.in_memory import Commands, Remote
from vfs.base import errors
from vfs.base.printable import printable
from vfs.base.progress import Progress
from vfs.cli import console, logs, progress, run, status_view
from vfs.remote.sftp import wire
from vfs.remote.ssh import ssh_errors

pytestmark = pytest.mark.one_python


@dataclass
class Looked:
    """Runs commands, and looks at all that they say."""

    commands: Commands
    log: bytes = b""

    def __call__(self, *words: str | bytes | Path, code: int | None = 0) -> bytes:
        """What the command wrote to stdout; fails the test when something dangerous went anywhere."""
        said = self.commands.run(*words)
        assert code is None or said.code == code, (words, said.err)
        assert dangerous(said.out) == "", words
        assert dangerous(said.err) == "", words
        self.log = said.err
        return said.out


@pytest.fixture
def artisync(home: Path, monkeypatch: pytest.MonkeyPatch) -> Looked:
    commands = Commands.on(monkeypatch)
    for name in NAMES:
        for path in (name + b"/" + name + b".pt", name + b"/sub" + name + b"/" + name):
            commands.file(path, b"x" * 10)
    return Looked(commands)


def test_listings(artisync: Looked) -> None:
    lines = artisync("ls").decode().splitlines()
    assert len(lines) == len(NAMES)
    assert {line.count("\t") for line in lines} == {5}
    for name in NAMES:
        lines = artisync("ls", name).decode().splitlines()
        assert len(lines) == 2, "one line for each file"
        assert {line.count("\t") for line in lines} == {3}


def test_programs_get_the_very_names(artisync: Looked) -> None:
    found = json.loads(artisync("ls", "--json"))
    assert {os.fsencode(row["name"]) for row in found} == set(NAMES)
    (plan,) = [json.loads(artisync("pull", NAMES[5], "out", "--dry-run", "--json"))]
    assert os.fsencode(plan[0]["name"]).startswith(NAMES[5] + b"/")


def test_copies(artisync: Looked, home: Path) -> None:
    planned = artisync("pull", "--all", "out", "--dry-run").decode().splitlines()
    assert len(planned) == 2 * len(NAMES)
    artisync("pull", "--all", "out", "-vv")
    assert {os.fsencode(path) for path in os.listdir(home / "out")} >= set(NAMES)
    for name in NAMES:
        changed = home / "out" / os.fsdecode(name) / os.fsdecode(name + b".pt")
        changed.write_text("mine")
        artisync("pull", name, "out", code=None)
        artisync("inspect", changed, code=None)
    artisync("pull", "--all", "out")
    assert b"was changed here" in artisync.log


def test_each_command_that_takes_a_name(artisync: Looked) -> None:
    for name in NAMES:
        artisync("cat", name + b"/none" + name, code=1)
        artisync("cat", name, code=2)
        artisync("prefetch", name)
        artisync("pin", name + b"/" + name + b".pt", "-vv")
        artisync("unpin", name)
        artisync("wait", name, "--settle", "0s")
        artisync("wait", b"none" + name, "--timeout", "0.01s", code=1)
        artisync("prefetch", b"none" + name, code=None)
        artisync("ls", b"none" + name, code=1)
        artisync("ls", b"--" + name, code=2)
        artisync("--" + os.fsdecode(name), code=2)
        artisync(name, code=2)
        artisync("status", name, code=1)
        artisync("unmount", name, code=1)
        artisync("mount", "m", b"--log-file=" + name + b"/x", "--ttl", name, code=2)
        artisync("doctor", name, "--ssh", name, code=None)


def test_the_cache(artisync: Looked, home: Path) -> None:
    artisync("prefetch", *NAMES)
    lines = artisync("cache", "info").decode().splitlines()
    assert len(lines) == len(NAMES)
    for block in (home / "cache").glob("artisync/blocks/*/*/*"):
        block.write_bytes(block.read_bytes().replace(b"x" * 10, b"y" * 10))
    damaged = artisync("cache", "verify", code=1).decode().splitlines()
    assert len(damaged) == 2 * len(NAMES)


def test_a_profile(artisync: Looked) -> None:
    artisync("connect", "ssh -p 3 host", "--remote-root", b"/shared/artifacts/" + NAMES[0])
    artisync("profile", "list")
    artisync("profile", "show")
    for name in NAMES:
        artisync("profile", "show", name, code=None)
        artisync("connect", b"ssh -i '" + name + b"' host", code=None)


def test_the_servers_words(artisync: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dangerous(wire.words(WORDS.encode()).encode()) == ""

    async def refused(*_: object, **__: object) -> None:
        raise ssh_errors.error_of(f"ssh: {WORDS}", f"host{WORDS}")

    async def failed(*_: object, **__: object) -> None:
        raise errors.ServerFailure(f"{WORDS}: {WORDS}")

    for way in (refused, failed):
        monkeypatch.setattr(Remote, "connect", way)
        for words in (["ls"], ["connect", "ssh host"], ["pull", "--all", "out"], ["-vv", "ls"]):
            artisync(*words, code=1)
    assert b"Traceback" in artisync.log


def test_logs(artisync: Looked, home: Path) -> None:
    artisync("status", "-vv")
    logs.to_file(logs.open_log(home / "log"))
    log = logging.getLogger("vfs.test")
    log.warning("a name: %s", WORDS)
    try:
        try:
            raise OSError(WORDS)
        except OSError as error:
            raise errors.NoSuchPath(WORDS) from error
    except errors.NoSuchPath as error:
        log.error("%s", WORDS, exc_info=error)
    text = (home / "log").read_bytes()
    assert dangerous(text) == ""
    assert text.count(b"Traceback") == 2


def test_lines_of_our_own_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.tell_error(errors.TensorBoardFailed("one\ntwo\x1b"))
    assert capsys.readouterr().err.splitlines()[:2] == ["artisync: one", "two\\x1b"]
    console.tell("a", "b\nc")
    assert capsys.readouterr().err == "a\nb\\nc\n"


def test_questions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n" * 4))
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "")
    person = console.TerminalPrompter()
    person.accept_host_key(WORDS, WORDS, WORDS, None)
    person.accept_host_key(WORDS, WORDS, WORDS, WORDS)
    person.passphrase(WORDS)
    console.confirm(WORDS)
    assert dangerous(capsys.readouterr().err.encode()) == ""
    assert dangerous(asked[0].encode()) == ""


def test_what_a_live_mount_says() -> None:
    mount = {
        "mountpoint": WORDS,
        "state": WORDS,
        "problem": WORDS,
        "address": WORDS,
        "root": WORDS,
        "profile": WORDS,
        "transport": WORDS,
        "cache": {"directory": WORDS},
        "fetches": [{"path": WORDS, "size": 10, "done": 5}, {"path": WORDS}],
    }
    for answer in (mount, {"mountpoint": WORDS, "error": WORDS, "state": "silent"}):
        assert dangerous(status_view.render([answer]).plain.encode()) == ""


def test_a_progress_bar() -> None:
    drawn = progress.description(Progress(doing=f"a\n{WORDS}"), 80)
    assert dangerous(drawn.encode()) == ""
    assert "\n" not in drawn


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completions(artisync: Looked, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    artisync("ls")
    monkeypatch.setenv("COMP_WORDS", "artisync ls exp")
    monkeypatch.setenv("COMP_CWORD", "exp" if kind == "fish" else "2")
    monkeypatch.setenv("_ARTISYNC_COMPLETE", f"{kind}_complete")
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run([])
    out.flush()
    said = out.buffer.getvalue()  # type: ignore[attr-defined]
    assert dangerous(said) == ""
    assert "exp-é-語-🙂" in said.decode()
    assert said.decode().count("exp") == 3, "what cannot be shown is not offered"


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_an_encoding_that_lacks_characters_is_no_error(encoding: dict[str, str], home: Path) -> None:
    odd = b"exp\xff-" + "é-語-🙂.pt".encode()
    (home / os.fsdecode(odd)).write_bytes(b"\x93NUMPY")
    for words in (["inspect", odd], ["doctor", "--ssh", "ssh -p 1 127.0.0.1"], ["status", odd]):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "vfs", *words],
            env={**environment, **encoding, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            check=False,
        )
        assert b"Error" not in done.stderr
        assert b"unexpected" not in done.stderr
        assert done.returncode < 3


def test_all_of_unicode_comes_out_on_one_line_and_can_be_told_apart() -> None:
    planes = (range(0x32400), range(0xDFF00, 0xE0200), range(0x10FF00, 0x110000))  # between them is nothing
    shown = [printable(chr(code)) for code in itertools.chain(*planes)]
    assert all(text.isprintable() for text in shown)
    assert len(set(shown)) == len(shown)
    assert [printable(os.fsdecode(bytes([code]))) for code in (0x80, 0xFF)] == ["\\x80", "\\xff"]
