"""What shells complete: commands, options, profiles, and experiments from the last known tree."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tests.lab.terminal import Terminal
from tests.unit.conftest import Artisync
from vfs.base.address import Address
from vfs.base.profiles import Profile, profile_path, save_profile
from vfs.cache.disk import DiskCache
from vfs.cli import cli
from vfs.cli.completion import INSTALL
from vfs.files.records import KnownEntry, dump_listing, listing_key
from vfs.remote.api import Attributes

DIRECTORY = stat.S_IFDIR | 0o555
FILE = stat.S_IFREG | 0o444


def remember(disk: DiskCache, identity: str, directory: str, *names: str) -> None:
    """Leave a listing in the cache, as a mount does; names of directories end in a slash."""
    entries = [
        KnownEntry(
            os.fsencode(name.rstrip("/")), Attributes(DIRECTORY if name.endswith("/") else FILE), False, b""
        )
        for name in names
    ]
    disk.set_record(listing_key(identity, os.fsencode(directory)), dump_listing(entries))
    assert disk.flush(10)


@pytest.fixture
def known(home: Path) -> DiskCache:
    """The default profile and what an earlier mount saw of its server; the cache stays open."""
    save_profile(Profile("default", Address.parse("ssh host"), id="0f"))
    save_profile(Profile("lab", Address.parse("ssh lab"), "/data", id="0e"))
    disk = DiskCache.open(home / "cache" / "artisync", 1 << 30)
    names = ("exp-2/", "exp-1/", "exp 'x/", "notes.txt", "exp\x1b/", "\udcff/")
    remember(disk, "profile:0f:/shared/artifacts", "", *names)
    remember(disk, "profile:0f:/shared/artifacts", "exp-1", "checkpoints/", "config.yaml")
    remember(disk, "profile:0e:/data", "", "lab-1/")
    return disk


def completed(*words: str) -> list[str]:
    """What comes for the last word."""
    shell = ShellComplete(cli, {}, "artisync", "_ARTISYNC_COMPLETE")
    items = shell.get_completions(list(words[:-1]), words[-1])
    return [item.value for item in items if item.type == "plain"]


def test_commands_and_options_are_completed(home: Path) -> None:
    assert completed("unm") == ["unmount"]
    assert completed("cache", "p") == ["prune"]
    assert completed("mount", "--cache") == ["--cache-dir", "--cache-size"]
    assert completed("mount", "--transport", "") == ["paramiko", "openssh"]


@pytest.mark.usefixtures("known")
def test_experiments_are_completed_from_the_last_known_tree() -> None:
    assert completed("ls", "") == ["exp 'x", "exp-1", "exp-2"]
    assert completed("ls", "exp-") == ["exp-1", "exp-2"]
    assert completed("pull", "exp-1", "exp-2") == ["exp-2"]
    assert completed("wait", "exp-1") == completed("tensorboard", "exp-2", "exp-1") == ["exp-1"]
    assert completed("doctor", "exp-2") == ["exp-2"]
    assert completed("ls", "none") == []


@pytest.mark.usefixtures("known")
def test_paths_are_completed_a_directory_at_a_time() -> None:
    assert completed("cat", "n") == ["notes.txt"]
    assert completed("cat", "exp-1") == ["exp-1/"]
    assert completed("prefetch", "exp-1/") == ["exp-1/checkpoints/", "exp-1/config.yaml"]
    assert completed("pin", "notes.txt", "exp-1/che") == ["exp-1/checkpoints/"]
    assert completed("unpin", "exp-2/") == []


@pytest.mark.usefixtures("known")
def test_the_server_that_is_named_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("ls", "--profile", "lab", "") == ["lab-1"]
    assert completed("ls", "--profile=lab", "--remote-root", "/other", "") == []
    monkeypatch.setenv("ARTISYNC_PROFILE", "lab")
    assert completed("ls", "") == ["lab-1"]
    assert completed("ls", "--ssh", "ssh me@elsewhere", "") == []


@pytest.mark.usefixtures("known")
def test_profiles_are_completed() -> None:
    assert completed("mount", "--profile", "") == ["default", "lab"]
    assert completed("profile", "remove", "l") == ["lab"]


def test_without_a_profile_or_a_cache_there_is_nothing_to_complete_and_nothing_is_made(home: Path) -> None:
    assert completed("ls", "") == []
    save_profile(Profile("default", Address.parse("ssh host")))
    assert completed("ls", "") == []
    profile_path("default").write_text("{")
    assert completed("ls", "") == []
    assert not (home / "cache").exists()


def test_a_cache_that_cannot_be_read_completes_nothing(known: DiskCache) -> None:
    known.close()
    database = known.directory / "cache.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE Cache SET value = x'00' WHERE filename IS NULL")
    connection.close()
    assert completed("ls", "") == []
    database.write_bytes(b"no database" * 1000)
    assert completed("ls", "") == []


def test_a_cache_that_is_being_written_is_read_all_the_same(known: DiskCache) -> None:
    connection = sqlite3.connect(known.directory / "cache.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        assert completed("ls", "exp-1") == ["exp-1"]
    finally:
        connection.close()


@pytest.fixture
def program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`artisync` on the PATH."""
    script = home / "bin" / "artisync"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m vfs "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


