"""The control socket over a real unix socket, and the register of live mounts."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vfs.base import mount_table
from vfs.base.errors import ArtisyncError, CannotControl, MountSilent, NotMounted, Refused, UsageError
from vfs.base.mount_table import MOUNT_KIND, MountInfo
from vfs.base.settings import Settings, resolve
from vfs.control import client, register, sockets
from vfs.control.server import ControlServer, Verb, announce

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # these tests bind and connect by the plain path, which must fit into 108 bytes: unix(7)
    with tempfile.TemporaryDirectory(prefix="run-") as short:
        directory = Path(short, "runtime")
        directory.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        yield directory


async def echo(args: Json) -> Json:
    return {"heard": args}


async def count(args: Json) -> AsyncIterator[Json]:
    for number in range(args["to"]):
        yield {"number": number}


async def shout(args: Json) -> AsyncIterator[Json]:
    yield {"data": b"\n{\xff" * args["times"], "name": "a"}
    yield {"data": b""}


async def refuse(_: Json) -> Json:
    raise Refused("nothing listens on port 1")


async def break_down(_: Json) -> Json:
    return {"no": {}["such key"]}


VERBS: Mapping[str, Verb] = {
    "echo": echo,
    "count": count,
    "refuse": refuse,
    "shout": shout,
    "break_down": break_down,
}


def served(
    body: Callable[[ControlServer], Awaitable[None]],
    verbs: Mapping[str, Verb] = VERBS,
    place: str = "/mnt/a",
) -> None:
    async def run() -> None:
        server = await announce(Path(place), verbs, profile="default")
        try:
            await asyncio.wait_for(body(server), 20)
        finally:
            await server.aclose()

    asyncio.run(run())


def asked(ask: Callable[[Path], Any], verbs: Mapping[str, Verb] = VERBS) -> Any:
    """What `ask`, on a thread of its own, gets out of a live mount's socket."""
    answers = []

    async def body(server: ControlServer) -> None:
        answers.append(await asyncio.to_thread(ask, server.path))

    served(body, verbs)
    return answers[0]


def test_a_verb_gets_its_arguments_and_its_answer_comes_back() -> None:
    assert asked(lambda path: client.call(path, "echo", a=1, b=["x"])) == {"heard": {"a": 1, "b": ["x"]}}


def test_a_stream_yields_each_item_in_order() -> None:
    items = asked(lambda path: list(client.stream(path, "count", to=3)))
    assert items == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_mount_of_another_version_that_answers_otherwise_is_not_taken_to_have_said_nothing() -> None:
    with pytest.raises(MountSilent, match="another version"):
        asked(lambda path: list(client.stream(path, "echo", a=1)))
    with pytest.raises(MountSilent, match="another version"):
        asked(lambda path: client.call(path, "count", to=3))


def test_an_answer_may_be_longer_than_any_buffer() -> None:
    text = "x" * 900_000
    assert asked(lambda path: client.call(path, "echo", text=text)) == {"heard": {"text": text}}


def test_an_error_arrives_as_its_own_class_with_its_hint() -> None:
    def ask(path: Path) -> None:
        with pytest.raises(Refused, match="port 1") as caught:
            client.call(path, "refuse")
        assert "artisync connect" in caught.value.hint

    asked(ask)


def test_a_bug_in_a_verb_is_told_and_does_not_end_the_mount() -> None:
    def ask(path: Path) -> Json:
        with pytest.raises(ArtisyncError, match="such key"):
            client.call(path, "break_down")
        return client.call(path, "echo")

    assert asked(ask) == {"heard": {}}


def test_an_unknown_verb_is_wrong_usage() -> None:
    def ask(path: Path) -> None:
        with pytest.raises(UsageError, match="'dance'"):
            client.call(path, "dance")

    asked(ask)


@pytest.mark.parametrize(
    "line",
    [b"\n", b"nonsense\n", b"[]\n", b"null\n", b'{"verb": 1}\n', b'{"verb": "echo", "args": 3}\n', b"\xff\n"],
)
def test_what_is_no_request_is_answered_with_an_error(line: bytes) -> None:
    def ask(path: Path) -> Any:
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answer:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.sendall(line)
            return json.loads(answer.readline())

    assert asked(ask)["error"]["class"] == "UsageError"


