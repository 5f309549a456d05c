"""Commands that read files of a mount: what they say where the kernel says a number."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vfs.base.errors import AccessDenied, NoSuchPath, StaleVersion, Unreachable, UsageError
from vfs.commands import cat, inspect


def shown(path: Path) -> None:
    cat.copy_local(path, None, lambda data: None)


def looked_into(path: Path) -> None:
    inspect.inspect_local(path)


@pytest.mark.parametrize(
    ("command", "number", "kind"),
    [
        (shown, errno.ENOENT, NoSuchPath),
        (shown, errno.EACCES, AccessDenied),
        (shown, errno.ESTALE, StaleVersion),
        (shown, errno.ETIMEDOUT, Unreachable),
        (shown, errno.EIO, Unreachable),
        (looked_into, errno.ENOENT, UsageError),
        (looked_into, errno.EACCES, UsageError),
        (looked_into, errno.ESTALE, StaleVersion),
        (looked_into, errno.EHOSTUNREACH, Unreachable),
    ],
)
def test_each_failure_is_told_for_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: Callable[[Path], None],
    number: int,
    kind: type[Exception],
) -> None:
    def fails(path: Path) -> int:
        raise OSError(number, os.strerror(number))

    for module in (cat, inspect):
        monkeypatch.setattr(module, "open_file", fails)
    with pytest.raises(kind) as told:
        command(tmp_path / "file")
    assert type(told.value) is kind
