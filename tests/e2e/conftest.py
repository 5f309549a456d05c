"""One mount of a real sshd's tree for the tests of a module; each writes an experiment of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted
from tests.lab.sshd import Sshd

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", params=["paramiko", "openssh"])
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    place = tmp_path_factory.mktemp("mounted")
    with Sshd(place / "artifacts") as sshd:
        options = ("--transport", request.param, "--ttl", "500ms")
        mounted = Mounted(sshd, place / "artifacts", place, *options)
        with mounted:
            yield mounted


@pytest.fixture
def experiment(mounted: Mounted) -> Path:
    """A new experiment on the server, in the guide's layout."""
    path = mounted.root / f"exp-{next(NUMBERS)}"
    for name in ("checkpoints", "tensorboard", "logs"):
        (path / name).mkdir(parents=True)
    return path


@pytest.fixture
def shown(mounted: Mounted, experiment: Path) -> Path:
    """The experiment as the mount shows it."""
    return mounted.path / experiment.name
