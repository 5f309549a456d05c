"""`inspect` reads files of a mount: what it says where the kernel says a number."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vfs.base.errors import StaleVersion, Unreachable, UsageError
from vfs.commands import inspect


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, UsageError),
        (errno.EACCES, UsageError),
        (errno.ESTALE, StaleVersion),
        (errno.EHOSTUNREACH, Unreachable),
    ],
)
def test_each_failure_is_told_for_what_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, kind: type[Exception]
) -> None:
    def fails(path: Path) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inspect, "open_file", fails)
    with pytest.raises(kind) as told:
        inspect.inspect_local(tmp_path / "file")
    assert type(told.value) is kind
