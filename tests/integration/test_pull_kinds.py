"""`artisync pull` of names that are hard, or change what they stand for, against a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import write
from tests.lab.pulling import copy_at
from tests.lab.waiting import eventually


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    write(root / "exp/log", b"epoch 1\n")
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_names_that_share_their_beginning_and_the_longest(client: Client, root: Path, out: Path) -> None:
    names = [f"{'n' * 200}step={step}.pt" for step in range(1000, 1040)]
    names += ["漢" * 85, "a.pt", ".a.pt.artisync-part"]
    for name in names:
        write(root / "exp" / name, f"content of {name}".encode())
    done = client.ask("pull", "exp", out)
    assert done.returncode == 0, done.stderr
    assert copy_at(out / "exp") == copy_at(root / "exp")


def test_a_link_in_the_copy_is_never_written_through(
    client: Client, root: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "ssh").mkdir()
    (out / "exp").mkdir(parents=True)
    (out / "exp/l").symlink_to("../../ssh")
    write(root / "exp/l/authorized_keys", b"key")
    done = client.ask("pull", "exp", out)
    assert done.returncode == 1
    assert "exp/l: something else is here in its place" in done.stderr
    assert copy_at(out / "exp").files == {"log": b"epoch 1\n"}
    done = client.ask("pull", "exp", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert copy_at(out / "exp") == copy_at(root / "exp")
    assert os.listdir(tmp_path / "ssh") == []


def test_a_watched_copy_goes_on_when_names_change_their_kind(client: Client, root: Path, out: Path) -> None:
    write(root / "exp/latest", b"a file")
    write(root / "exp/run/1.pt", b"1")
    watching = client.start("pull", "exp", out, "--watch")
    try:
        assert eventually(lambda: (out / "exp/latest").exists() and (out / "exp/run/1.pt").exists(), 20)
        (root / "exp/latest").unlink()
        write(root / "exp/latest/2.pt", b"2")
        assert eventually(lambda: (out / "exp/latest/2.pt").exists(), 20)
        shutil.rmtree(root / "exp/latest")
        (root / "exp/latest").symlink_to("run/1.pt")
        write(root / "exp/new", b"new")
        assert eventually(lambda: (out / "exp/new").exists(), 20)
        assert (out / "exp/latest/2.pt").exists()
    finally:
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=10)[1]
        assert watching.returncode == 0
    assert said.count("exp/latest: it is a directory here, with files in it") == 1
    done = client.ask("pull", "exp", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert copy_at(out / "exp") == copy_at(root / "exp")


def test_a_state_directory_that_cannot_be_written_is_told_in_a_sentence(
    client: Client, out: Path, tmp_path: Path
) -> None:
    write(tmp_path / "state/artisync/pulls", b"no directory")
    done = client.ask("pull", "exp", out)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "XDG_STATE_HOME" in done.stderr
