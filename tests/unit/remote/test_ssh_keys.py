"""Which keys are tried, and what is told of those that cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vfs.base.errors import ConnectError
from vfs.remote.ssh import ssh_config
from vfs.remote.ssh.paramiko_keys import KeyRing
from vfs.remote.ssh.prompts import Deadline, Prompts


def tried(files: list[Path]) -> tuple[int, list[str]]:
    """How many keys there are to try of the default files, and what is wrong with the others."""
    target: Any = SimpleNamespace(key_files=files, keys_named=False, identities_only=False, key_name="host")
    problems: list[ConnectError] = []
    found = list(KeyRing(Prompts(None)).candidates(target, {}, Deadline(10.0), problems))
    return len(found), [str(problem) for problem in problems]


def test_a_default_key_that_cannot_be_read_is_told_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").mkdir()  # as unreadable for root as for anybody
    files = [tmp_path / "id_ed25519", tmp_path / "id_rsa"]
    assert tried(files) == (0, [f"the key file {files[0]} cannot be read: Is a directory"])


def test_a_certificate_beside_a_key_that_cannot_be_looked_for_is_none(tmp_path: Path) -> None:
    assert ssh_config._only_ssh({}, [tmp_path / ("k" * 250)]) is None  # with its suffix the name is too long
