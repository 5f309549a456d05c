"""Small files that ask for much: each is called after what it tries. For the tests of `inspect`, and seeds of the fuzzer."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable

from vfs.formats.events import masked_crc

MIB = 1 << 20
NODES = 4096 + MIB


def _safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def _torch(data: bytes) -> bytes:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("m/data.pkl", data)
    return to.getvalue()


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<L", masked_crc(length)) + data + bytes(4)


def _directory(names: bytes, count: int) -> bytes:
    entry = struct.pack("<4s6xH8xLLHHH8xL", b"PK\x01\x02", 0, 10, 10, len(names), 0, 0, 0) + names
    data = b"PK\x03\x04" + bytes(96) + entry * count
    size = len(entry) * count
    return data + struct.pack("<4s4HLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 100, 0)


def _text(data: bytes) -> bytes:
    return b"X" + struct.pack("<L", len(data)) + data


def _npz() -> bytes:
    text = b"{'descr': " + b"[" + b"(1,)," * 1900 + b"]" + b", 'fortran_order': False, 'shape': (1,)}"
    array = b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text
    pack = zlib.compressobj(9, wbits=-15)
    packed = pack.compress(array) + pack.flush()
    local = (
        struct.pack("<4s2xHH4x4xLLHH", b"PK\x03\x04", 0, 8, len(packed), len(array), 5, 0) + b"a.npy" + packed
    )
    entry = struct.pack("<4s6xH8xLLHHH8xL", b"PK\x01\x02", 8, len(packed), len(array), 5, 0, 0, 0) + b"a.npy"
    end = struct.pack("<4s4HLLH", b"PK\x05\x06", 0, 0, 9000, 9000, len(entry) * 9000, len(local), 0)
    return local + entry * 9000 + end


def _memo(number: int, value: bytes) -> bytes:
    return value + b"r" + struct.pack("<L", number) + b"0"


def _recall(number: int) -> bytes:
    return b"j" + struct.pack("<L", number)


def _object(*state: tuple[bytes, bytes]) -> bytes:
    return b"cx\ny\n)R}(" + b"".join(_text(name) + value for name, value in state) + b"ub"


def _dcp(before: bytes, tensors: bytes = b"", storages: bytes = b"") -> bytes:
    """A `.metadata` that lists these pairs."""
    listed = (b"state_dict_metadata", b"}(" + tensors + b"u"), (b"storage_data", b"}(" + storages + b"u")
    return b"\x80\x04" + before + _object(*listed) + b"."


def _tensors_of_one_list() -> bytes:
    chunk = _object((b"offsets", b"K\0\x85"), (b"sizes", b"K\1\x85"))
    chunks = b"](" + _recall(1) * 100_000 + b"e"
    tensor = _object((b"size", b"K\1\x85"), (b"chunks", _recall(2)))
    before = _memo(1, chunk) + _memo(2, chunks) + _memo(3, tensor)
    return _dcp(before, b"".join(_text(b"%d" % i) + _recall(3) for i in range(100)))


def _tensors_of_large_properties() -> bytes:
    tensor = b"cx\nTensorStorageMetadata\n" + _object((b"size", b")"), (b"properties", _recall(1)))[5:]
    properties = _memo(1, b"cx\ny\n)R" + _PAIRS + b"b")
    return _dcp(properties, b"".join(_text(b"%d" % i) + tensor for i in range(500)))


def _places_of_one_large_object() -> bytes:
    index = _memo(1, b"cx\ny\n)R}(" + _text(b"fqn") + _text(b"a") + b"K\1K\1" * 200_000 + b"ub")
    place = _memo(2, _object((b"relative_path", _text(b"a")), (b"offset", b"K\0"), (b"length", b"K\1")))
    return _dcp(index + place, storages=(_recall(1) + _recall(2)) * 500)


def _long_names() -> bytes:
    """Of tensors, and of shards."""
    tensor = _memo(0, _object((b"size", b")")))
    names = [_memo(1 + i, _text(b"%d" % i + "\u0416".encode() * (5 * MIB))) for i in range(2)]
    places = b"".join(
        _object((b"fqn", _recall(1 + i)))
        + _object((b"relative_path", _recall(1 + i)), (b"offset", b"K\0"), (b"length", b"K\1"))
        for i in range(2)
    )
    tensors = b"".join(_recall(1 + i) + _recall(0) for i in range(2))
    return _dcp(tensor + b"".join(names), tensors, places)


def pieces_in_shards(shards: int, pieces: int) -> bytes:
    """A `.metadata` of values of one byte, in turn at the beginning of each shard (`0.distcp`, …)."""
    index = _memo(1, _object((b"fqn", _text(b"a"))))
    files = [
        _memo(
            2 + i,
            _object((b"relative_path", _text(b"%d.distcp" % i)), (b"offset", b"K\0"), (b"length", b"K\1")),
        )
        for i in range(shards)
    ]
    places = b"".join(_recall(1) + _recall(2 + i % shards) for i in range(pieces))
    return _dcp(index + b"".join(files), storages=places)


def _hdf5(nodes: bytes) -> bytes:
    """A group whose names are one text of a MiB; its members are in `nodes`, which begin at `NODES`."""
    heap, names = 1000, NODES - MIB
    head = b"\x89HDF\r\n\x1a\n" + bytes((2, 8, 8, 0)) + struct.pack("<4Q", 0, 0, NODES, 96)
    data = head.ljust(96, b"\0") + struct.pack("<B7xI4xHH4x2Q", 1, 24, 0x11, 16, NODES, heap)
    data = data.ljust(heap, b"\0") + struct.pack("<8s3Q", b"HEAP", MIB, 0, names)
    return data.ljust(names, b"\0") + b"n" * MIB + nodes


def _members() -> bytes:
    return b"SNOD" + struct.pack("<2xH", 26_000) + struct.pack("<2Q24x", 1, 96) * 26_000


def _nodes_of_65535() -> bytes:
    """Each node has the next one as its first child, and what comes then as the others."""
    node = (b"TREE" + struct.pack("<2xH24xQ", 65_535, NODES + 40 * (i + 1)) for i in range(20_000))
    return b"".join(node) + bytes(MIB)


def _parquet() -> bytes:
    footer = b"\x29\x1c" + b"\x11" * (4 * MIB - 100) + b"\0"
    return b"PAR1" + footer + struct.pack("<L", len(footer)) + b"PAR1"


_DIMENSIONS = b",".join([b"9223372036854775807"] * 400_000)
_ENTRY = b'"%08d":{"dtype":"F32","shape":[4096,4096],"data_offsets":[0,67108864]}'
_PAIRS = b"(" + b"K\1K\1" * 200_000 + b"d"
_MANY_VALUES = b"\x2a" + b"\xfc\xff\x3f" + b"\x0a\x02\x0a\x00" * ((1 << 20) // 4 - 1)

FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "400,000 dimensions": (
        "m.safetensors",
        lambda: _safetensors(
            b'{"a":{"dtype":"F32","shape":[' + _DIMENSIONS + b'],"data_offsets":[0,4]}}',
        ),
    ),
    "300 dimensions": (
        "m.safetensors",
        lambda: _safetensors(
            b'{"a":{"dtype":"F32","shape":['
            + b",".join([b"9223372036854775807"] * 300)
            + b'],"data_offsets":[0,0]}}'
        ),
    ),
    "64 large dimensions, 10,000 times": (
        "m.safetensors",
        lambda: _safetensors(
            b"{%s}"
            % b",".join(
                b'"%d":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}'
                % (i, b",".join([b"9223372036854775807"] * 64))
                for i in range(10_000)
            )
        ),
    ),
    "a header of 100 MB": (
        "m.safetensors",
        lambda: _safetensors(b"{" + b",".join(_ENTRY % i for i in range(1_250_000)) + b"}"),
    ),
    "a header of lists": ("m.safetensors", lambda: _safetensors(b'{"a":[' + b"[]," * 2_700_000 + b"[]]}")),
    "a header of objects": (
        "m.safetensors",
        lambda: _safetensors(b'{"a":{}' + b',"a":{}' * 1_000_000 + b"}"),
    ),
    "a header that is one string": ("m.safetensors", lambda: _safetensors(b'{"' + b"\\u0041" * 1_400_000)),
    "much metadata": (
        "m.safetensors",
        lambda: _safetensors(
            b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(400_000)) + b"}}"
        ),
    ),
    "metadata over and over": (
        "m.safetensors",
        lambda: _safetensors(
            b'{"__metadata__":{"a":"b"}' + b',"__metadata__":{"a":"' + b"x" * 9_000_000 + b'"}}'
        ),
    ),
    "NEWOBJ_EX": (
        "m.pt",
        lambda: _torch(
            b"\x80\x04" + _PAIRS + b"\x940" + b"cx\ny\n\x940" + b"h\x01)h\x00\x92" * 300_000 + b"."
        ),
    ),
    "STACK_GLOBAL": (
        "m.pt",
        lambda: _torch(
            b"\x80\x04"
            + _text(b"n" * 1_000_000)
            + b"\x940"
            + b"h\x00h\x00\x930" * 10
            + b"h\x00h\x00\x93" * 200_000
            + b"."
        ),
    ),
    "calls of a name of 16 MB": (
        "m.pt",
        lambda: _torch(b"\x80\x04" + b"c" + b"n" * (16 * MIB) + b"\nx\n\x940" + b"h\x00)R" * 100_000 + b"."),
    ),
    "a text of 31 MB": (
        "m.pkl",
        lambda: b"\x80\x04" + _text(b"n" * (31 * MIB) + "\U0001f600".encode()) + b".",
    ),
    "a number of 16 MB, 900 times": (
        "m.pkl",
        lambda: (
            b"\x80\x04"
            + b"\x8b"
            + struct.pack("<L", 15 * MIB)
            + b"\x7f" * (15 * MIB)
            + b"\x94("
            + b"h\x00" * 900
            + b"l."
        ),
    ),
    "empty dicts": ("m.pkl", lambda: b"\x80\x04" + b"}" * 20_000_000 + b"."),
    "empty lists": ("m.pkl", lambda: b"\x80\x04" + b"]" * 20_000_000 + b"."),
    "calls": ("m.pkl", lambda: b"\x80\x04cx\ny\n\x94" + b"h\x00)R" * 5_000_000 + b"."),
    "marks": ("m.pkl", lambda: b"\x80\x04" + b"(" * 30_000_000 + b"."),
    "memos": ("m.pkl", lambda: b"\x80\x04N" + b"\x94" * 30_000_000 + b"."),
    "metadata that is described over and over": (
        "m.pkl",
        lambda: (
            b"\x80\x04"
            + _PAIRS
            + b"\x940"
            + b"cx\nTensorStorageMetadata\n\x940"
            + b"h\x01)Rh\x00b" * 100_000
            + b"."
        ),
    ),
    "an array of a type of a million names": (
        "m.pkl",
        lambda: (
            b"\x80\x04"
            + b"("
            + b"K\1" * 1_000_000
            + b"l\x940"
            + b"cnumpy\ndtype\nh\x00\x85R\x940"
            + b"cnumpy\nscalar\n\x940"
            + b"h\x02h\x01C\x01x\x86R" * 20_000
            + b"."
        ),
    ),
    "types within types": (
        "m.pkl",
        lambda: (
            b"\x80\x04c_\n_rebuild_from_type_v2\n\x940"
            + b")"
            + b"\x940"
            + b"h\x00Nh\x01\x87\x940"
            + b"".join(b"h\x00Nj" + struct.pack("<L", 1 + i) + b"\x87\x940" for i in range(1, 900))
            + (b"h\x00j" + struct.pack("<L", 900) + b"R0") * 50_000
            + b"N."
        ),
    ),
    "long names of many values": (
        "m.pkl",
        lambda: (
            b"\x80\x04"
            + b"}"
            + _text(b"n" * 300)
            + b"}"
            + b"("
            + b"".join(_text(b"%07d" % i) + b"}" for i in range(200_000))
            + b"us."
        ),
    ),
    "many tensors of long names": ("m.pt", lambda: _torch(_many_tensors())),
    "a directory of long names": ("m.zip", lambda: _directory(b"n" * 65_000, 1000)),
    "a directory of 1,000,000 entries": ("m.zip", lambda: _directory(b"n", 1_300_000)),
    "arrays of heavy headers": ("m.npz", _npz),
    "an array of 10,000 nested lists": (
        "m.npy",
        lambda: b"\x93NUMPY\x01\0" + struct.pack("<H", 9990) + b"[" * 9990,
    ),
    "an array of 3,000 dimensions": (
        "m.npy",
        lambda: (
            b"\x93NUMPY\x01\0"
            + struct.pack("<H", 9960)
            + (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"9," * 4900 + b")}").ljust(9960)
        ),
    ),
    "events of a million fields": (
        "events.out.tfevents.1.h",
        lambda: _record(b"\x10\x00" * ((1 << 19) - 8)) * 30,
    ),
    "events of many values": ("events.out.tfevents.1.h", lambda: _record(_MANY_VALUES) * 30),
    "events of many long tags": ("events.out.tfevents.1.h", lambda: b"".join(_tags())),
    "events of nothing": ("events.out.tfevents.1.h", lambda: _record(b"") * 4_000_000),
    "a number of 4 MB of digits": ("m.pkl", lambda: b"\x80\x02I" + b"9" * (4 * MIB) + b"\n."),
    "a float of 16 MB of digits": ("m.pkl", lambda: b"\x80\x02F0." + b"9" * (16 * MIB) + b"\n."),
    "an old checkpoint of many storages": (
        "m.pt",
        lambda: (
            pickle.dumps(0x1950A86A20F9469CFC6C, 2)
            + b"\x80\x02}." * 3
            + b"\x80\x02]("
            + b"X\1\0\0\0a" * 5_000_000
            + b"e."
        ),
    ),
    "tensors that share a list of chunks": (".metadata", _tensors_of_one_list),
    "tensors that share large properties": (".metadata", _tensors_of_large_properties),
    "places that share a large object": (".metadata", _places_of_one_large_object),
    "pieces in many shards": (".metadata", lambda: pieces_in_shards(1000, 80_000)),
    "a group of long names": ("m.h5", lambda: _hdf5(_members())),
    "a group of nodes within each other": ("m.h5", lambda: _hdf5(_nodes_of_65535())),
    "shards and tensors of long names": (".metadata", _long_names),
    "a footer of four million flags": ("m.parquet", _parquet),
}


def _many_tensors() -> bytes:
    storage = b"((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\1tQ"
    shape = b"(" + (b"\x8a\x09" + b"\xff" * 7 + b"\x7f\0") * 64 + b"t"
    one = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\0" + shape + b"tR\x940"
    return b"\x80\x02" + one + b"}" + _text(b"n" * 290) + b"](" + b"h\x00" * 300_000 + b"es."


def _tags() -> list[bytes]:
    return [
        _record(b"\x2a\x8a\x08\x0a\x87\x08\x0a\x84\x08" + b"%08d" % i + b"\xf0\x9f\x98\x80" + b"t" * 1016)
        for i in range(60_000)
    ]
