"""safetensors, event files, NumPy, Parquet, HDF5 and small files: what is fetched ahead, whether they are
whole.
"""

from __future__ import annotations

import io
import json
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fetch.simulated_reads import LongLink
from tests.unit.formats.made_files import safetensors_file, scalar_event, version_event
from tests.unit.formats.test_formats_zip import verdict
from vfs.formats import (
    advisor_for,
    append_only,
    events,
    format_by_head,
    hdf5,
    npy,
    safetensors,
)
from vfs.formats.advisor import run
from vfs.formats.api import PAGE, Misfit, Range
from vfs.formats.limits import Limits, TooLarge

MIB = 1 << 20
EACH = 256 << 10


@pytest.fixture(scope="module")
def model() -> bytes:
    """100 tensors of 256 KiB: one is 1 % of the file."""
    return safetensors_file({f"l{i:04}": ("F32", [256, 256], EACH) for i in range(100)}, format="pt")


def read_mapped(link: LongLink, index: int) -> None:
    """Read one tensor as a mapped file is read: the header's pages, then the tensor's."""
    length = int.from_bytes(link.data[:8], "little")
    for offset in range(0, 8 + length, PAGE):
        link.fault(offset)
    start = 8 + length + index * EACH
    for offset in range(start, start + EACH, PAGE):
        link.fault(offset)


def test_one_tensor_costs_at_most_twice_its_bytes_and_little_waiting(model: bytes) -> None:
    link = LongLink(b"model.safetensors", model)
    read_mapped(link, 50)
    assert link.now <= 4
    assert link.fetched <= 2 * EACH + 2 * MIB


def test_a_read_of_the_header_begins_no_tensor(model: bytes) -> None:
    link = LongLink(b"model.safetensors", model)
    link.read(0, 128 << 10)
    assert link.fetched <= 128 << 10


def test_several_processes_with_one_mapping_each_wait_little(model: bytes) -> None:
    link = LongLink(b"model.safetensors", model)
    for index in (90, 10, 70, 30):
        read_mapped(link, index)
    assert link.now <= 12
    assert link.fetched <= 4 * (2 * EACH + MIB)


def test_tensors_that_are_read_in_order_are_left_to_readahead(model: bytes) -> None:
    link = LongLink(b"model.safetensors", model)
    for offset in range(0, link.size, 128 << 10):
        link.read(offset, 128 << 10)
    assert sum(len(r) for r in link.wanted) <= 2 * EACH + (64 << 10)


def test_a_header_of_many_pages_comes_at_once() -> None:
    data = safetensors_file({f"layer.{i}.attention.weight": ("F32", [4], 16) for i in range(20_000)})
    link = LongLink(b"model.safetensors", data)
    length = int.from_bytes(data[:8], "little")
    for offset in range(0, length, PAGE):
        link.read(offset, PAGE)
    assert length > MIB
    assert link.now == 2


@pytest.mark.parametrize("length", [0, 1, 1 << 31, 1 << 63, (1 << 64) - 1])
def test_a_hostile_header_length_fetches_nothing(length: int) -> None:
    data = length.to_bytes(8, "little") + bytes(MIB)
    link = LongLink(b"evil.safetensors", data)
    link.read(0, PAGE)
    link.read(MIB // 2, PAGE)
    assert sum(len(r) for r in link.wanted) <= PAGE
    assert verdict(b"evil.safetensors", data)[0] is None


def test_a_header_of_a_hundred_megabytes_is_fetched_in_part() -> None:
    advisor = advisor_for(b"big.safetensors", 1 << 40)
    assert advisor is not None
    link = LongLink(b"big.safetensors", (90 * MIB).to_bytes(8, "little") + bytes(100 * MIB))
    link.read(0, PAGE)
    assert sum(len(r) for r in link.wanted) <= 9 * MIB


def parse(text: bytes) -> int:
    """Where the last tensor of a header ends."""
    data = len(text).to_bytes(8, "little") + text
    steps = safetensors.header(len(data), Limits())
    return run(steps, lambda offset, length: data[offset : offset + length])[2]


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"[" * 10_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": 5, "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e99]}}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
def test_a_header_that_lies_is_a_misfit(header: bytes) -> None:
    with pytest.raises(Misfit):
        parse(header)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]), inner)
        ),
    )
)
def test_any_json_is_a_header_or_a_misfit(value: object) -> None:
    text = json.dumps(value).encode()
    try:
        end = parse(text)
    except (Misfit, TooLarge):
        return
    assert end >= 8 + len(text)