def test_an_endless_request_is_cut_off() -> None:
    def ask(path: Path) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            try:
                sock.sendall(b"x" * (4 << 20))
                return sock.recv(1) == b""
            except (BrokenPipeError, ConnectionResetError):
                return True

    assert asked(ask)


def test_a_caller_that_hangs_up_ends_what_it_asked_for() -> None:
    ended = threading.Event()

    async def endless(_: Json) -> AsyncIterator[Json]:
        try:
            yield {"started": True}
            await asyncio.Event().wait()
        finally:
            ended.set()

    def ask(path: Path) -> bool:
        items = client.stream(path, "endless")
        assert next(items) == {"started": True}
        items.close()  # type: ignore[attr-defined]
        return ended.wait(10)

    assert asked(ask, {"endless": endless})


def test_a_mount_that_does_not_answer_in_time_is_silent() -> None:
    async def never(_: Json) -> Json:
        await asyncio.Event().wait()
        return {}

    def ask(path: Path) -> None:
        with pytest.raises(MountSilent, match=r"0\.1 s"):
            client.call(path, "never", timeout=0.10001)  # what is left of a deadline

    asked(ask, {"never": never})


def test_closing_the_server_ends_calls_under_way_with_an_error() -> None:
    started = asyncio.Event()

    async def never(_: Json) -> Json:
        started.set()
        await asyncio.Event().wait()
        return {}

    async def body(server: ControlServer) -> None:
        calling = asyncio.ensure_future(asyncio.to_thread(client.call, server.path, "never"))
        await started.wait()
        await server.aclose()
        with pytest.raises(MountSilent, match="hung up"):
            await calling

    served(body, {"never": never})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"[1\n", "broke off"),
        (b'{"error": "no"}\n', "invalid answer"),
        (b'{"error": {"class": "Path", "text": "odd"}}\n', "odd"),
        (b'{"error": {"class": "__name__", "text": "odd"}}\n', "odd"),
        (b"", "hung up"),
    ],
)
def test_an_answer_that_is_none_is_told_as_an_error(runtime: Path, answer: bytes, says: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(runtime / "s"))
        listening.listen()

        def serve() -> None:
            calling, _ = listening.accept()
            with calling:
                calling.recv(1000)
                calling.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ArtisyncError, match=says):
            client.call(runtime / "s", "status")
        thread.join()


def test_a_place_where_nobody_can_listen_is_told(runtime: Path) -> None:
    async def nothing(_: ControlServer) -> None:
        raise AssertionError("it was served")

    sockets.prepare(runtime / "artisync")
    sockets.socket_path(Path("/mnt/a")).mkdir()
    with pytest.raises(CannotControl, match="cannot listen at"):
        served(nothing)


def test_a_mount_that_cannot_be_entered_in_the_register_is_not_served(runtime: Path) -> None:
    async def nothing(_: ControlServer) -> None:
        raise AssertionError("it was served")

    sockets.prepare(runtime / "artisync")
    record_of("/mnt/a").mkdir()
    with pytest.raises(CannotControl, match="cannot write"):
        served(nothing)
    assert not sockets.socket_path(Path("/mnt/a")).exists()


def test_the_mount_of_the_same_server_root_and_cache_is_found(tmp_path: Path) -> None:
    settings = resolve(
        {"ssh": "ssh -p 30022 user@127.0.0.1", "remote_root": "/r", "cache_dir": str(tmp_path)}
    )
    told = {"address": settings.address.line(), "root": "/r", "cache": {"directory": str(tmp_path)}}

    def found(profile: str | None, said: Json | None, wanted: Settings = settings) -> bool:
        async def status(_: Json) -> Json:
            if said is None:
                raise Refused("not now")
            return said

        async def run() -> bool:
            server = await announce(Path("/mnt/a"), {"status": status}, profile=profile)
            try:
                record = await asyncio.to_thread(register.mount_of, wanted)
                return record is not None and record.mountpoint == Path("/mnt/a")
            finally:
                await server.aclose()

        return asyncio.run(run())

    assert found(None, told)
    assert not found("lab", told)
    assert not found(None, {**told, "address": "ssh other"})
    assert not found(None, {**told, "root": "/other"})
    assert not found(None, None)


def test_without_a_mount_a_call_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotMounted):
        client.call(tmp_path / "nothing.sock", "status")


def test_socket_and_directory_are_the_users_alone() -> None:
    async def body(server: ControlServer) -> None:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700

    served(body)


