"""`artisync inspect`: what a file holds, told without its data and without running anything."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pickle
import resource
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.formats import hostile_files, made_files
from tests.unit.formats.made_files import Named, scalar_event, torch_archive, version_event
from vfs.base.errors import Unreachable, UnreadableFormat
from vfs.commands.inspect import inspect_local
from vfs.formats.api import Misfit
from vfs.formats.checkpoints import CUT, outline
from vfs.formats.describe import inspect_file
from vfs.formats.limits import Limits, TooLarge
from vfs.formats.pickles import Stream, load
from vfs.formats.rebuild import Tensor, rebuild
from vfs.formats.report import LINES, Report, _limits, render


def look(name: str, data: bytes) -> Report:
    report = inspect_file(os.fsencode(name), len(data), lambda offset, length: data[offset : offset + length])
    json.dumps(report.as_json(), allow_nan=False)
    assert render(report)
    return report


def outlined(root: Any) -> Report:
    report = Report("", 0, "pickle")
    outline(report, root, Limits())
    return report


def symbolic(data: bytes) -> Any:
    return load(
        Stream(lambda offset, length: data[offset : offset + length], 0, len(data)), rebuild, Limits()
    )


# --- checkpoints
# --------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_told_by_nested_names_shapes_and_dtypes() -> None:
    extra = {
        "model": {"head": {"weight": made_files.tensor("0", (64, 4), "Half"), "bias": None}},
        "epoch": 12,
        "lr": 1e-3,
        "args": Named("argparse.Namespace", ()),
    }
    report = look("m.pt", torch_archive(3, 1024, extra))
    told = {t.name: (t.dtype, t.shape, t.nbytes) for t in report.tensors}
    assert told["l0002"] == ("float32", (256,), 1024)
    assert told["model.head.weight"] == ("float16", (64, 4), 512)
    assert report.values == {"model.head.bias": None, "epoch": 12, "lr": 1e-3, "args": "<argparse.Namespace>"}
    assert (report.kind, report.complete, report.notes) == ("torch", True, [])


def test_only_the_ends_and_the_pickle_of_a_checkpoint_are_read() -> None:
    data = torch_archive(100, 100_000)
    read = 0

    def counted(offset: int, length: int) -> bytes:
        nonlocal read
        read += length
        return data[offset : offset + length]

    assert len(inspect_file(b"m.pt", len(data), counted).tensors) == 100
    assert read < 500_000


def test_a_checkpoint_that_is_cut_short_still_tells_its_tensors() -> None:
    data = torch_archive(100, 10_000)
    report = look("m.pt", data[: len(data) // 2])
    assert report.complete is False
    assert len(report.tensors) == 100
    assert "missing" in report.notes[-1]
    assert "cut short" in render(report).splitlines()[0]


def test_a_checkpoint_that_is_cut_within_its_pickle_says_so() -> None:
    report = look("m.pt", torch_archive(100, 10_000)[:3000])
    assert (report.kind, report.complete, report.tensors) == ("torch", False, [])


def test_a_storage_that_is_missing_is_noticed() -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("m/data.pkl", made_files.dumps({"w": made_files.tensor("7", (10,))}))
        archive.writestr("m/data/7", bytes(39))
    report = look("m.pt", to.getvalue())
    assert report.complete is False
    assert "'7'" in report.notes[0]


def test_a_pickle_that_would_run_a_command_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"evil": Evil(), "epoch": 3}, protocol=2))
    report = look("m.pt", to.getvalue())
    assert report.values == {
        "evil": f"<{os.system.__module__}.system>",
        "evil.0": f"touch {tmp_path}/ran",
        "epoch": 3,
    }
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_is_read(protocol: int) -> None:
    value = {
        "a": [1, -5, 2**40, True, None, 1.5, "text", b"\0\xff"],
        "t": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    }
    told = outlined(symbolic(pickle.dumps(value, protocol=protocol))).values
    assert [told[f"a.{i}"] for i in range(7)] == [1, -5, 2**40, True, None, 1.5, "text"]
    assert told["t.4.3"] == 4
    assert symbolic(pickle.dumps({1, 2}, protocol=protocol)) is not None
    assert symbolic(pickle.dumps(time.gmtime(0), protocol=protocol)) is not None


def test_a_pickle_that_holds_itself_is_walked_within_limits() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert outlined(symbolic(pickle.dumps(loop))).notes == [CUT]


STEPS = 10_000


class Counted(list[Any]):
    """A list that counts the values which were looked at in all lists of its kind."""

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        for value in super().__iter__():
            Counted.looked_at += 1
            assert Counted.looked_at <= 2 * STEPS
            yield value


def test_lists_that_are_named_many_times_are_walked_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfs.formats.limits.MOST_STEPS", STEPS)
    laughs = Counted(["ha"])
    for _ in range(40):
        laughs = Counted([laughs] * 10)
    for root in (laughs, Counted([[Counted(range(1000))]] * 200)):
        Counted.looked_at = 0
        assert outlined(root).notes == [CUT]
        assert Counted.looked_at > STEPS // 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b".",
        b"(.",
        b"0.",
        b"t.",
        b"\x80\x02R.",
        b"\x80\x02)R.",
        b"\x80\x02K\x01b.",
        b"\x80\x02(K\x01u.",
        b"\x80\x02}(K\x01u.",
        b"h\x05.",
        b"\x8d" + b"\xff" * 8,
        b"\x8e" + b"\xff" * 7 + b"\x0f",
        b"\x8b\xff\xff\xff\x7f",
        b"I" + b"9" * 10_000 + b"\n.",
        b"\xff.",
        b"cos\nsystem",
    ],
)
def test_what_is_no_pickle_is_a_misfit(data: bytes) -> None:
    with pytest.raises((Misfit, TooLarge)):
        outlined(symbolic(data))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_pickle_or_a_misfit(data: bytes) -> None:
    try:
        outlined(symbolic(data))
    except (Misfit, TooLarge):
        pass


opcodes = st.sampled_from(
    [bytes([c]) for c in b"().0123]}eusabtRQ\x85\x86\x87\x81\x94N\x88"]
    + [b"K\x01", b"X\x01\0\0\0a", b"q\0", b"h\0"]
    + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"]
)


@given(st.lists(opcodes, max_size=60))
def test_any_opcodes_are_a_pickle_or_a_misfit(codes: list[bytes]) -> None:
    try:
        outlined(symbolic(b"".join(codes) + b"."))
    except (Misfit, TooLarge):
        pass


@pytest.mark.parametrize(
    "args",
    [
        (),
        (1, 2, 3, 4),
        (made_files.Stored("Float", "0", 4), 0, ("x",)),
        (made_files.Stored("Float", "0", 4), 0, (-1,)),
        (made_files.Stored("Float", "0", -4), 0, (1,)),
        (made_files.Stored("Float", "0", 4), 0, (1,) * 100),
    ],
)
def test_a_tensor_that_makes_no_sense_is_shown_as_a_call(args: tuple[Any, ...]) -> None:
    data = made_files.dumps({"w": Named("torch._utils._rebuild_tensor_v2", args)})
    told = outlined(symbolic(data))
    assert told.tensors == []
    assert told.values["w"] == "<torch._utils._rebuild_tensor_v2>"


def test_tensors_of_types_without_a_storage_type_tell_their_dtype() -> None:
    stored = made_files.Stored("Untyped", "0", 4)
    args = (stored, 0, (4,), (1,), False, {}, Named("torch.float8_e4m3fn"))
    v3 = Named("torch._utils._rebuild_tensor_v3", args)
    (found,) = outlined(symbolic(made_files.dumps({"w": v3}))).tensors
    assert (found.name, found.dtype, found.nbytes) == ("w", "float8_e4m3fn", 4)


# --- safetensors, NumPy, zip
# --------------------------------------------------------------------------------------


def test_a_safetensors_file_tells_its_header() -> None:
    data = made_files.safetensors_file({"w": ("BF16", [2, 3], 12)}, format="pt")
    report = look("m.safetensors", data)
    (t,) = report.tensors
    assert (t.name, t.dtype, t.shape, t.nbytes) == ("w", "bfloat16", (2, 3), 12)
    assert (report.metadata, report.complete) == ({"format": "pt"}, True)
    cut = look("m.safetensors", data[:-5])
    assert (cut.complete, cut.notes) == (False, ["5 bytes are missing."])
    assert look("m.safetensors", data[:20]).complete is False


def npy(shape: str, body: bytes, pad: int = 0) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode() + b" " * pad
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("pad", [0, 6000])
def test_the_arrays_of_an_npz_are_told(method: int, pad: int) -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", method) as archive:
        archive.writestr("a.npy", npy("(2, 5)", os.urandom(80), pad))
        archive.writestr("b.npy", npy("()", os.urandom(8), pad))
        archive.writestr("c.npy", b"no array")
    report = look("x.npz", to.getvalue())
    assert [(t.name, t.shape) for t in report.tensors] == [("a", (2, 5)), ("b", ())]
    assert len(report.notes) == 1


def test_an_npz_of_very_many_arrays_is_told_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfs.formats.limits.LOOK_BYTES", 1 << 20)
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        for number in range(200):
            archive.writestr(f"{number:03}.npy", npy("()", bytes(8)))
    report = look("x.npz", to.getvalue())
    assert 50 < len(report.tensors) < 150
    assert report.notes == [f"Only the first {len(report.tensors)} arrays are listed."]


def test_an_array_tells_its_shape_and_whether_it_is_whole() -> None:
    report = look("a.npy", npy("(3,)", bytes(24)))
    assert (report.tensors[0].shape, report.complete) == ((3,), True)
    assert look("a.npy", npy("(3,)", bytes(23))).complete is False


def test_any_other_zip_lists_its_members() -> None:
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("readme.txt", bytes(123))
    assert look("x.zip", to.getvalue()).values == {"readme.txt": 123}


def test_a_directory_of_a_million_entries_is_read_in_part() -> None:
    from tests.unit.formats.test_formats_zip import big_directory

    report = look("evil.zip", big_directory(1_000_000))
    assert len(report.values) <= 10_000
    assert "Only the first" in report.notes[0]


# --- event files
# --------------------------------------------------------------------------------------------------


@functools.cache
def image_event() -> bytes:
    return made_files.plugin_event("image", 7, "images", bytes(3 << 20))


def events(steps: int) -> bytes:
    return (
        version_event(1000.0)
        + b"".join(scalar_event(tag, i, 1000.0 + i) for i in range(steps) for tag in ("loss", "acc"))
        + image_event()
        + scalar_event("loss", steps, 2000.0)
    )


def test_an_event_file_tells_its_tags_and_steps() -> None:
    report = look("events.out.tfevents.1.host", events(50))
    told = {t.tag: (t.kind, t.count, t.first_step, t.last_step) for t in report.tags}
    assert told == {
        "loss": ("scalars", 51, 0, 50),
        "acc": ("scalars", 50, 0, 49),
        "image": ("images", 1, 7, 7),
    }
    assert (report.complete, report.records) == (True, 103)
    assert (report.first_step, report.last_step) == (0, 50)
    assert (report.first_time, report.last_time) == (1000.0, 2000.0)


def test_large_records_of_an_event_file_are_skipped() -> None:
    data = events(5)
    read = 0

    def counted(offset: int, length: int) -> bytes:
        nonlocal read
        read += len(data[offset : offset + length])
        return data[offset : offset + length]

    inspect_file(b"events.out.tfevents.1.host", len(data), counted)
    assert read < len(data)


@pytest.mark.parametrize("cut", [1, 5, 17, 30])
def test_an_event_file_that_ends_within_a_record_says_where(cut: int) -> None:
    data = events(3)
    last = len(data) - len(scalar_event("loss", 3, 2000.0))
    report = look("events.out.tfevents.1.host", data[:-cut])
    assert report.complete is False
    assert f"at byte {last}" in report.notes[0]


def test_a_last_record_that_is_damaged_is_noticed() -> None:
    data = bytearray(events(3))
    data[-6] ^= 1
    assert look("events.out.tfevents.1.host", bytes(data)).complete is False


def test_damage_between_records_ends_the_reading() -> None:
    first = version_event(1.0)
    report = look("events.out.tfevents.1.host", first + bytes(100))
    assert (report.complete, report.records) == (False, 1)


# --- whatever comes
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.pt", "x.h5", "x.npz", "x", "x.safetensors", "events.out.tfevents.1.h"])
@pytest.mark.parametrize("data", [b"", b"x", b"\x80\x02X", b"hello world, hello world", bytes(100)])
def test_what_is_of_no_known_kind_is_unreadable(name: str, data: bytes) -> None:
    if len(data) < 8 and name in ("x.safetensors", "events.out.tfevents.1.h"):
        assert look(name, data).complete is (name[0] == "e" and data == b""), (
            "no more than its beginning is there"
        )
        return
    with pytest.raises(UnreadableFormat) as e:
        look(name, data)
    assert name in str(e.value)
    assert "artisync inspect" in e.value.hint


FILES: list[Callable[[], tuple[str, bytes]]] = [
    lambda: ("m.pt", torch_archive(5, 100, {"epoch": 1})),
    lambda: ("m.safetensors", made_files.safetensors_file({"w": ("F32", [4], 16)})),
    lambda: ("events.out.tfevents.1.h", version_event(1.0) + scalar_event("loss", 1, 2.0) * 3),
    lambda: ("a.npy", npy("(3,)", bytes(24))),
    lambda: ("t.parquet", b"PAR1" + bytes(50) + (20).to_bytes(4, "little") + b"PAR1"),
    lambda: ("t.parquet", made_files.parquet_file(3, ["step", "loss"])),
    lambda: ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    lambda: ("noise", b""),
]


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=9)), max_size=5),
    st.integers(0, 3000),
)
def test_damaged_files_give_a_report_or_are_unreadable(
    make: Callable[[], tuple[str, bytes]], damage: list[tuple[int, bytes]], cut: int
) -> None:
    name, whole = make()
    data = bytearray(whole)
    for at, change in damage:
        data[at % (len(data) + 1) : at % (len(data) + 1) + len(change)] = change
    if cut % 2:
        del data[cut:]
    try:
        look(name, bytes(data))
    except UnreadableFormat:
        pass


def test_an_error_of_the_link_is_not_taken_for_a_damaged_file() -> None:
    def broken(offset: int, length: int) -> bytes:
        raise Unreachable("no answer")

    with pytest.raises(Unreachable):
        inspect_file(b"m.pt", 1000, broken)


def test_names_cannot_drive_the_terminal() -> None:
    data = made_files.safetensors_file({"\x1b[2Jw\n": ("F32", [1], 4)})
    text = render(look("m\x1b[31m.safetensors", data))
    assert "\x1b" not in text
    assert "\\x1b[2Jw\\n" in text


def test_long_lists_are_shown_in_part() -> None:
    report = look("m.pt", torch_archive(500, 16, {f"value-{i}": i for i in range(3)}))
    report.notes = [f"note {i}" for i in range(9)]
    text = render(report)
    assert len(text.splitlines()) == LINES
    assert "value-2" in text
    assert "more, with --all" in text
    assert "value-2" in render(report, everything=True)
    assert len(render(report, everything=True).splitlines()) > 500


@pytest.mark.parametrize("lengths", [[], [3], [500], [500, 500], [2, 500, 1], [500] * 5, [5, 6, 7]])
def test_tables_share_the_lines_that_there_are(lengths: list[int]) -> None:
    limits = _limits(lengths, LINES - 2)
    assert all(0 < limit <= length for limit, length in zip(limits, lengths, strict=True))
    used = sum(limit + 2 + (limit < length) for limit, length in zip(limits, lengths, strict=True))
    assert used <= LINES - 2
    assert limits == lengths or used > LINES - 2 - len(lengths)


def test_long_lists_tell_their_totals() -> None:
    text = render(look("m.pt", torch_archive(500, 16)))
    assert "500 tensors, 2,000 elements, 7.8 KiB, float32" in text


# --- tables and arrays
# --------------------------------------------------------------------------------------------------


def test_a_parquet_file_tells_its_rows_and_columns() -> None:
    report = look("t.parquet", made_files.parquet_file(3, ["step", "loss"]))
    assert (report.rows, report.columns, report.complete) == (3, {"step": "float64", "loss": "float64"}, True)
    assert "3 rows, 2 columns" in render(report)


def test_a_real_parquet_file_is_told() -> None:
    arrow = pytest.importorskip("pyarrow")
    files = pytest.importorskip("pyarrow.parquet")
    columns = {
        "step": arrow.array([1, 2]),
        "loss": arrow.array([1.0, 2.0], arrow.float32()),
        "name": ["a", "b"],
        "ok": [True, False],
        "at": arrow.array([1, 2], arrow.timestamp("us")),
        "embedding": [[1.0], [2.0]],
        "nested": [{"a": 1, "b": {"c": "d"}}] * 2,
        "scores": arrow.array([[("k", 1)]] * 2, arrow.map_(arrow.string(), arrow.int64())),
        "raw": [b"1", b"2"],
        "small": arrow.array([1, 2], arrow.uint8()),
    }
    to = io.BytesIO()
    files.write_table(arrow.table(columns), to, row_group_size=1)
    report = look("t.parquet", to.getvalue())
    assert report.rows == 2
    assert report.columns == {
        "step": "int64",
        "loss": "float32",
        "name": "string",
        "ok": "bool",
        "at": "timestamp",
        "embedding": "list of float64",
        "nested.a": "int64",
        "nested.b.c": "string",
        "scores": "map of string, int64",
        "raw": "bytes",
        "small": "uint8",
    }
    assert look("t.parquet", to.getvalue()[:-5]).columns == {}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_real_hdf5_file_tells_its_datasets(libver: str) -> None:
    h5py, numpy = pytest.importorskip("h5py"), pytest.importorskip("numpy")
    to = io.BytesIO()
    with h5py.File(to, "w", libver=libver) as file:
        file.create_dataset("model/layer/weight", data=numpy.zeros((3, 4), "float32"), chunks=(3, 2))
        file["steps"] = numpy.arange(10)
        file["name"] = "text"
        file["loss"] = 1.5
        file["soft"] = h5py.SoftLink("/steps")
        file["hard"] = file["steps"]
        file["model"]["above"] = file["/"]
        file["steps"].attrs["long"] = "y" * 2000
        for i in range(200):
            file[f"many/{i:03}"] = numpy.zeros(2, "u1")
    report = look("a.h5", to.getvalue())
    told = {t.name: (t.dtype, t.shape, t.nbytes) for t in report.tensors}
    assert told["model/layer/weight"] == ("float32", (3, 4), 48)
    assert told["loss"] == ("float64", (), 8)
    assert told["name"][0] == "string"
    assert ("steps" in told) != ("hard" in told)
    assert len([name for name in told if name.startswith("many/")]) == (200 if libver == "earliest" else 0)
    assert ("1 of its groups" in render(report)) is (libver == "latest")
    assert look("a.h5", to.getvalue()[:-100]).complete is False


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=8))
def test_a_damaged_hdf5_file_gives_a_report(damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(_hdf5())
    for at, change in damage:
        at = 8 + at % (len(data) - 8)
        data[at : at + len(change)] = change
    with contextlib.suppress(UnreadableFormat):
        assert look("a.h5", bytes(data)).kind == "hdf5"


@functools.cache
def _hdf5() -> bytes:
    h5py, numpy = pytest.importorskip("h5py"), pytest.importorskip("numpy")
    to = io.BytesIO()
    with h5py.File(to, "w") as file:
        for i in range(30):
            file[f"a/b{i % 3}/{i}"] = numpy.zeros(2, "u1")
    return to.getvalue()


# --- real files
# ---------------------------------------------------------------------------------------------------


def test_a_real_training_checkpoint_is_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    numpy = pytest.importorskip("numpy")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 12,
        "best": numpy.float64(1.25),
        "array": numpy.zeros((2, 3), dtype="int16"),
        "fp8": torch.zeros(4).to(torch.float8_e4m3fn),
        "size": torch.Size([1, 2]),
        "sparse": torch.eye(3).to_sparse(),
        "module": model,
    }
    expected = {k: ("float32", tuple(v.shape)) for k, v in model.state_dict(prefix="model.").items()}
    for old in (False, True):
        path = tmp_path / f"{old}.pt"
        if old:
            del state["fp8"], state["sparse"]
        torch.save(state, path, _use_new_zipfile_serialization=not old)
        data = path.read_bytes()
        report = look("m.pt", data)
        told = {t.name: (t.dtype, t.shape) for t in report.tensors}
        assert expected.items() <= told.items()
        assert told["optimizer.state.0.exp_avg"] == ("float32", (4, 3))
        assert told["array"] == ("int16", (2, 3))
        assert told["module._modules.0._parameters.weight"] == ("float32", (4, 3))
        assert old or told["fp8"] == ("float8_e4m3fn", (4,))
        assert old or told["sparse"] == ("float32", (3, 3))
        assert (report.values["epoch"], report.values["best"]) == (12, 1.25)
        assert report.values["optimizer.param_groups.0.lr"] == 1e-3
        assert report.complete is True
        assert look("m.pt", data[:-1]).complete is False


def test_a_real_distributed_checkpoint_is_told_by_its_metadata_and_so_is_a_shard(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    model = {"w": torch.zeros(10, 20), "b": torch.zeros(3, dtype=torch.bfloat16)}
    checkpoint.save({"model": model, "epoch": 12, "lr": 0.5}, checkpoint_id=tmp_path, no_dist=True)
    (shard,) = tmp_path.glob("*.distcp")
    expected = {("model.w", "float32", (10, 20)), ("model.b", "bfloat16", (3,))}
    for place, kind in ((tmp_path, "dcp"), (tmp_path / ".metadata", "dcp"), (shard, "dcp-shard")):
        report = inspect_local(place)
        assert {(t.name, t.dtype, t.shape) for t in report.tensors} == expected
        assert (report.kind, report.complete, report.values) == (kind, True, {"epoch": 12, "lr": 0.5})
    cut = shard.read_bytes()[:-100]
    shard.write_bytes(cut)
    assert inspect_local(shard).complete is False
    assert inspect_local(tmp_path).complete is False
    shard.unlink()
    assert f"{shard.name} is missing." in inspect_local(tmp_path).notes
    alone = look(shard.name, cut)
    assert (alone.kind, alone.tensors, alone.complete) == ("dcp-shard", [], None)


def test_a_checkpoint_of_many_shards_needs_few_descriptors(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(hostile_files.pieces_in_shards(300, 300))
    for number in range(300):
        (tmp_path / f"{number}.distcp").write_bytes(b"1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 50, hard))
    try:
        report = inspect_local(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert report.complete is True


def test_a_metadata_that_names_files_elsewhere_opens_none(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    checkpoint.save({"w": torch.zeros(3)}, checkpoint_id=tmp_path, no_dist=True)
    data = (tmp_path / ".metadata").read_bytes().replace(b"__0_0.distcp", b"../../passwd")
    asked: list[str] = []

    def beside(name: str) -> None:
        asked.append(name)

    report = inspect_file(b".metadata", len(data), lambda at, length: data[at : at + length], beside)
    assert (asked, report.complete) == ([], False)


def test_a_real_event_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    writing = pytest.importorskip("torch.utils.tensorboard")
    numpy = pytest.importorskip("numpy")
    with writing.SummaryWriter(str(tmp_path)) as writer:
        for step in range(100):
            writer.add_scalar("train/loss", 1.0 / (1 + step), step)
        writer.add_histogram("weights", numpy.arange(100), 5)
        writer.add_image("image", numpy.zeros((3, 8, 8)), 6)
        writer.add_text("notes", "hello", 7)
    (path,) = tmp_path.iterdir()
    report = look(path.name, path.read_bytes())
    told = {t.tag: (t.kind, t.count, t.first_step, t.last_step) for t in report.tags}
    assert told["train/loss"] == ("scalars", 100, 0, 99)
    assert told["weights"] == ("histograms", 1, 5, 5)
    assert told["image"] == ("images", 1, 6, 6)
    assert told["notes/text_summary"] == ("text", 1, 7, 7)
    assert report.complete is True


def test_real_arrays_are_told() -> None:
    numpy = pytest.importorskip("numpy")
    to = io.BytesIO()
    numpy.savez_compressed(to, a=numpy.zeros((2, 3)), b=numpy.array(["x", "yz"]))
    assert [(t.name, t.dtype, t.shape) for t in look("x.npz", to.getvalue()).tensors] == [
        ("a", "float64", (2, 3)),
        ("b", "<U2", (2,)),
    ]


def test_a_tensor_knows_its_bytes() -> None:
    assert Tensor("bfloat16", (3, 4)).nbytes == 24
    assert Tensor("complex128", ()).nbytes == 16
    assert Tensor("<f8", (3,)).nbytes == 0
