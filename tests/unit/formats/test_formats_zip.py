"""Zip archives and PyTorch checkpoints: what is fetched ahead, and whether they are whole."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.fetch.simulated_reads import LongLink, buffered
from tests.unit.formats.made_files import torch_archive
from vfs.formats import advisor_for, verdict_for, zips
from vfs.formats.advisor import MOST_RANGES, run
from vfs.formats.api import PAGE, Misfit, Range
from vfs.formats.limits import Limits

MIB = 1 << 20


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    """250 tensors of 256 KiB."""
    return torch_archive(250, 256 << 10)


def open_archive(link: LongLink) -> dict[str, int]:
    """Read as `torch.load` does at first: head, end, directory, small records, pickle. Where each record
    lies.
    """
    file = buffered(link)
    file.read(8)
    with zipfile.ZipFile(file) as archive:
        for name in ("m/.format_version", "m/byteorder", "m/data.pkl", "m/version"):
            archive.read(name)
        return {info.filename: info.header_offset for info in archive.infolist()}


def load_mapped(link: LongLink) -> dict[str, int]:
    """Read as `torch.load(mmap=True)` does: then the 30 bytes of each record's local header."""
    where = open_archive(link)
    file = buffered(link)
    for name, offset in where.items():
        if "/data/" in name:
            file.seek(offset)
            file.read(30)
    return where


def load_plain(link: LongLink) -> dict[str, int]:
    """Read as `torch.load` does: then each record whole."""
    file = buffered(link)
    where = open_archive(link)
    for name, offset in where.items():
        if "/data/" in name:
            file.seek(offset)
            file.read(30)
            file.read((256 << 10) + 16)
    return where


def test_a_mapped_load_takes_a_few_round_trips_and_few_bytes(checkpoint: bytes) -> None:
    without = LongLink(b"m.pt", checkpoint, hints=False)
    load_mapped(without)
    link = LongLink(b"m.pt", checkpoint)
    load_mapped(link)
    assert without.now > 250
    assert link.now <= 5
    assert link.fetched <= 0.1 * link.size
    assert link.advisor is not None
    assert link.advisor.sparse


def test_one_tensor_of_a_mapped_load_comes_whole_and_alone(checkpoint: bytes) -> None:
    link = LongLink(b"m.pt", checkpoint)
    at = load_mapped(link)["m/data/100"]
    before, fetched = link.now, link.fetched
    for offset in range(at + 100, at + (256 << 10), PAGE):
        link.fault(offset)
    assert link.now - before <= 3
    assert link.fetched - fetched <= 2 * (256 << 10) + (256 << 10)


def test_the_header_of_the_first_tensor_is_not_taken_for_its_beginning(checkpoint: bytes) -> None:
    link = LongLink(b"m.pt", checkpoint)
    first = open_archive(link)["m/data/0"]
    link.read(first - PAGE, 2 * PAGE)
    assert not any(r.start <= first + (128 << 10) < r.end for r in link.wanted)


def test_a_reader_that_runs_on_over_a_header_begins_no_other_tensor(checkpoint: bytes) -> None:
    link = LongLink(b"m.pt", checkpoint)
    where = load_mapped(link)
    fetched = link.fetched
    at, end = where["m/data/100"], where["m/data/101"]
    for offset in range(at + 100, end, PAGE):
        link.fault(offset)
    beyond = [r for r in link.wanted if r.start >= end + (128 << 10) and len(r) > 2 * PAGE]
    assert [r for r in beyond if r.end < where["m/data/110"]] == []
    assert link.fetched - fetched <= 3 * (256 << 10)


