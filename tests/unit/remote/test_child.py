"""Helper processes when this machine has no more threads."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from unittest import mock

import pytest

from vfs.remote.ssh.askpass import Askpass
from vfs.remote.ssh.child import Child


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("there_are", [0, 1])
def test_a_process_that_nobody_can_look_after_is_ended_and_leaves_nothing(there_are: int) -> None:
    before, start, left = _descriptors(), threading.Thread.start, there_are
    started: list[subprocess.Popen[bytes]] = []

    def scarce(thread: threading.Thread) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))  # type: ignore[call-overload]
        return started[0]

    real = subprocess.Popen
    with (
        mock.patch.object(threading.Thread, "start", scarce),
        mock.patch.object(subprocess, "Popen", popen),
        pytest.raises(RuntimeError),
    ):
        Child(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert started[0].returncode is not None
    assert _descriptors() == before


def test_a_helper_for_questions_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    before = _descriptors()
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
        mock.patch("tempfile.tempdir", os.fspath(tmp_path)),
        pytest.raises(RuntimeError),
    ):
        Askpass(lambda key, again: None)
    assert _descriptors() == before
    assert not list(tmp_path.iterdir())
