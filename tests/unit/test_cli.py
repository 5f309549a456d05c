"""The command line: what it takes, what it says, and with which exit code; the work behind it is replaced."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from vfs import config, control, errors
from vfs.address import Address
from vfs.cli import COMMANDS, console, run
from vfs.cli.options import MOUNT_KIND, real_path
from vfs.config import Settings
from vfs.fuse import mountpoint as mountpoints

LINE = "ssh -p 30022 user@host"
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(control, "directories", lambda: [tmp_path / "run"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Said:
    code: int
    out: str
    err: str


Artisync = Callable[..., Said]


@pytest.fixture
def artisync(capsys: pytest.CaptureFixture[str]) -> Artisync:
    def call(*words: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return call


def child(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
    )


# --- starting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["connect", "--help"], ["mount", "--help"], ["unmount", "-h"], ["status", "-h"]]
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    program = f"import sys; from vfs.cli import run; code = run({words!r}); print(sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    done = child("-c", program)
    assert done.returncode == 0
    assert "Usage: artisync" in done.stdout
    for heavy in ("paramiko", "cryptography", "rich", "diskcache", "vfs.stack", "vfs.mount", "mfusepy"):
        assert f"'{heavy}'" not in done.stderr


def test_help_lists_every_command_with_a_sentence(artisync: Artisync) -> None:
    said = artisync("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.out
        assert importlib.import_module(COMMANDS[name]).command.get_short_help_str(100).endswith((".", "..."))


def test_every_option_is_also_an_environment_variable() -> None:
    for name, module in COMMANDS.items():
        for param in importlib.import_module(module).command.params:
            if param.param_type_name == "option" and name in ("connect", "mount"):
                assert param.envvar == "ARTISYNC_" + max(param.opts, key=len)[2:].upper().replace("-", "_")


def test_the_version_is_told(artisync: Artisync) -> None:
    assert "0.1.0" in artisync("--version").out


# --- wrong usage and errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dance"], "No such command 'dance'"),
        (["mount"], "MOUNTPOINT"),
        (["mount", ""], "empty path"),
        (["mount", "m", "--cache-size", "20Gib8"], "20GiB"),
        (["mount", "m", "--timeout", "soon"], "30s"),
        (["mount", "m", "--ttl=-1"], "30s"),
        (["mount", "m", "--transport", "telnet"], "paramiko"),
        (["mount", "m", "--remote-root", "data"], "absolute"),
        (["mount", "m", "--ssh", "ssh -p nine host"], "'nine' is not a port"),
        (["mount", "m", "--ssh", "ssh"], "no host"),
        (["mount", "m", "--profile", "../x"], "cannot name a profile"),
        (["mount", "m", "n"], "unexpected extra argument"),
        (["connect"], "LINE"),
        (["connect", "ssh -p 0 user@host"], "not a port"),
        (["connect", "ssh -Z user@host"], "-Z is not understood"),
        (["connect", "ssh user@host 'unclosed"], "cannot be taken apart"),
        (["connect", "--remoteroot", "/x", "ssh host"], "--remoteroot"),
        (["unmount"], "MOUNTPOINT"),
        (["status", "--yaml"], "--yaml"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(artisync: Artisync, words: list[str], said: str) -> None:
    result = artisync(*words)
    assert result.code == 2
    assert said in result.err
    assert result.out == ""


def test_a_wrong_value_of_the_environment_is_wrong_usage(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTISYNC_CACHE_SIZE", "20Gib8")
    said = artisync("mount", "m", "--ssh", LINE)
    assert said.code == 2
    assert "20GiB" in said.err


def test_without_a_profile_mount_says_to_connect(artisync: Artisync) -> None:
    said = artisync("mount", "m")
    assert said.code == 1
    assert "no profile 'default'" in said.err
    assert 'artisync connect "ssh …"' in said.err


def test_a_corrupt_profile_is_told_with_its_file_and_the_next_step(artisync: Artisync, home: Path) -> None:
    path = config.profile_path("default")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    said = artisync("mount", "m")
    assert said.code == 1
    assert str(path) in said.err
    assert "artisync connect" in said.err
    assert not (home / "m").exists()


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ArtisyncError)]
)
def test_each_error_is_told_with_cause_and_next_step(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch, kind: type[errors.ArtisyncError]
) -> None:
    def fail() -> None:
        raise kind("it failed")

    monkeypatch.setattr(control, "mounts", fail)
    said = artisync("status")
    assert said.code == (2 if kind is errors.UsageError else 1)
    assert said.err.splitlines() == ["artisync: it failed", kind("x").hint]


def test_names_from_the_server_do_not_drive_the_terminal(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise errors.NoSuchPath("/a\x1b]0;owned\x07\udcff\r")

    monkeypatch.setattr(control, "mounts", fail)
    assert "/a\\x1b]0;owned\\x07\\xff\\r\n" in artisync("status").err


def test_ctrl_c_is_exit_130_without_a_word(artisync: Artisync, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(control, "mounts", interrupted)
    said = artisync("status")
    assert (said.code, said.err.strip(), said.out) == (130, "", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import os, sys\n"
        "from vfs import control\n"
        "control.mounts = lambda: []\n"
        "r, w = os.pipe(); os.close(r); os.dup2(w, 1)\n"
        "from vfs.cli import main; sys.argv[1:] = ['status', '--json']; main()\n"
    )
    done = child("-c", program)
    assert (done.returncode, done.stderr) == (1, "")


def test_with_v_an_error_comes_with_its_traceback() -> None:
    done = child("-m", "vfs", "mount", "m", "-v")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.startswith("artisync: there is no profile")


# --- connect ------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    root: bytes = b"/shared/artifacts"
    entries: int = 3
    rtt: float = 0.05


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Settings], list[errors.ArtisyncError]]:
    """Settings that were tried, and the errors that the next tries raise; `vfs.stack` is not loaded."""
    tried: list[Settings] = []
    failures: list[errors.ArtisyncError] = []

    def probe(settings: Settings, prompter: object) -> Found:
        tried.append(settings)
        if failures:
            raise failures.pop(0)
        return Found(settings.root)

    stack = types.ModuleType("vfs.stack")
    stack.probe = probe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vfs.stack", stack)
    monkeypatch.setattr("vfs.stack", stack, raising=False)
    return tried, failures


Probes = tuple[list[Settings], list[errors.ArtisyncError]]


@pytest.mark.parametrize(
    "words",
    [
        ["ssh -p 30022 user@host"],
        ["--", "ssh", "-p", "30022", "user@host"],
        ["ssh", "-p", "30022", "user@host"],
        ["ssh", "user@host", "-p", "30022"],
        ["ssh", "-p30022", "user@host"],
        ["--", "-p", "30022", "user@host"],
        ["ssh://user@host:30022"],
        ["--timeout", "5s", "ssh", "-p", "30022", "user@host"],
        ["ssh", "-p", "30022", "user@host", "--timeout", "5s"],
        ["ssh", "-v", "-p", "30022", "user@host", "--timeout=5s"],
        ["ssh -p 30022 user@host", "--timeout", "5s"],
    ],
)
def test_the_panels_line_is_taken_in_any_form(artisync: Artisync, probes: Probes, words: list[str]) -> None:
    said = artisync("connect", *words)
    assert said.code == 0, said.err
    assert probes[0][0].address == Address.parse(LINE)
    assert probes[0][0].timeout == (5.0 if any("--timeout" in word for word in words) else 30.0)


def test_an_option_of_ssh_with_a_letter_of_ours_in_it_is_not_torn_apart(
    artisync: Artisync, probes: Probes
) -> None:
    artisync("connect", "ssh", "-oServerAliveInterval=5", "-i", "/key", "-J", "jump", "-l", "me", "host")
    assert probes[0][0].address == Address.parse("ssh -oServerAliveInterval=5 -i /key -J jump -l me host")


def test_an_option_whose_value_is_ssh_does_not_start_the_line(artisync: Artisync, probes: Probes) -> None:
    assert artisync("connect", "--profile", "ssh", LINE).code == 0
    assert config.profile_names() == ["ssh"]


def test_connect_saves_a_profile_and_says_what_it_found(artisync: Artisync, probes: Probes) -> None:
    said = artisync(
        "connect", LINE, "--remote-root", "/data/", "--cache-dir", "blocks", "--cache-size", "1GiB"
    )
    assert said.code == 0
    assert "Connected to host (50 ms away); /data holds 3 entries." in said.err
    profile = config.load_profile("default")
    assert profile is not None
    assert (profile.address.line(), profile.remote_root) == (LINE, "/data")
    assert profile.options == {
        "transport": "paramiko",
        "cache_dir": str(Path("blocks").absolute()),
        "cache_size": "1GiB",
    }


def test_connect_on_a_saved_profile_changes_the_address_and_keeps_the_rest(
    artisync: Artisync, probes: Probes
) -> None:
    artisync("connect", LINE, "--remote-root", "/data", "--ttl", "9s")
    before = config.load_profile("default")
    assert artisync("connect", "ssh -p 2 user@new").code == 0
    assert before is not None
    assert config.load_profile("default") == replace(before, address=Address.parse("ssh -p 2 user@new"))
    assert probes[0][-1].ttl == 9.0


def test_what_only_the_environment_says_is_not_saved(
    artisync: Artisync, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTISYNC_TIMEOUT", "7s")
    artisync("connect", LINE)
    profile = config.load_profile("default")
    assert probes[0][0].timeout == 7.0
    assert profile is not None
    assert "timeout" not in profile.options


def test_a_key_that_was_accepted_once_is_not_accepted_for_ever(artisync: Artisync, probes: Probes) -> None:
    artisync("connect", LINE, "--accept-new-host-key", "--replace-host-key")
    assert (probes[0][0].accept_new_host_key, probes[0][0].replace_host_key) == (True, True)
    artisync("connect", LINE)
    assert (probes[0][1].accept_new_host_key, probes[0][1].replace_host_key) == (False, False)


@pytest.mark.parametrize(
    "error",
    [
        errors.Refused("host:30022 refused"),
        errors.NoAnswer("x"),
        errors.UnknownHost("x"),
        errors.HostKeyUnknown("x"),
        errors.HostKeyChanged("x"),
        errors.RootUnusable("x"),
    ],
)
def test_a_server_that_cannot_be_used_is_not_saved(
    artisync: Artisync, probes: Probes, error: errors.ConnectError
) -> None:
    probes[1].append(error)
    said = artisync("connect", LINE)
    assert said.code == 1
    assert error.hint in said.err
    assert len(probes[0]) == 1
    assert config.profile_names() == []


@pytest.fixture
def ssh_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("ssh_installed")
@pytest.mark.parametrize(
    "error",
    [
        errors.AuthRejected("x"),
        errors.KeyFileUnusable("x"),
        errors.PassphraseNeeded("x"),
        errors.ConnectError("no Match here"),
    ],
)
def test_where_paramiko_cannot_log_in_and_ssh_can_the_profile_remembers_ssh(
    artisync: Artisync, probes: Probes, error: errors.ConnectError
) -> None:
    probes[1].append(error)
    said = artisync("connect", LINE)
    assert said.code == 0
    assert [settings.transport for settings in probes[0]] == ["paramiko", "openssh"]
    assert "the system's ssh can" in said.err
    assert artisync("connect", LINE).code == 0
    assert probes[0][-1].transport == "openssh"


@pytest.mark.usefixtures("ssh_installed")
def test_where_neither_can_log_in_the_first_error_is_told(artisync: Artisync, probes: Probes) -> None:
    probes[1].extend([errors.AuthRejected("keys: a, b"), errors.ConnectError("ssh: exit 255")])
    said = artisync("connect", LINE)
    assert said.code == 1
    assert "keys: a, b" in said.err
    assert "255" not in said.err


@pytest.mark.usefixtures("ssh_installed")
def test_a_transport_that_was_asked_for_is_the_only_one_tried(artisync: Artisync, probes: Probes) -> None:
    probes[1].append(errors.AuthRejected("x"))
    assert artisync("connect", LINE, "--transport", "paramiko").code == 1
    assert len(probes[0]) == 1


def test_without_ssh_on_the_machine_there_is_no_second_try(
    artisync: Artisync, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    probes[1].append(errors.AuthRejected("x"))
    assert artisync("connect", LINE).code == 1
    assert len(probes[0]) == 1


def test_a_corrupt_profile_is_written_anew(artisync: Artisync, probes: Probes) -> None:
    path = config.profile_path("default")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    said = artisync("connect", LINE)
    assert said.code == 0
    assert "corrupt" in said.err
    assert config.load_profile("default") is not None


# --- live mounts --------------------------------------------------------------------------------------------------


@contextmanager
def live(place: Path, verbs: dict[str, Any], profile: str | None = "default") -> Iterator[None]:
    """A mount's control socket, served by a loop on another thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(
            control.announce(place, verbs, profile=profile), loop
        ).result(10)
        yield
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_connect_moves_the_live_mounts_of_that_profile_only(artisync: Artisync, probes: Probes) -> None:
    moved: list[tuple[str, Json]] = []

    def verbs(name: str) -> dict[str, Any]:
        async def move(args: Json) -> Json:
            moved.append((name, args))
            return {}

        return {"move": move}

    with (
        live(Path("/mnt/a"), verbs("a")),
        live(Path("/mnt/b"), verbs("b"), "other"),
        live(Path("/mnt/c"), verbs("c"), None),
    ):
        said = artisync("connect", LINE)
    assert said.code == 0
    assert moved == [("a", {"line": LINE, "transport": "paramiko"})]
    assert "/mnt/a has moved" in said.err