def test_small_tensors_are_walked_with_a_window_that_moves() -> None:
    data = torch_archive(2000, 16 << 10)
    link = LongLink(b"m.pt", data)
    load_mapped(link)
    assert link.now <= 10
    first = sum(len(r) for r in link.wanted[: len(link.wanted) // 8])
    assert first < 4 * MIB


def test_a_plain_load_is_left_to_readahead(checkpoint: bytes) -> None:
    link = LongLink(b"m.pt", checkpoint)
    where = load_plain(link)
    walked = {offset // PAGE * PAGE for name, offset in where.items() if name.startswith("m/data/")}
    assert len([r for r in link.wanted if r.start in walked and len(r) <= 2 * PAGE]) <= zips.FIRST_HEADERS
    assert link.advisor is not None
    assert not link.advisor.sparse


def test_the_first_read_brings_the_end_along(checkpoint: bytes) -> None:
    link = LongLink(b"m.ckpt", checkpoint)
    link.read(0, 4096)
    assert link.now == 1
    assert link.wanted[0].end == link.size
    assert 64 << 10 <= len(link.wanted[0]) <= 1 * MIB


def test_an_archive_of_another_name_is_recognised_by_its_head(checkpoint: bytes) -> None:
    link = LongLink(b"pytorch_model.bin", checkpoint)
    load_mapped(link)
    assert link.now <= 6


def test_a_member_of_an_npz_comes_whole_once_its_reading_begins() -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        for i in range(40):
            archive.writestr(f"a{i}.npy", bytes(600_000))
    link = LongLink(b"a.npz", to.getvalue())
    with zipfile.ZipFile(buffered(link)) as archive:
        before = link.now
        archive.read("a20.npy")
    assert link.now - before <= 2
    assert link.fetched < 1 * MIB


def test_a_pickle_with_the_name_of_a_checkpoint_costs_no_more_than_its_end() -> None:
    link = LongLink(b"old.pt", b"\x80\x02\x8a\n" + bytes(20 * MIB))
    for offset in range(0, 20 * MIB, MIB):
        link.read(offset, 128 << 10)
    assert sum(len(r) for r in link.wanted) <= 128 << 10


def big_directory(count: int) -> bytes:
    name = b"m/data/1234567"
    entry = struct.pack("<4s6xH8xLLHHH8xL", b"PK\x01\x02", 0, 9, 9, len(name), 0, 0, 5 << 20)
    directory = (entry + name) * count
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), 64 * MIB)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 64 * MIB + len(directory), 1)
    end = zips.END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return b"PK\x03\x04" + bytes(64 * MIB - 4) + directory + end64 + locator + end


@pytest.mark.parametrize("count", [50_000, 1_000_000])
def test_a_hostile_directory_wastes_few_bytes(count: int) -> None:
    data = big_directory(count)
    link = LongLink(b"evil.pt", data)
    for offset in [0, *range(4 * MIB, 6 * MIB, 128 << 10)]:
        link.read(offset, 128 << 10)
    assert link.advisor is not None
    assert sum(len(r) for r in link.wanted) <= 2 * link.advisor.budget.limit
    assert len(link.wanted) <= MOST_RANGES


def test_the_directory_of_a_zip64_archive_is_found() -> None:
    data = big_directory(3)
    where = run(zips.find_directory(len(data)), lambda offset, length: data[offset : offset + length])
    assert (where.start, where.shift) == (64 * MIB, 0)


def members(directory: bytes) -> list[zips.Member]:
    """What a directory lists."""
    where = zips.Directory(0, len(directory), 0)
    return run(zips.listing(where, 10, Limits()), lambda offset, length: directory[offset : offset + length])


def test_sizes_beyond_32_bits_come_from_the_extra_field() -> None:
    extra = struct.pack("<HHHHQQ", 9, 0, 1, 16, 5 << 32, 7 << 32)
    entry = struct.pack("<4s6xH8xLLHHH8xL", b"PK\x01\x02", 0, 77, 0xFFFFFFFF, 1, len(extra), 0, 0xFFFFFFFF)
    assert members(entry + b"x" + extra) == [zips.Member(b"x", 7 << 32, 77, 5 << 32, 0)]