def test_a_safetensors_file_is_whole_when_it_is_as_long_as_its_header_says(model: bytes) -> None:
    assert verdict(b"m.safetensors", model)[0] is True
    assert verdict(b"m.safetensors", model[:-1])[0] is False
    assert verdict(b"m.safetensors", model + b"x")[0] is False
    assert verdict(b"m.safetensors", model[:100])[0] is False
    assert verdict(b"m.safetensors", model[:5])[0] is False


def test_a_small_event_file_comes_whole_at_the_first_touch() -> None:
    data = version_event(1.0) + b"".join(scalar_event("loss", i, 1.0 + i) for i in range(5000))
    link = LongLink(b"events.out.tfevents.1.host.2.0", data)
    for offset in range(0, link.size, PAGE):
        link.read(offset, PAGE)
    assert link.now == 1


def test_a_large_event_file_is_left_to_readahead() -> None:
    advisor = advisor_for(b"events.out.tfevents.1.host", 100 * MIB)
    assert advisor is not None
    assert advisor.advise(LongLink(b"", b""), Range(0, PAGE)) == ()
    assert advisor.finished


def test_event_files_and_logs_are_only_appended_to() -> None:
    for name in (
        b"events.out.tfevents.1.host.2.0",
        b"train.log",
        b"m.jsonl",
        b"m.csv",
        b"nohup.out",
        b"a.TXT",
    ):
        assert append_only(name)
    for name in (b"model.pt", b"log", b"m.json", b"catalog", b"events", b"x.log.gz"):
        assert not append_only(name)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_misfit(data: bytes) -> None:
    try:
        events.event(data, Limits())
    except (Misfit, TooLarge):
        pass


def test_the_checksum_is_the_published_one() -> None:
    # RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 8A9136AA.
    crc = 0x8A9136AA
    assert events.masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def array(shape: str, version: int = 1) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<L", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_header_of_an_array_tells_its_shape(version: int) -> None:
    data = array("(3, 4)", version) + bytes(48)
    head = run(npy.header(), lambda offset, length: data[offset : offset + length])
    assert (head.shape, head.dtype, head.nbytes, head.data) == ((3, 4), "float32", 48, len(data) - 48)
    assert verdict(b"a.npy", data)[0] is True
    assert verdict(b"a.npy", data[:-1])[0] is False


@pytest.mark.parametrize("shape", ["3", "(-1,)", "(1.5,)", "('x',)", "[2]", "(" * 500, "__import__('os')"])
def test_a_header_of_an_array_that_lies_is_a_misfit(shape: str) -> None:
    data = array(shape)
    with pytest.raises(Misfit):
        run(npy.header(), lambda offset, length: data[offset : offset + length])


def parquet_file(footer: int) -> bytes:
    return b"PAR1" + bytes(2 * MIB) + bytes(footer) + footer.to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("footer", [1000, 500_000])
def test_the_footer_of_a_parquet_file_comes_with_the_first_read(footer: int) -> None:
    data = parquet_file(footer)
    link = LongLink(b"t.parquet", data)
    link.read(link.size - 8, 8)
    for offset in range(link.size - 8 - footer, link.size, PAGE):
        link.read(offset, PAGE)
    assert link.now <= 2
    assert link.fetched <= footer + (64 << 10) + 4 * PAGE


def test_a_parquet_file_is_whole_when_it_ends_with_its_footer() -> None:
    data = parquet_file(1000)
    assert verdict(b"t.parquet", data)[0] is True
    assert verdict(b"t.parquet", data[:-1])[0] is False
    assert verdict(b"t.parquet", b"something else")[0] is None


