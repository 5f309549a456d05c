"""Commands beside a live mount go through it: nobody logs in again, and offline they answer at once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse, write
from tests.lab.processes import stopped
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually
from tests.unit.formats.made_files import torch_archive

pytestmark = needs_fuse

LOG = b"".join(b"epoch %d\n" % number for number in range(1, 31))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    write(root / "exp-1/logs/console.log", LOG)
    write(root / "exp-1/checkpoints/model.pt", torch_archive(3, 100))
    write(root / "exp-2/logs/console.log", LOG)
    return root


@pytest.fixture
def mounted(sshd: Sshd, root: Path, tmp_path: Path) -> Iterator[Mounted]:
    mounted = Mounted(sshd, root, tmp_path)
    with mounted:
        yield mounted


def test_ls_cat_and_inspect_go_through_it_by_either_name(mounted: Mounted, sshd: Sshd) -> None:
    path = mounted.path
    sshd.authorized_keys.write_text("")  # another login would be refused
    for top in ("exp-1", path / "exp-1", f"{path}/exp-*1"):
        rows = json.loads(mounted.ask("ls", top, "--json").stdout)
        assert [row["name"] for row in rows] == ["checkpoints/model.pt", "logs/console.log"]
    assert mounted.ask("cat", "exp-1/logs/console.log").stdout == LOG.decode()
    assert "3 tensors" in mounted.ask("inspect", path / "exp-1/checkpoints/model.pt").stdout
    assert mounted.ask("cat", "-n", "1", "exp-*/logs/console.log").stdout == "epoch 30\n" * 2
    assert "list it with `artisync ls exp-1`" in mounted.ask("cat", path / "exp-1").stderr


def test_without_a_profile_it_is_the_server_of_the_only_mount(mounted: Mounted) -> None:
    for name in ("exp-1", mounted.path / "exp-1"):
        listed = mounted.artisync("ls", str(name), "--json")
        assert [row["name"] for row in json.loads(listed.stdout)] == [
            "checkpoints/model.pt",
            "logs/console.log",
        ]
    assert {row["name"] for row in json.loads(mounted.artisync("ls", "--json").stdout)} == {"exp-1", "exp-2"}
    mounted.unmount()
    assert "no server yet" in mounted.artisync("ls").stderr


def test_a_path_in_a_mount_that_does_not_answer_holds_nobody_up(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mounted.path)
    (record,) = json.loads(mounted.artisync("status", "--json").stdout)["mounts"]
    with stopped(partial(os.kill, record["pid"])):
        for words in (("ls", tmp_path / "link/exp-1"), ("cat", mounted.path / "exp-1/logs/console.log")):
            said = mounted.artisync(*words, timeout=20)
            assert said.returncode == 1
            assert "artisync unmount --force" in said.stderr


def test_a_pull_goes_through_it(mounted: Mounted, sshd: Sshd, root: Path, tmp_path: Path) -> None:
    sshd.authorized_keys.write_text("")  # another login would be refused
    out = tmp_path / "out"
    planned = json.loads(mounted.ask("pull", "exp-1", out, "--dry-run", "--json").stdout)
    assert [row["name"] for row in planned] == ["exp-1/checkpoints/model.pt", "exp-1/logs/console.log"]
    said = mounted.ask("pull", "exp-1", out)
    assert said.stderr.startswith("Pulled 2 files")
    assert (out / "exp-1/logs/console.log").read_bytes() == LOG
    name = "exp-1/checkpoints/model.pt"
    assert (out / name).read_bytes() == (root / name).read_bytes()
    assert mounted.ask("pull", "exp-1", out).stderr == "Up to date: 2 files.\n"
    watching = mounted.start("pull", "--watch", "exp-2", out)
    try:
        assert eventually(lambda: (out / "exp-2/logs/console.log").exists(), 10)
        write(root / "exp-2/new", b"new")
        assert eventually(lambda: (out / "exp-2/new").exists(), 10)
    finally:
        watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0
    sshd.stop()
    began = time.monotonic()
    refused = mounted.ask("pull", "exp-1", out)
    assert refused.returncode == 1
    assert "the server does not answer" in refused.stderr
    assert time.monotonic() - began < 8
    sshd.authorize(sshd.user_key)
    sshd.start()
    assert mounted.ask("pull", "exp-1", out).stderr == "Up to date: 2 files.\n"


def test_offline_they_answer_at_once(mounted: Mounted, sshd: Sshd) -> None:
    mounted.ask("ls")
    mounted.ask("cat", "exp-1/logs/console.log")
    sshd.stop()
    began = time.monotonic()
    said = mounted.ask("ls", "--json")
    assert [row["name"] for row in json.loads(said.stdout)] == ["exp-1", "exp-2"]
    assert mounted.ask("cat", "exp-1/logs/console.log").stdout == LOG.decode()
    assert time.monotonic() - began < 8


def test_follow_begins_with_the_last_lines_and_goes_on_after_a_replacement(
    mounted: Mounted, root: Path
) -> None:
    log = root / "exp-1/logs/console.log"
    following = mounted.start("cat", "--follow", "exp-1/logs/console.log")
    assert following.stdout is not None
    try:
        assert following.stdout.readline() == "epoch 21\n"
        for _ in range(9):
            following.stdout.readline()
        with open(log, "ab") as file:
            file.write(b"epoch 31\n")
        assert following.stdout.readline() == "epoch 31\n"
        new = log.with_name("new")
        write(new, b"begun anew\n")
        os.replace(new, log)
        assert following.stdout.readline() == "begun anew\n"
    finally:
        following.send_signal(signal.SIGINT)
        said = following.communicate(timeout=10)[1]
    assert "was replaced; following the new file" in said
    assert following.returncode == 0
