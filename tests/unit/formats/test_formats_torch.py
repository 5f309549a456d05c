"""Real checkpoints, read by the real PyTorch, through a file that counts round trips."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fetch.simulated_reads import LongLink, buffered
from vfs.formats import zips
from vfs.formats.advisor import run
from vfs.formats.limits import Limits

COUNT = 1000


@pytest.fixture(scope="module")
def torch() -> Any:
    """Not before a test of this module runs: each process that runs tests loads all modules."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def path(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 tensors of 100 KiB."""
    path = tmp_path_factory.mktemp("torch") / "m.pt"
    torch.save({f"l{i:04}": torch.zeros(100, 256) for i in range(COUNT)}, path)
    return path


def load(monkeypatch: pytest.MonkeyPatch, path: Path, *, hints: bool, mmap: bool) -> LongLink:
    """`torch.load`, which reads through what its `open` gives; here that is a file behind the link."""
    link = LongLink(path.name.encode(), path.read_bytes(), hints=hints)

    def open_behind_link(name: str, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return buffered(link)

    import torch

    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "open", open_behind_link, raising=False)
        assert len(torch.load(path, mmap=mmap, weights_only=True)) == COUNT
    return link


def test_a_mapped_load_of_a_thousand_tensors_takes_six_round_trips(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    without = load(monkeypatch, path, hints=False, mmap=True)
    link = load(monkeypatch, path, hints=True, mmap=True)
    assert without.now >= COUNT
    assert link.now <= 6
    assert link.fetched <= 0.1 * link.size


def test_the_tensor_that_is_then_used_takes_two_more(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    link = load(monkeypatch, path, hints=True, mmap=True)
    before = link.now

    def read(offset: int, length: int) -> bytes:
        return link.data[offset : offset + length]

    where = run(zips.find_directory(link.size), read)
    listed = {e.name: e.header for e in run(zips.listing(where, 2 * COUNT, Limits()), read)}
    for offset in range(listed[b"m/data/500"], listed[b"m/data/501"], 4096):
        link.fault(offset)
    assert link.now - before <= 2
    assert link.fetched <= 0.1 * link.size


def test_a_plain_load_reads_ahead_no_headers(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    link = load(monkeypatch, path, hints=True, mmap=False)
    advisor: Any = link.advisor
    assert not advisor.sparse