def superblock(version: int, end: int) -> bytes:
    head = hdf5.MAGIC + bytes([version])
    if version < 2:
        head += bytes(4) + bytes([8, 8, 0]) + bytes(8) + (bytes(4) if version else b"")
    else:
        head += bytes([8, 8, 0])
    return head + bytes(16) + end.to_bytes(8, "little") + bytes(100)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_an_hdf5_file_is_whole_when_it_reaches_as_far_as_it_says(version: int) -> None:
    head = superblock(version, 1000)
    assert verdict(b"a.h5", head.ljust(1000, b"\0"))[0] is True
    assert verdict(b"a.h5", head.ljust(999, b"\0"))[0] is False
    assert verdict(b"a.h5", bytes(1000))[0] is None


def test_the_head_of_an_hdf5_file_comes_with_its_first_read() -> None:
    link = LongLink(b"a.hdf5", superblock(2, MIB).ljust(MIB, b"\0"))
    link.read(0, 8)
    for offset in (2000, 9000, 40_000):
        link.read(offset, 500)
    assert link.now == 2


def test_an_index_and_the_metadata_of_a_distributed_checkpoint_come_whole() -> None:
    for name in (b"model.safetensors.index.json", b".metadata"):
        link = LongLink(name, bytes(300_000))
        for offset in range(0, 300_000, PAGE):
            link.read(offset, PAGE)
        assert link.now == 1


def test_nobody_foresees_the_reads_of_a_small_file_or_a_log() -> None:
    assert advisor_for(b"m.pt", 1000) is None
    assert advisor_for(b"train.log", 10 * MIB) is None


def test_a_file_that_nobody_knows_is_soon_left_alone() -> None:
    link = LongLink(b"unknown.xyz", bytes(MIB))
    for offset in (0, 4096):
        link.read(offset, 100)
    assert link.advisor is not None
    assert link.advisor.finished
    assert link.wanted == []
    assert format_by_head(bytes(16)) is None


@pytest.mark.timed
def test_a_read_within_a_known_file_costs_the_same_for_few_tensors_and_for_many() -> None:
    def seconds(tensors: int) -> float:
        data = safetensors_file({f"l{i}": ("F32", [1], 4096) for i in range(tensors)})
        link = LongLink(b"m.safetensors", data)
        link.read(0, len(data) // 10)
        assert link.advisor is not None
        began = time.process_time()
        for i in range(5000):
            link.advisor.advise(link, Range(i * 1000, i * 1000 + 1000))
        return time.process_time() - began

    assert seconds(5000) < 10 * seconds(50)


@pytest.mark.parametrize("kind", ["safetensors", "numpy"])
def test_real_files_are_understood(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    if kind == "numpy":
        to = io.BytesIO()
        numpy.save(to, numpy.zeros((5, 7), dtype="complex64", order="F"))
        data = to.getvalue()
        head = run(npy.header(), lambda offset, length: data[offset : offset + length])
        assert (head.shape, head.nbytes) == ((5, 7), 280)
        assert verdict(b"a.npy", data)[0] is True
        return
    data = pytest.importorskip("safetensors.numpy").save({"w": numpy.zeros((3, 4)), "b": numpy.zeros(3)})
    tensors, _, _ = run(
        safetensors.header(len(data), Limits()), lambda offset, length: data[offset : offset + length]
    )
    assert {t.name: t.shape for t in tensors} == {"w": (3, 4), "b": (3,)}
    assert verdict(b"m.safetensors", data)[0] is True


def test_real_hdf5_and_parquet_files_are_whole(tmp_path: object) -> None:
    h5py = pytest.importorskip("h5py")
    to = io.BytesIO()
    with h5py.File(to, "w") as file:
        file["x"] = list(range(1000))
    assert verdict(b"a.h5", to.getvalue())[0] is True
    assert verdict(b"a.h5", to.getvalue()[:-1])[0] is False
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    to = io.BytesIO()
    writer.write_table(arrow.table({"a": list(range(1000))}), to)
    assert verdict(b"a.parquet", to.getvalue())[0] is True