def shell(name: str, program: str) -> list[str]:
    """The lines that a shell prints."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on this machine")
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run(
        [name, *flags, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", sorted(INSTALL))
def test_the_script_is_one_that_the_shell_understands_and_says_where_it_goes(
    artisync: Artisync, home: Path, name: str
) -> None:
    script = artisync("completion", name).out
    assert f"#   artisync completion {name} > " in script
    if name == "zsh":
        assert script.startswith("#compdef artisync\n")
    (home / "script").write_text(script)
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on this machine")
    assert subprocess.run([name, "-n", home / "script"], check=False).returncode == 0


def test_a_shell_that_is_not_known_is_wrong_usage(artisync: Artisync) -> None:
    assert artisync("completion", "tcsh").code == 2


@pytest.mark.usefixtures("known", "program")
def test_bash_completes_experiments_and_quotes_them(artisync: Artisync, home: Path) -> None:
    (home / "script").write_text(artisync("completion", "bash").out)
    ask = 'COMP_WORDS=({}); COMP_CWORD=2; compopt() {{ :; }}; _artisync_completion artisync; printf "%s\\n" "${{COMPREPLY[@]}}"'
    load = f"source {home / 'script'}\n"
    assert shell("bash", load + ask.format("artisync ls exp")) == ["exp\\ \\'x", "exp-1", "exp-2"]
    assert shell("bash", load + ask.format("artisync ls exp-1")) == ["exp-1"]
    assert shell("bash", load + "complete -p artisync")[0].endswith("-F _artisync_completion artisync")


@pytest.mark.one_python
@pytest.mark.usefixtures("known", "program")
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("exp\\ ", "exp\\ \\'x"),
        ('"exp ', '"exp \'x"'),
        ("'exp ", "'exp '\\''x'"),
        ('"exp-1', '"exp-1"'),
        ("'exp-1", "'exp-1'"),
        ("exp-1", "exp-1"),
    ],
)
def test_bash_completes_within_an_open_quote(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch, typed: str, line: str
) -> None:
    (home / "script").write_text(artisync("completion", "bash").out)
    (home / "rc").write_text(
        f"PS1='ready> '; source {home / 'script'}; artisync() {{ printf '<%s>' \"$2\"; }}\n"
    )
    with Terminal(["bash", "--noprofile", "--rcfile", str(home / "rc"), "-i"], dict(os.environ)) as terminal:
        terminal.matches("ready> ")
        terminal.presses(f"artisync ls {typed}\t")
        terminal.matches(re.escape(f"artisync ls {line}"))
        terminal.presses("\n")
        terminal.matches(re.escape("<exp 'x>" if "x" in line[4:] else "<exp-1>"))
        terminal.presses("exit\n")


@pytest.mark.usefixtures("home")
def test_a_mount_point_is_a_directory() -> None:
    for words in (["mount"], ["unmount"], ["status"], ["demo"]):
        items = ShellComplete(cli, {}, "artisync", "_ARTISYNC_COMPLETE").get_completions(words, "art")
        assert [(item.type, item.value) for item in items] == [("dir", "art")]


@pytest.mark.usefixtures("known", "program")
def test_bash_takes_a_name_for_a_name_and_not_for_a_pattern(
    artisync: Artisync, home: Path, known: DiskCache
) -> None:
    remember(known, "profile:0f:/shared/artifacts", "", "a*/", "a,b/", "$(touch x)/")
    (home / "plain,a-file").touch()
    (home / "script").write_text(artisync("completion", "bash").out)
    ask = 'COMP_WORDS=(artisync ls {}); COMP_CWORD=2; compopt() {{ :; }}; _artisync_completion artisync; printf "%s\\n" "${{COMPREPLY[@]}}"'
    load = f"source {home / 'script'}\n"
    assert shell("bash", load + ask.format("a")) == ["a\\*", "a\\,b"]
    assert shell("bash", load + ask.format("'\\$'")) == ["\\$\\(touch\\ x\\)"]
    assert not (home / "x").exists()


@pytest.mark.usefixtures("known", "program")
def test_fish_completes_experiments(artisync: Artisync, home: Path) -> None:
    (home / "script").write_text(artisync("completion", "fish").out)
    load = f"source {home / 'script'}\n"
    assert shell("fish", f"{load} complete -C 'artisync ls exp-'") == ["exp-1", "exp-2"]


@pytest.mark.usefixtures("known", "program")
def test_completing_loads_nothing_heavy(home: Path) -> None:
    program = "import sys\nfrom vfs.cli import run\ntry: run([])\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    asking = {"COMP_WORDS": "artisync ls exp-1", "COMP_CWORD": "2", "_ARTISYNC_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **asking},
    )
    assert done.stdout == "plain,exp-1\n"
    for heavy in ("paramiko", "cryptography", "rich", "vfs.stack", "vfs.fetch.fetcher", "mfusepy"):
        assert f"'{heavy}'" not in done.stderr