def test_a_mount_that_cannot_move_is_told_and_fails_the_command(artisync: Artisync, probes: Probes) -> None:
    async def move(_: Json) -> Json:
        raise errors.NoAnswer("host:30022 does not answer")

    with live(Path("/mnt/a"), {"move": move}):
        said = artisync("connect", LINE)
    assert said.code == 1
    assert "/mnt/a could not move" in said.err
    assert "does not answer" in said.err
    assert config.load_profile("default") is not None


STATUS: Json = {
    "mountpoint": "/mnt/a",
    "pid": 7,
    "profile": "default",
    "address": LINE,
    "root": "/shared/artifacts",
    "transport": "paramiko",
    "state": "online",
    "since_seconds": 190.0,
    "uptime_seconds": 7500.0,
    "cache": {
        "directory": "/cache",
        "disk_bytes": 3 << 29,
        "limit": 20 << 30,
        "hits": 97,
        "misses": 3,
        "queue_bytes": 0,
    },
    "remote": {
        "connections": 2,
        "bytes_received": 310 << 20,
        "requests": 40,
        "rtt_ms": 51.0,
        "rate_bytes_per_s": 12 << 20,
    },
    "fetches": [{"path": "exp/\x1b[31mbest.pt", "bytes": 1 << 20}],
}