def test_an_open_directory_is_closed_to_others(runtime: Path) -> None:
    (runtime / "artisync").mkdir(mode=0o777)
    (runtime / "artisync").chmod(0o777)

    async def body(server: ControlServer) -> None:
        assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700

    served(body)


def test_a_link_in_the_place_of_the_directory_is_refused_and_what_it_leads_to_stays_as_it_is(
    runtime: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "public"
    victim.mkdir()
    victim.chmod(0o755)
    (runtime / "artisync").symlink_to(victim)
    with pytest.raises(CannotControl, match="it is a symbolic link"):
        asked(lambda path: client.call(path, "echo"))
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o770, False), (0o1777, True), (0o755, True)])
def test_a_runtime_directory_in_which_others_can_rename_ours_is_passed_over(
    runtime: Path, mode: int, used: bool
) -> None:
    runtime.chmod(mode)
    assert (runtime / "artisync" in sockets.directories()) is used


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_records_of_another_user_are_not_read_and_his_directory_is_refused(runtime: Path) -> None:
    async def body(server: ControlServer) -> None:
        path = server.path.with_suffix(".json")
        record = {"mountpoint": "/m", "pid": os.getpid(), "profile": None}
        path.write_text(json.dumps(record))
        assert [mount.mountpoint for mount in await asyncio.to_thread(register.mounts)] == [Path("/m")]
        os.chown(path.parent, 12345, 12345)
        assert await asyncio.to_thread(register.mounts) == []

    served(body)
    with pytest.raises(CannotControl, match="it belongs to another user"):
        sockets.prepare(runtime / "artisync")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_is_turned_away(runtime: Path) -> None:
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
        "fd = os.open(sys.argv[1], os.O_PATH)\n"
        "os.setuid(12345)\n"
        "s.connect(f'/proc/self/fd/{fd}')\n"
        'try: s.sendall(b\'{"verb": "echo"}\\n\'); print(repr(s.recv(100)))\n'
        "except OSError as e: print(repr(b''))\n"
    )

    def ask(path: Path) -> str:
        # as if the permissions did not protect it
        path.chmod(0o666)
        for directory in path.parents:
            if directory.is_relative_to(runtime.parent):
                directory.chmod(0o755)
        words = [sys.executable, "-c", program, str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert asked(ask).strip() == "b''"


def test_a_runtime_directory_of_another_user_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert sockets.directories() == [tmp_path / "state/artisync/run"]


def test_a_path_too_long_for_a_socket_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert asked(lambda path: client.call(path, "echo")) == {"heard": {}}


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sockets, "directories", lambda: [tmp_path / "file/run"])

    async def nothing(_: ControlServer) -> None:
        raise AssertionError("it was served")

    with pytest.raises(CannotControl, match="Not a directory"):
        served(nothing)


# --- the register -------------------------------------------------------------------------------------------------


def record_of(place: str) -> Path:
    return sockets.socket_path(Path(place)).with_suffix(".json")


def test_a_live_mount_is_found_with_what_it_said_of_itself() -> None:
    async def body(server: ControlServer) -> None:
        [record] = await asyncio.to_thread(register.mounts)
        assert record.mountpoint == Path("/mnt/a")
        assert (record.pid, record.profile, record.socket) == (os.getpid(), "default", server.path)
        assert await asyncio.to_thread(register.find, Path("/mnt/a")) == record
        assert await asyncio.to_thread(register.find, Path("/mnt")) is None

    served(body)


def test_after_a_clean_end_nothing_is_left() -> None:
    async def body(_: ControlServer) -> None:
        return

    served(body)
    assert register.mounts() == []
    assert os.listdir(sockets.directories()[0]) == []


def test_mounts_of_a_login_and_of_a_cron_job_are_both_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(_: ControlServer) -> None:
        assert [r.mountpoint for r in await asyncio.to_thread(register.mounts)] == [
            Path("/mnt/a"),
            Path("/mnt/b"),
        ]

    async def run() -> None:
        with monkeypatch.context() as cron:
            cron.setattr(sockets, "directories", lambda: control_directories()[1:])
            other = await announce(Path("/mnt/b"), VERBS, profile=None)
        server = await announce(Path("/mnt/a"), VERBS, profile=None)
        await body(server)
        await server.aclose()
        await other.aclose()

    control_directories = sockets.directories
    asyncio.run(run())


