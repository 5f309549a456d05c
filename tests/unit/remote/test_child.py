"""Helper processes when this machine has no more threads."""

from __future__ import annotations

import os
import subprocess
import threading
from unittest import mock

import pytest

from vfs.remote.ssh.child import Child


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_process_that_nobody_can_look_after_is_not_started_and_leaves_nothing() -> None:
    before = _descriptors()
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
        mock.patch.object(subprocess, "Popen") as popen,
        pytest.raises(RuntimeError),
    ):
        Child(["sleep", "60"])
    assert not popen.called
    assert _descriptors() == before