async def told(_: Json) -> Json:
    return STATUS


def test_status_without_mounts_says_so(artisync: Artisync) -> None:
    assert artisync("status") == Said(0, "Nothing is mounted.\n", "")
    assert json.loads(artisync("status", "--json").out) == {"mounts": []}


def test_status_tells_what_each_mount_answers(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {"status": told}):
        said = artisync("status")
    assert said.code == 0
    assert said.out.splitlines() == [
        "/mnt/a  online for 3 min",
        "  server   ssh -p 30022 user@host  /shared/artifacts",
        "  mount    profile default · paramiko · process 7 · up 2 h 5 min",
        "  cache    1.5 GiB of 20.0 GiB · 97% hits · /cache",
        "  received 310 MiB in 40 requests · 2 connections · 51.0 ms round trip · 12.0 MiB/s",
        "  fetching exp/\\x1b[31mbest.pt  1.0 MiB under way",
    ]


def test_status_shows_how_far_a_fetch_is(artisync: Artisync) -> None:
    async def fetching(_: Json) -> Json:
        fetches = [{"path": f"f{n}", "done": 1 << 20, "size": 4 << 20, "rate": 2 << 20} for n in range(12)]
        return {**STATUS, "fetches": fetches}

    with live(Path("/mnt/a"), {"status": fetching}):
        lines = artisync("status").out.splitlines()
    assert lines[-2:] == [
        f"  fetching f9  {'━' * 5}{'╌' * 15}  25% of 4.0 MiB  2.0 MiB/s",
        "           and 2 more",
    ]