def test_members_behind_foreign_bytes_are_found() -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("x", b"hello")
    data = b"#!/bin/sh\n" + to.getvalue()

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    where = run(zips.find_directory(len(data)), read)
    (entry,) = run(zips.listing(where, 10, Limits()), read)
    assert entry.header == 10
    start = run(zips.data_offset(entry), read)
    assert read(start, entry.packed) == b"hello"


def test_what_is_no_directory_is_a_misfit() -> None:
    with pytest.raises(Misfit):
        members(b"PK\x01\x02" + bytes(10))
    with pytest.raises(Misfit):
        members(bytes(100))


def verdict(name: bytes, data: bytes) -> tuple[bool | None, int]:
    """Whether it is whole, and how many bytes were needed to tell, in whole pages."""
    there: set[int] = set()
    asked = verdict_for(name, len(data))
    while (wanted := asked.wanted) is not None:
        there.update(range(wanted.start // PAGE, -(-wanted.end // PAGE)))
        asked.tell(data[wanted.start : wanted.end])
    return asked.complete, len(there) * PAGE


def test_a_whole_checkpoint_is_known_by_its_end(checkpoint: bytes) -> None:
    whole, needed = verdict(b"m.pt", checkpoint)
    assert whole is True
    assert needed <= 32 << 10


def test_the_first_thing_needed_is_told_without_knowing_anything() -> None:
    assert verdict_for(b"m.pt", MIB).wanted == Range(MIB - PAGE, MIB)
    assert verdict_for(b"m.log", MIB).wanted is None


@pytest.mark.parametrize("kept", [0, 10, 4096, 70_000, 1_000_000, -1, -22, -100])
def test_a_checkpoint_that_is_cut_short_is_not_whole(checkpoint: bytes, kept: int) -> None:
    assert verdict(b"m.pt", checkpoint[:kept])[0] is False


def test_a_zip_with_a_long_comment_is_whole() -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("x", bytes(100_000))
        archive.comment = b"c" * 60_000
    assert verdict(b"x.zip", to.getvalue())[0] is True


def test_of_a_checkpoint_of_the_old_kind_it_cannot_be_told() -> None:
    assert verdict(b"m.pt", b"\x80\x02\x8a\n" + bytes(100_000))[0] is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 400_000),
    st.lists(st.tuples(st.integers(0, 400_000), st.binary(min_size=1, max_size=8)), max_size=6),
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 130_000)), max_size=12),
)
def test_damaged_archives_give_no_error(
    cut: int, damage: list[tuple[int, bytes]], reads: list[tuple[int, int]]
) -> None:
    data = bytearray(SMALL_ARCHIVE[: len(SMALL_ARCHIVE) - cut % 3 * cut])
    for at, change in damage:
        # Most of the damage goes to the directory and the ends, which are at the end.
        where = max(0, len(data) - 1 - at % 4000) if at % 2 else at
        data[where : where + len(change)] = change
    link = LongLink(b"m.pt", bytes(data))
    for offset, length in [(0, 4096), *reads]:
        if offset < link.size:
            link.read(offset, length)
    verdict(b"m.pt", bytes(data))
    if link.advisor is not None:
        assert link.advisor.budget.unread <= link.advisor.budget.limit


SMALL_ARCHIVE = torch_archive(40, 10_000)


@given(
    st.binary(max_size=2000),
    st.sampled_from([b"a.pt", b"a.npz", b"a.safetensors", b"a.h5", b"a.parquet", b"x"]),
)
def test_any_bytes_under_any_name_give_no_error(noise: bytes, name: bytes) -> None:
    data = noise + bytes(70_000) + noise
    link = LongLink(name, data)
    link.read(0, 100)
    link.read(len(data) - 10, 10)
    link.read(1000, 100)
    assert advisor_for(name, 10) is None
    verdict(name, data)
    verdict(name, noise)
