"""What is published: a wheel and an sdist, and the wheel installed where nothing of ours is."""

from __future__ import annotations

import configparser
import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from vfs.cli import COMMANDS

pytest.importorskip("build", reason="no `build` in this environment")

REPO = Path(__file__).parents[2]
OFFLINE = ("NewConnectionError", "Failed to resolve", "Temporary failure in name resolution")
"""What pip says without a network."""


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program away from this repository; skips the test where pip would need a network that is not there."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run(
        list(map(str, words)),
        env=variables,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode != 0 and any(word in done.stdout + done.stderr for word in OFFLINE):
        pytest.skip("the package index cannot be reached")
    return done


def build(source: Path, into: Path, *words: str) -> None:
    done = run(sys.executable, "-m", "build", *words, "--outdir", into, source)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Built:
    sdist: Path
    wheel: Path
    """Made from the sdist."""

    def read(self, name: str) -> str:
        """A file of the wheel's metadata."""
        with zipfile.ZipFile(self.wheel) as wheel:
            [path] = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
            return wheel.read(path).decode()

    @property
    def metadata(self) -> Message:
        return email.message_from_string(self.read("METADATA"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    into = tmp_path_factory.mktemp("dist")
    build(REPO, into)
    [sdist], [wheel] = into.glob("*.tar.gz"), into.glob("*.whl")
    return Built(sdist, wheel)


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    ours = {str(path.relative_to(REPO)) for path in (REPO / "vfs").rglob("*.py")} | {"vfs/py.typed"}
    shared = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    assert {name for name in names if ".dist-info/" not in name and ".data/" not in name} == ours
    completions = {name for name in shared if not name.startswith("share/man/man1/")}
    assert completions == {
        "share/bash-completion/completions/artisync",
        "share/zsh/site-functions/_artisync",
        "share/fish/vendor_completions.d/artisync.fish",
    }
    pages = {Path(name).stem for name in shared - completions}
    assert {"artisync", *(f"artisync-{name}" for name in COMMANDS)} <= pages


def test_the_metadata_says_what_an_installer_and_a_reader_need(built: Built) -> None:
    metadata = built.metadata
    assert metadata["Name"] == "artisync"
    assert metadata["Requires-Python"] == ">=3.11"
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert built.read("licenses/LICENSE") == (REPO / "LICENSE").read_text()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert (REPO / "README.md").read_text() in str(metadata.get_payload())
    entries = configparser.ConfigParser(delimiters="=")
    entries.read_string(built.read("entry_points.txt"))
    assert set(entries["console_scripts"]) == {"artisync", "mount.artisync"}


def test_the_tree_makes_the_same_wheel_as_the_sdist(built: Built, tmp_path: Path) -> None:
    build(REPO, tmp_path, "--wheel")
    assert (tmp_path / built.wheel.name).read_bytes() == built.wheel.read_bytes()


def test_the_sdist_has_what_is_needed_to_test_it(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "scripts/test", "scripts/demo"} <= names
    assert {str(path.relative_to(REPO)) for path in (REPO / "tests").rglob("*.py")} <= names


@pytest.fixture(scope="module")
def programs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of our programs after an installation by pipx, or as pipx does it."""
    home = tmp_path_factory.mktemp("installed")
    if shutil.which("pipx") is not None:
        done = run(
            *("pipx", "install", "--pip-args=--no-compile", "--python", sys.executable, built.wheel),
            PIPX_HOME=str(home / "pipx"),
            PIPX_BIN_DIR=str(home / "bin"),
        )
    else:
        run(sys.executable, "-m", "venv", home)
        done = run(home / "bin/python", "-m", "pip", "install", "-q", "--no-compile", built.wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bin"


def test_the_installed_programs_run(programs: Path, built: Built, tmp_path: Path) -> None:
    home = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CONFIG", "CACHE", "STATE")}
    version = run(programs / "artisync", "--version", **home)
    assert version.stdout == f"artisync {built.metadata['Version']}\n"
    usage = run(programs / "artisync", "demo", "--help", **home)
    assert usage.stdout.startswith("Usage: artisync demo")
    examined = run(programs / "artisync", "doctor", **home)
    assert examined.returncode == 1  # there is no profile
    told = {line[1:].split()[0]: line[0] for line in examined.stdout.splitlines() if line[0] in "✓✗!–"}
    assert told["profile"] == "✗"
    assert 'artisync connect "ssh -p PORT USER@HOST"' in examined.stdout
    assert examined.stderr == ""
    helper = run(programs / "mount.artisync", **home)
    assert "usage: mount.artisync" in helper.stderr
