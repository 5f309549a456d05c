"""The server's user may not read one entry: that entry is refused, and the rest is there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse

NOBODY = 65534
SFTP = "/usr/lib/openssh/sftp-server"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    """A tree with a file and a directory that are closed, served by a user for whom permissions count."""
    extra = []
    if os.getuid() == 0:
        if not (shutil.which("setpriv") and os.access(SFTP, os.X_OK)):
            pytest.skip(f"needs setpriv and {SFTP} to serve as an ordinary user")
        extra = [f"Subsystem sftp setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {SFTP}"]
    with tempfile.TemporaryDirectory(prefix="served-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        for name in ("open", "closed"):
            (root / "exp" / name).mkdir(parents=True)
            (root / "exp" / name / "file").write_text(name)
            (root / "exp" / f"{name}.txt").write_text(name)
            settle(root / "exp" / f"{name}.txt")
        (root / "exp/closed").chmod(0)
        (root / "exp/closed.txt").chmod(0)
        with Sshd(extra=extra) as sshd:
            mounted = Mounted(sshd, root, tmp_path)
            with mounted:
                yield mounted
        (root / "exp/closed").chmod(0o700)


def test_what_is_closed_is_refused_and_listed(mounted: Mounted) -> None:
    exp = mounted.path / "exp"
    assert sorted(os.listdir(exp)) == ["closed", "closed.txt", "open", "open.txt"]
    assert (exp / "open.txt").read_text() == "open"
    assert (exp / "open/file").read_text() == "open"
    assert (exp / "closed.txt").stat().st_size == 6
    for refused in (
        lambda: (exp / "closed.txt").read_bytes(),
        lambda: os.listdir(exp / "closed"),
        lambda: (exp / "closed/file").stat(),
    ):
        with pytest.raises(PermissionError):
            refused()
    assert sorted(name for _, _, names in os.walk(exp) for name in names) == [
        "closed.txt",
        "file",
        "open.txt",
    ]


def test_what_is_opened_up_is_there(mounted: Mounted) -> None:
    exp = mounted.path / "exp"
    with pytest.raises(PermissionError):
        (exp / "closed.txt").read_bytes()
    (mounted.root / "exp/closed.txt").chmod(0o644)
    settle(mounted.root / "exp/closed.txt")
    assert eventually(lambda: os.access(exp / "closed.txt", os.R_OK))
    assert (exp / "closed.txt").read_text() == "closed"