def test_status_for_programs_is_what_the_mounts_answer(artisync: Artisync) -> None:
    with live(Path("/mnt/a"), {"status": told}), live(Path("/mnt/b"), {"status": told}):
        assert json.loads(artisync("status", "--json").out) == {"mounts": [STATUS, STATUS]}
        assert json.loads(artisync("status", "--json", "/mnt/a").out) == {"mounts": [STATUS]}


def test_a_mount_that_does_not_answer_is_told_beside_the_others(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Json) -> Json:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr("vfs.cli.status.ANSWER_SECONDS", 0.1)
    with live(Path("/mnt/a"), {"status": told}), live(Path("/mnt/b"), {"status": never}):
        said = artisync("status")
        data = json.loads(artisync("status", "--json").out)
    assert said.code == 1
    assert "/mnt/a  online" in said.out
    assert "/mnt/b  silent" in said.out
    assert "unmount --force" in said.out
    assert [mount["state"] for mount in data["mounts"]] == ["online", "silent"]


def test_status_of_a_place_without_a_mount_is_an_error(artisync: Artisync, home: Path) -> None:
    said = artisync("status", "nothing")
    assert said.code == 1
    assert f"nothing of artisync is mounted at {home / 'nothing'}" in said.err


def test_watching_goes_on_until_ctrl_c_and_that_is_no_failure(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("vfs.cli.status.time.sleep", sleep)
    with live(Path("/mnt/a"), {"status": told}):
        said = artisync("status", "--watch", "--json")
    assert said.code == 0
    assert [json.loads(line) for line in said.out.splitlines()] == [{"mounts": [STATUS]}] * 3


# --- unmount ------------------------------------------------------------------------------------------------------


@dataclass
class Kernel:
    """What is mounted, and what was asked of it."""

    mounted: dict[Path, str]
    busy: bool = False
    dead: bool = False
    asked: list[tuple[Path, bool]] | None = None

    def mount_info(self, path: Path) -> mountpoints.MountInfo | None:
        kind = self.mounted.get(path)
        return None if kind is None else mountpoints.MountInfo(path, kind, "source")

    def is_mounted(self, path: Path) -> bool:
        return path in self.mounted

    def is_dead(self, _: Path) -> bool:
        return self.dead

    def unmount(self, path: Path, *, force: bool = False) -> None:
        self.asked = [*(self.asked or []), (path, force)]
        if self.busy and not force:
            raise errors.MountBusy(f"{path} is in use by bash (7)")
        del self.mounted[path]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, home: Path) -> Kernel:
    made = Kernel({home / "m": MOUNT_KIND})
    for name in ("mount_info", "is_mounted", "is_dead", "unmount"):
        monkeypatch.setattr(mountpoints, name, getattr(made, name))
    return made


