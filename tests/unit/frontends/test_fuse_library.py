"""Which libfuse is taken, and how it is told that one is not fit."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys

import pytest

from vfs.base import errors
from vfs.files.shown import Shown

try:
    from vfs.frontends.fuse import library, reply
except errors.FuseMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

TELL = """
from vfs.base.errors import FuseMissing
try:
    import vfs.frontends.fuse.session
except FuseMissing as missing:
    print(missing)
"""


def what_is_said(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_missing_library_is_fuse_missing() -> None:
    assert "libfuse 3 cannot be loaded" in what_is_said(FUSE_LIBRARY_PATH="/nowhere/libfuse3.so")


def test_another_library_is_fuse_missing() -> None:
    libc = ctypes.util.find_library("c")
    assert libc is not None
    assert "unknown libfuse" in what_is_said(FUSE_LIBRARY_PATH=libc)


def test_the_library_that_is_asked_for_is_libfuse_3_though_libfuse_2_be_there_too() -> None:
    code = "import ctypes.util; real = ctypes.util.find_library\n"
    code += "ctypes.util.find_library = lambda name: real('c') if name == 'fuse' else real(name)\n"
    code += "import os, vfs.frontends.fuse.library as library; print(library.VERSION, 'FUSE_LIBRARY_NAME' in os.environ)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FUSE_LIBRARY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{library.VERSION} False\n"


@pytest.mark.parametrize(
    ("version", "said"), [((2, 9), "libfuse 2"), ((4, 0), "libfuse 4"), ((3, 9), "3.10")]
)
def test_versions_with_another_interface_are_refused(version: tuple[int, int], said: str) -> None:
    with pytest.raises(errors.FuseMissing, match=said):
        library.check_version(*version)


def test_a_structure_that_libfuse_reads_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = list(library.EntryParam._fields_)

    class Shifted(ctypes.Structure):
        _fields_ = (*fields[:2], ("more", ctypes.c_uint64), *fields[2:])

    monkeypatch.setattr(library, "EntryParam", Shifted)
    with pytest.raises(errors.FuseMissing, match="is not supported"):
        library.check_layout()


def test_a_directory_buffer_takes_entries_until_the_next_does_not_fit() -> None:
    shown = Shown(ino=7, mode=0o100444, nlink=1, uid=1, gid=1, size=1000, mtime=1.5)
    buffer = reply.DirectoryBuffer(400)
    added = [
        buffer.add(name, 9, shown, 1.0, number) for number, name in enumerate((b"one", b"two", b"three"))
    ]
    assert added == [True, True, False]


def test_a_time_before_1970_keeps_its_fraction() -> None:
    st = library.Stat()
    reply._fill(st, Shown(ino=1, mode=0, nlink=1, uid=0, gid=0, size=0, mtime=-0.25))
    assert (st.st_mtimespec.tv_sec, st.st_mtimespec.tv_nsec) == (-1, 750_000_000)