def test_a_mount_where_another_was_that_was_moved_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [
        MountInfo(Path("/moved/a"), MOUNT_KIND, "", "0:7"),
        MountInfo(Path("/mnt/a"), MOUNT_KIND, "", "0:8"),
    ]
    monkeypatch.setattr(mount_table, "mounts", lambda: table)

    async def run() -> None:
        first = await announce(Path("/mnt/a"), VERBS, profile=None, device="0:7")
        second = await announce(Path("/mnt/a"), VERBS, profile=None, device="0:8")
        sockets_of = {one.mountpoint: one.socket for one in await asyncio.to_thread(register.mounts)}
        assert sockets_of == {Path("/moved/a"): first.path, Path("/mnt/a"): second.path}
        await first.aclose()
        await second.aclose()

    asyncio.run(run())
    assert os.listdir(sockets.directories()[0]) == []


@pytest.mark.parametrize("refuses", [False, True])
def test_a_record_without_a_socket_or_whose_socket_refuses_is_of_a_dead_mount_and_swept(
    refuses: bool,
) -> None:
    async def body(_: ControlServer) -> None:
        path = record_of("/mnt/b")
        path.write_text(json.dumps({**json.loads(record_of("/mnt/a").read_text()), "mountpoint": "/mnt/b"}))
        if refuses:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path.with_suffix(".sock")))
        assert [r.mountpoint for r in await asyncio.to_thread(register.mounts)] == [Path("/mnt/a")]
        (gone,) = await asyncio.to_thread(register.dead, lambda _: True)
        assert (gone.mountpoint, gone.profile) == (Path("/mnt/b"), "default")
        assert path.exists()
        assert await asyncio.to_thread(register.dead, lambda _: False) == []
        assert not path.exists()
        assert not path.with_suffix(".sock").exists()

    served(body)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mountpoint": 7, "pid": 1, "profile": null}'])
def test_a_damaged_record_is_swept_and_the_others_stay(text: str) -> None:
    async def body(_: ControlServer) -> None:
        record_of("/mnt/b").write_text(text)
        assert [r.mountpoint for r in await asyncio.to_thread(register.mounts)] == [Path("/mnt/a")]
        assert await asyncio.to_thread(register.dead, lambda _: False) == []
        assert not record_of("/mnt/b").exists()

    served(body)


def test_a_new_mount_of_a_place_replaces_what_a_killed_one_left() -> None:
    async def body(server: ControlServer) -> None:
        successor = await announce(Path("/mnt/a"), VERBS, profile="later")
        await server.aclose()  # must not take the successor's files with it
        record = await asyncio.to_thread(register.find, Path("/mnt/a"))
        assert record is not None
        assert record.profile == "later"
        assert await asyncio.to_thread(client.call, record.socket, "echo") == {"heard": {}}
        await successor.aclose()

    served(body)


def test_a_caller_that_hangs_up_while_it_is_told_something_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body(server: ControlServer) -> None:
        for _ in range(20):
            reader, writer = await asyncio.open_unix_connection(server.path)
            writer.write(b'{"verb": "count", "args": {"to": 1000000}}\n')
            await reader.readline()
            writer.transport.abort()
            await asyncio.sleep(0.02)

    served(body)
    assert "a verb failed" not in caplog.text


def test_bytes_come_as_they_are() -> None:
    async def body(server: ControlServer) -> None:
        items = await asyncio.to_thread(lambda: list(client.stream(server.path, "shout", times=1 << 20)))
        assert items == [{"data": b"\n{\xff" * (1 << 20), "name": "a"}, {}]

    served(body)


def test_a_mount_that_waits_for_another_to_begin_does_not_hold_the_loop() -> None:
    async def body(server: ControlServer) -> None:
        turns = 0
        with sockets.locked(server.path.parent):
            starting = asyncio.ensure_future(announce(Path("/mnt/b"), VERBS, profile=None))
            while turns < 5:
                await asyncio.sleep(0.01)
                turns += 1
            assert not starting.done()
        await (await starting).aclose()

    served(body)


def test_a_mount_point_that_is_not_utf8_is_found() -> None:
    place = Path(os.fsdecode(b"/mnt/\xff"))

    async def body(_: ControlServer) -> None:
        assert await asyncio.to_thread(register.find, place) is not None

    served(body, place=str(place))
