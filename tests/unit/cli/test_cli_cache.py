"""`artisync cache`, over caches that were filled by hand."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.lab.blocks import usage
from tests.lab.live_mount import live
from tests.unit.conftest import Artisync, Said
from vfs.base.address import Address
from vfs.base.file_version import Version
from vfs.base.profiles import Profile, save_profile
from vfs.base.progress import Progress
from vfs.base.settings import DEFAULT_CACHE_SIZE
from vfs.cache.block import Block
from vfs.cache.disk import DiskCache
from vfs.cache.records import lineage_pin
from vfs.cli import console, progress
from vfs.files.records import FileRecord, file_key

Json = dict[str, Any]
KIB = 1 << 10
PROFILE = Profile("default", Address.parse("ssh host"), id="0f")
IDENTITY = "profile:0f:/shared/artifacts"


def fill(disk: DiskCache, path: str, size: int, identity: str = IDENTITY, *, pin: bool = False) -> bytes:
    """Put a file of `size` bytes into the cache; its lineage."""
    lineage = os.urandom(16)
    for index, start in enumerate(range(0, size, 100 * KIB)):
        block = Block(min(100 * KIB, size - start))
        block.write(0, os.urandom(block.capacity))
        disk.write(lineage, index, block)
    record = FileRecord(lineage, Version(size, 1), "host", os.fsencode(path))
    disk.set_record(file_key(identity, os.fsencode(f"/shared/artifacts/{path}")), record.dump())
    if pin:
        disk.set_record(lineage_pin(lineage), b"")
    assert disk.flush(10)
    return lineage


@pytest.fixture
def directory(home: Path) -> Path:
    return home / "cache" / "artisync"


@pytest.fixture
def disk(directory: Path) -> Iterator[DiskCache]:
    disk = DiskCache.open(directory, 1 << 30)
    yield disk
    disk.close()


def told(experiment: str | None, files: int, size: int, pinned: int = 0, **more: str | None) -> Json:
    return {
        "profile": "default",
        "server": "/shared/artifacts",
        "experiment": experiment,
        "files": files,
        "bytes": size * KIB,
        "pinned_bytes": pinned * KIB,
        **more,
    }


def test_info_tells_the_size_of_each_experiment_to_programs(
    artisync: Artisync, disk: DiskCache, directory: Path
) -> None:
    save_profile(PROFILE)
    fill(disk, "exp-1/checkpoints/a.pt", 300 * KIB)
    fill(disk, "exp-1/logs/x.log", 20 * KIB, pin=True)
    fill(disk, "exp-\udcff/x", 400 * KIB)
    fill(disk, "notes.txt", 4 * KIB)
    fill(disk, "exp-1/x", 12 * KIB, "me@other:/data")
    nameless = Block(KIB)
    nameless.write(0, bytes(KIB))
    disk.write(b"\x09" * 16, 0, nameless)
    assert disk.flush(10)
    report = json.loads(artisync("cache", "info", "--json").out)
    assert report["directory"] == str(directory)
    assert report["bytes"] == usage(disk)
    assert report["limit"] == DEFAULT_CACHE_SIZE
    assert report["experiments"] == [
        told("exp-1", 1, 12, profile=None, server="me@other:/data"),
        told("exp-\udcff", 1, 400),
        told("exp-1", 2, 320, 20),
        told("", 1, 4),
        told(None, 1, 4, profile=None, server=None),
    ]


def test_info_for_people_is_a_table(artisync: Artisync, disk: DiskCache, directory: Path) -> None:
    save_profile(PROFILE)
    fill(disk, "exp-1/a", 300 * KIB, pin=True)
    fill(disk, "exp-\x1b[31m/x", 100 * KIB)
    fill(disk, "x", 20 * KIB, "me@other:/data")
    said = artisync("cache", "info", "--cache-size", "1GiB")
    assert said.err.startswith(f"{directory}: ")
    assert said.err.endswith(" of 1.0 GiB used.\n")
    assert [line.split("\t") for line in said.out.splitlines()] == [
        ["(other files)", "1", "20.0 KiB", "-", "me@other:/data"],
        ["exp-1", "1", "300 KiB", "300 KiB", "default /shared/artifacts"],
        ["exp-\\x1b[31m", "1", "100 KiB", "-", "default /shared/artifacts"],
    ]


def test_the_cache_of_a_profile_is_meant(artisync: Artisync, home: Path) -> None:
    place = home / "elsewhere"
    save_profile(Profile("lab", Address.parse("ssh host"), options={"cache_dir": str(place)}))
    with_file = DiskCache.open(place, 1 << 30)
    fill(with_file, "exp-1/x", KIB)
    with_file.close()
    for words in (["--profile", "lab"], ["--cache-dir", "elsewhere"]):
        report = json.loads(artisync("cache", "info", "--json", *words).out)
        assert [row["experiment"] for row in report["experiments"]] == ["exp-1"]
    said = artisync("cache", "info", "--profile", "other")
    assert said.code == 1
    assert "no profile 'other' (saved: lab)" in said.err


@pytest.mark.parametrize("words", [["verify"], ["prune"], ["clear", "--yes"]])
def test_where_no_cache_is_none_is_made(artisync: Artisync, home: Path, words: list[str]) -> None:
    said = artisync("cache", *words, "--cache-dir", "nothing")
    assert said.code == 1
    assert f"there is no cache in {home / 'nothing'}" in said.err
    assert not (home / "nothing").exists()


def test_that_there_is_no_cache_yet_is_no_failure(artisync: Artisync, home: Path) -> None:
    said = artisync("cache", "info")
    directory = home / "cache" / "artisync"
    assert (said.code, said.out, said.err) == (
        0,
        "",
        f"The cache is empty: there is no cache in {directory}.\n",
    )
    report = {"directory": str(directory), "bytes": 0, "limit": 20 << 30, "experiments": []}
    assert json.loads(artisync("cache", "info", "--json").out) == report
    assert not directory.exists()


def test_a_cache_of_another_version_is_left_as_it_is(
    artisync: Artisync, disk: DiskCache, directory: Path
) -> None:
    fill(disk, "exp-1/x", KIB)
    disk.close()
    with sqlite3.connect(directory / "cache.db") as database:
        database.execute("PRAGMA user_version = 99")
    said = artisync("cache", "info")
    assert said.code == 1
    assert "another version" in said.err
    assert len(list(directory.glob("blocks/*/*/*"))) == 1


def test_verify_drops_what_is_damaged_and_says_of_which_file(
    artisync: Artisync, disk: DiskCache, directory: Path
) -> None:
    fill(disk, "exp-1/good", 250 * KIB)
    before = set(directory.glob("blocks/*/*/*"))
    fill(disk, "exp-1/\x1bbad", KIB)
    [bad] = set(directory.glob("blocks/*/*/*")) - before
    content = bytearray(bad.read_bytes())
    content[0] ^= 1
    bad.write_bytes(content)
    said = artisync("cache", "verify")
    assert said.code == 1
    assert said.out.startswith("exp-1/\\x1bbad: ")
    assert "4 blocks verified, 1 damaged and dropped." in said.err
    assert artisync("cache", "verify", "--json") == Said(
        0, json.dumps({"directory": str(directory), "blocks": 3, "damaged": []}, indent=2) + "\n", ""
    )
    assert not bad.exists()


def test_verify_tells_programs_what_is_damaged(artisync: Artisync, disk: DiskCache, directory: Path) -> None:
    fill(disk, "exp-1/bad", KIB)
    [bad] = directory.glob("blocks/*/*/*")
    os.truncate(bad, 100)
    said = artisync("cache", "verify", "--json")
    assert said.code == 1
    report = json.loads(said.out)
    assert report["damaged"] == [{"path": "exp-1/bad", "block": 0, "error": "the checksum is wrong"}]


def test_prune_drops_the_least_recently_used_and_keeps_what_is_pinned(
    artisync: Artisync, disk: DiskCache
) -> None:
    fill(disk, "exp-1/old", 900 * KIB)
    fill(disk, "exp-1/pinned", 300 * KIB, pin=True)
    fill(disk, "exp-1/new", 300 * KIB)
    before = usage(disk)
    said = artisync("cache", "prune", "--to", f"{before - 100 * KIB}B", "--json")
    assert said.code == 0
    report = json.loads(said.out)
    assert report["freed_bytes"] >= 100 * KIB
    assert report["bytes"] <= before - 100 * KIB
    said = artisync("cache", "prune", "--to", "1KiB")
    assert "The rest is pinned" in said.err
    rows = json.loads(artisync("cache", "info", "--json").out)["experiments"]
    assert [(row["bytes"], row["pinned_bytes"]) for row in rows] == [(300 * KIB, 300 * KIB)]


def test_prune_says_nothing_of_pins_where_there_are_none(artisync: Artisync, disk: DiskCache) -> None:
    fill(disk, "exp-1/x", 300 * KIB)
    said = artisync("cache", "prune", "--to", "1KiB")
    assert "Freed " in said.err
    assert "pinned" not in said.err
    assert json.loads(artisync("cache", "info", "--json").out)["experiments"] == []


def test_prune_goes_by_the_limit_of_the_cache(
    artisync: Artisync, disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.base.option_values.LEAST_CACHE_SIZE", 1)
    fill(disk, "exp-1/x", 900 * KIB)
    assert "Freed 0 B" in artisync("cache", "prune").err
    artisync("cache", "prune", "--cache-size", "500KiB")
    block = 100 * KIB  # the eviction itself adds to the database's log
    assert 0 < usage(disk) <= 500 * KIB + block


def test_a_size_that_is_none_is_wrong_usage(artisync: Artisync, disk: DiskCache) -> None:
    said = artisync("cache", "prune", "--to", "much")
    assert said.code == 2
    assert "20GiB" in said.err


def test_clear_empties_the_cache(artisync: Artisync, disk: DiskCache, directory: Path) -> None:
    fill(disk, "exp-1/x", 300 * KIB, pin=True)
    said = artisync("cache", "clear", "--yes")
    assert (said.code, said.out) == (0, "")
    assert "Freed " in said.err
    assert list(directory.glob("blocks/*/*/*")) == []
    assert disk.records("") == []


def test_clear_asks_first(
    artisync: Artisync, disk: DiskCache, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(disk, "exp-1/x", 300 * KIB)
    said = artisync("cache", "clear")
    assert said.code == 2
    assert "--yes" in said.err
    for answer, left in (("no\n", 1), ("", 1), ("yes\n", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        said = artisync("cache", "clear")
        assert said.code == left
        assert f"in {directory}? [yes/no]" in said.err
        assert bool(list(directory.glob("blocks/*/*/*"))) == bool(left)


def test_clear_says_that_a_live_mount_goes_on_and_keeps_what_it_goes_by(
    artisync: Artisync, disk: DiskCache, directory: Path
) -> None:
    fill(disk, "exp-1/x", 300 * KIB, pin=True)
    disk.set_record("r:root", b"/")
    assert disk.flush(10)

    async def here(_: Json) -> Json:
        return {"cache": {"directory": str(directory)}}

    async def elsewhere(_: Json) -> Json:
        return {"cache": {"directory": "/elsewhere"}}

    with live(Path("/mnt/a"), {"status": here}), live(Path("/mnt/b"), {"status": elsewhere}):
        said = artisync("cache", "clear", "--yes")
    assert "/mnt/a stays" in said.err
    assert "/mnt/b" not in said.err
    assert list(directory.glob("blocks/*/*/*")) == []
    assert [key[:2] for key, _ in disk.records("")] == ["f:", "r:"]


@pytest.mark.parametrize("what", ["verify", "clear"])
def test_a_terminal_that_is_gone_is_no_trouble_of_the_cache(
    artisync: Artisync, disk: DiskCache, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    @contextmanager
    def shown(_: Progress) -> Iterator[None]:
        yield
        raise BrokenPipeError

    fill(disk, "exp-1/x", 10 * KIB)
    monkeypatch.setattr(progress, "shown", shown)
    monkeypatch.setattr(console, "prompter", lambda: True)
    monkeypatch.setattr(console, "confirm", Mock(side_effect=BrokenPipeError))
    assert artisync("cache", what) == Said(1, "", "")
