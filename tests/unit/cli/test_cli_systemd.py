"""`artisync mount --print-systemd-unit`, read by systemd itself where it is installed."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import Artisync
from vfs.base.address import Address
from vfs.base.profiles import Profile, save_profile
from vfs.cli.systemd import quoted

AWKWARD = "a \"b\" \\c %d $HOME\t\udcff é 'q'"


@pytest.fixture
def profile(home: Path) -> None:
    save_profile(Profile("default", Address.parse("ssh host")))


def commands(text: str, home: Path) -> dict[str, list[str]]:
    """The words of ExecStart and ExecStop as systemd has them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd on this machine")
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    unit = home / "artisync-test.service"
    unit.write_text(text)
    analyze = ["systemd-analyze", "--user", "verify", str(unit)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    done = subprocess.run(analyze, env=environment, capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not work here")
    assert (done.returncode, done.stderr) == (0, "")
    dump = subprocess.run(
        analyze,
        env={**environment, "SYSTEMD_LOG_LEVEL": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        check=True,
    ).stdout
    found = re.findall(r"-> (Exec\w+):\s+Command Line: (.*)", dump)
    return {name: [unescaped(word) for word in words(line)] for name, line in found}


def words(line: str) -> list[str]:
    return [a or b for a, b in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)]


def unescaped(word: str) -> str:
    word = re.sub(r"\\([$`\"])", r"\1", word)
    return os.fsdecode(codecs.escape_decode(word.encode())[0])


@pytest.mark.usefixtures("profile")
def test_the_unit_mounts_the_profile_at_login_and_unmounts(artisync: Artisync, home: Path) -> None:
    said = artisync("mount", "--print-systemd-unit", "artifacts")
    assert (said.code, said.err) == (0, "")
    assert not (home / "artifacts").exists()
    assert "~/.config/systemd/user/artisync-artifacts.service" in said.out
    python = [sys.executable, "-P", "-m", "vfs"]
    assert commands(said.out, home) == {
        "ExecStart": [*python, "mount", "--foreground", "--", str(home / "artifacts")],
        "ExecStop": [*python, "unmount", "--", str(home / "artifacts")],
    }


@pytest.mark.parametrize("name", ["a b", AWKWARD, "%h/$x", "-o", "'", "new\nline"])
@pytest.mark.usefixtures("profile")
def test_a_mount_point_of_any_name_is_understood(artisync: Artisync, home: Path, name: str) -> None:
    said = artisync("mount", "--print-systemd-unit", "--", name)
    assert said.code == 0
    found = commands(said.out, home)
    assert found["ExecStart"][-1] == found["ExecStop"][-1] == str(home / name)


def test_what_was_given_is_kept_in_a_form_that_holds_anywhere(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTISYNC_TTL", "9s")
    monkeypatch.setenv("ARTISYNC_PROFILE", "other")
    options = ["--ssh", "ssh -i key host", "--cache-dir", "c", "--log-file", "l", "--allow-other", "-v"]
    said = artisync("mount", "--foreground", "--print-systemd-unit", *options, "m")
    given = commands(said.out, home)["ExecStart"][5:]
    assert given == [
        "--foreground",
        f"--ssh=ssh -i {home / 'key'} host",
        f"--cache-dir={home / 'c'}",
        "--ttl=9s",
        "--allow-other",
        f"--log-file={home / 'l'}",
        "-v",
        "--",
        str(home / "m"),
    ]
    assert f'Environment="XDG_CONFIG_HOME={home / "config"}"\n' in said.out


def test_without_a_profile_no_unit_is_printed(artisync: Artisync) -> None:
    said = artisync("mount", "--print-systemd-unit", "m")
    assert (said.code, said.out) == (1, "")


def test_a_word_is_quoted_for_systemd() -> None:
    assert quoted('a "\\%\n\udcff') == '"a \\"\\\\%%\\x0a\\xff"'
