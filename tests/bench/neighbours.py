"""Cases of programs that read many small files one after the other, all at RTT 50 ms and 1 Gbit/s."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import WIRE, Case, Values
from tests.bench.lab import Lab
from tests.bench.peers import Peer
from tests.bench.reads import far
from tests.bench.results import Figure
from tests.bench.scale import Scale
from tests.lab.mounted import settle

IMAGE = 30_000
_ALL = Figure("all", "s")


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    figures = {"time": _ALL, "wire": WIRE}
    return [
        Case(
            "images",
            f"{scale.images} files of 30 kB in one directory, read in turn",
            figures,
            partial(_program, "images", "in_turn", lambda path: _images(path, scale.images)),
            local=True,
        ),
        Case(
            "git-status",
            f"git status of a fresh checkout of {scale.small_files} files",
            figures,
            partial(_program, "checkout", "git_status", lambda path: _checkout(path, scale.small_files)),
            local=True,
        ),
        Case(
            "copytree",
            f"shutil.copytree of {scale.images // 2} files of 1 to 20 kB",
            figures,
            partial(
                _program,
                "exp-tree",
                "copytree",
                lambda path: content.small_files(path, scale.images // 2),
            ),
            local=True,
        ),
        Case(
            "stray",
            f"one file of 30 kB out of {scale.images}",
            {"time": Figure("it", "s"), "wire": WIRE},
            _stray,
            local=True,
        ),
    ]


def _images(place: Path, count: int) -> None:
    for number in range(count):
        content.random_file(place / f"{number:05}.jpg", IMAGE)


def _checkout(place: Path, count: int) -> None:
    """A repository of which all files are as committed; git has to read them to know, as after each copy."""
    content.small_files(place, count)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(
            ["git", "-C", place, "-c", "user.name=bench", "-c", "user.email=bench@localhost", *words],
            check=True,
        )
    for path in place.rglob("*"):
        if path.is_file():
            settle(path)


def _program(name: str, program: str, make: Callable[[Path], object], lab: Lab, peer: Peer) -> Values:
    """Seconds of a program, and what came over the link for it."""
    original = lab.made(name, make)
    return far(lab, peer, original, lambda path: lab.program(program, path, original)["seconds"])


def _stray(lab: Lab, peer: Peer) -> Values:
    original = lab.made("images", lambda path: _images(path, lab.scale.images)) / "00007.jpg"
    return far(lab, peer, original, lambda path: lab.program("first", path, original, IMAGE)["seconds"])
