"""`artisync inspect`: which paths it opens, and what it says of those that it does not."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.unit.conftest import Artisync
from tests.unit.formats.made_files import torch_archive
from vfs.cli.logs import open_log

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.timeout(20)]


def test_a_checkpoint_is_told(artisync: Artisync, tmp_path: Path) -> None:
    file = tmp_path / "m.pt"
    file.write_bytes(torch_archive(3, 100))
    said = artisync("inspect", str(file))
    assert said.code == 0
    assert "3 tensors" in said.out


def test_several_files_are_one_list_in_json(artisync: Artisync, tmp_path: Path) -> None:
    file = tmp_path / "m.pt"
    file.write_bytes(torch_archive(3, 100))
    one = json.loads(artisync("inspect", "--json", str(file)).out)
    assert json.loads(artisync("inspect", "--json", str(file), str(file)).out) == [one, one]


def test_what_is_no_regular_file_is_told_at_once(artisync: Artisync, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    said = artisync("inspect", str(tmp_path / "pipe.pt"))
    assert (said.code, said.out) == (2, "")
    assert "a FIFO, not a regular file" in said.err
    assert "a directory, not a regular file" in artisync("inspect", str(tmp_path)).err
    assert "a device, not a regular file" in artisync("inspect", "/dev/null").err
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert "cannot be read" in artisync("inspect", str(tmp_path / "s")).err


def test_what_cannot_even_be_asked_for_is_told(artisync: Artisync, tmp_path: Path) -> None:
    said = artisync("inspect", str(tmp_path / ("x" * 300)))
    assert (said.code, said.out) == (2, "")
    assert "cannot be read: File name too long" in said.err


def test_a_log_file_that_is_a_fifo_without_a_reader_fails_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="No such device"):
        open_log(tmp_path / "log")
