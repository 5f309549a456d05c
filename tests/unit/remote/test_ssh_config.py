"""Where an address leads, for a user whom `ssh` does not serve."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from vfs.base.address import Address
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.ssh_config import resolve

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.mark.parametrize("text", ["", "Host *\n  Port 2200\n  IdentityFile ~/.ssh/%u\n"])
def test_a_user_id_without_a_name_is_enough(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """`docker run -u 1000`: `ssh` says "No user exists for uid 1000", and does nothing."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "")  # so that it is as before afterwards
    monkeypatch.setenv("HOME", str(home))
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh/config").write_text(text)
    found = resolve(Address.parse("ssh -p 30022 someone@127.0.0.1"), Deadline(5))
    assert (found.host, found.port, found.user) == ("127.0.0.1", 30022, "someone")