@contextmanager
def mount_process(place: Path, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that the register has as the mount of this place."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with live(place, {}):
        path = control.socket_path(place).with_suffix(".json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": process.pid}))
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


ENDS_LATER = "import sys, time; print('up', flush=True); time.sleep(0.5)"
STAYS = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


def test_unmount_returns_after_the_end_of_the_mounts_process(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    with mount_process(home / "m", ENDS_LATER) as process:
        assert artisync("unmount", "m").code == 0
        assert process.poll() == 0
    assert kernel.asked == [(home / "m", False)]


def test_a_process_that_does_not_end_is_told(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.cli.unmount.PATIENCE", 0.05)
    with mount_process(home / "m", STAYS) as process:
        said = artisync("unmount", "m")
    assert said.code == 1
    assert f"process {process.pid} has not ended" in said.err


def test_a_busy_mount_stays_and_who_uses_it_is_told(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    kernel.busy = True
    with mount_process(home / "m", STAYS) as process:
        said = artisync("unmount", "m")
        assert process.poll() is None
    assert said.code == 1
    assert "in use by bash (7)" in said.err
    assert "--force" in said.err


@pytest.mark.parametrize("program", [STAYS, DEAF])
def test_force_unmounts_a_busy_mount_and_ends_its_process_even_a_hanging_one(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("vfs.cli.unmount.FORCED_PATIENCE", 0.2)
    kernel.busy = True
    with mount_process(home / "m", program) as process:
        assert artisync("unmount", "--force", "m").code == 0
        assert process.poll() is not None
    assert kernel.asked == [(home / "m", True)]


def test_a_dead_mount_is_cleaned_up_also_when_a_shell_stands_in_it(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    kernel.busy = kernel.dead = True
    assert artisync("unmount", "m").code == 0
    assert kernel.mounted == {}


def test_a_busy_mount_that_nobody_registered_stays(artisync: Artisync, kernel: Kernel) -> None:
    kernel.busy = True
    assert artisync("unmount", "m").code == 1
    assert kernel.mounted != {}


def test_unmounting_what_is_not_mounted_is_an_error(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    said = artisync("unmount", "other")
    assert said.code == 1
    assert f"nothing is mounted at {home / 'other'}" in said.err


def test_another_programs_mount_is_left_alone(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    kernel.mounted[home / "m"] = "fuse.sshfs"
    said = artisync("unmount", "--force", "m")
    assert said.code == 1
    assert "fuse.sshfs" in said.err
    assert kernel.asked is None


def test_status_of_a_dead_mount_says_how_to_clean_up(artisync: Artisync, kernel: Kernel) -> None:
    said = artisync("status", "m")
    assert said.code == 1
    assert "is dead" in said.err
    assert "`artisync unmount`" in said.err


# --- which server -------------------------------------------------------------------------------------------------


@pytest.fixture
def mounted_with(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which `vfs.mount.run` was called."""
    calls: list[Settings] = []

    def mount_run(settings: Settings, mountpoint: Path, **_: object) -> int:
        calls.append(settings)
        return 0

    module = types.ModuleType("vfs.mount")
    module.run = mount_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vfs.mount", module)
    monkeypatch.setattr("vfs.mount", module, raising=False)
    return calls


@pytest.mark.parametrize(
    ("words", "environment", "host", "profile"),
    [
        ([], {}, "saved", "default"),
        (["--ssh", "ssh given"], {}, "given", None),
        ([], {"ARTISYNC_SSH": "ssh env"}, "env", None),
        (["--profile", "default"], {"ARTISYNC_SSH": "ssh env"}, "saved", "default"),
        (["--ssh", "ssh given"], {"ARTISYNC_PROFILE": "default"}, "given", None),
        (["--ssh", "ssh given", "--profile", "default"], {}, "given", "default"),
    ],
)
def test_the_command_line_beats_the_environment_and_that_the_profile(
    artisync: Artisync,
    mounted_with: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    words: Sequence[str],
    environment: dict[str, str],
    host: str,
    profile: str | None,
) -> None:
    config.save_profile(config.Profile("default", Address.parse("ssh saved")))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert artisync("mount", "m", "--foreground", *words).code == 0
    [settings] = mounted_with
    assert (settings.address.host, settings.profile_name) == (host, profile)


# --- paths and words ----------------------------------------------------------------------------------------------


def test_a_mount_point_is_absolute_with_its_links_followed(home: Path) -> None:
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    (home / "to").symlink_to("link/inner")
    assert real_path("link/x") == home / "real/x"
    assert real_path("to") == home / "real/inner"
    assert real_path("real/../link") == home / "real"


def test_links_that_go_round_end_somewhere(home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    assert real_path("a").parent == home


def test_a_mounted_place_is_not_asked_anything(
    home: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(path: object, **_: object) -> str:
        assert path != home / "m", "the mount was asked"
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "readlink", hangs)
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    assert real_path("m") == home / "m"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (3 << 29, "1.5 GiB"),
        (310 << 20, "310 MiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes_are_told_in_units_that_users_know(count: int, text: str) -> None:
    assert console.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (1.9, "just now"),
        (59, "59 s ago"),
        (190, "3 min ago"),
        (7500, "2 h 5 min ago"),
        (90000, "1 d 1 h ago"),
    ],
)
def test_times_are_told_relative_to_now(seconds: float, text: str) -> None:
    assert console.ago(seconds) == text


def test_without_a_terminal_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as null:
        monkeypatch.setattr(sys, "stdin", null)
        assert console.prompter() is None
