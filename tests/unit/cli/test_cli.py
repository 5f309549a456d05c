"""What every command line has in common: help, wrong usage, errors, exit codes, and which server is meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import Artisync, Kernel
from vfs import cli
from vfs.base import errors
from vfs.base.address import Address
from vfs.base.profiles import Profile, profile_path, save_profile
from vfs.base.settings import Settings
from vfs.cli import COMMANDS, console, load
from vfs.cli.options import real_path
from vfs.control import register
from vfs.files.experiments import nearest

LINE = "ssh -p 30022 user@host"
Json = dict[str, Any]


pytestmark = pytest.mark.usefixtures("home")


def child(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **env},
    )


def test_help_loads_nothing_heavy() -> None:
    words = [["--help"], ["connect", "--help"], ["mount", "--help"], ["unmount", "-h"], ["status", "-h"]]
    program = f"import sys; from vfs.cli import run; codes = set(map(run, {words})); print(sorted(sys.modules), file=sys.stderr); sys.exit(max(codes))"
    done = child("-c", program)
    assert done.returncode == 0
    assert done.stdout.count("Usage: artisync") == len(words)
    for heavy in (
        "asyncio",
        "paramiko",
        "cryptography",
        "rich",
        "diskcache",
        "vfs.stack",
        "vfs.commands.mount",
        "mfusepy",
    ):
        assert f"'{heavy}'" not in done.stderr


def test_a_command_that_connects_does_without_what_paramiko_alone_would_load() -> None:
    done = child("-X", "importtime", "-m", "vfs", "connect", "ssh -p 1 127.0.0.1")
    assert " paramiko.transport\n" in done.stderr
    assert " invoke.collection\n" not in done.stderr


def test_help_lists_every_command_with_a_sentence(artisync: Artisync) -> None:
    said = artisync("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in said.out
        assert load(name).get_short_help_str(100).endswith((".", "..."))


def test_every_option_is_also_an_environment_variable() -> None:
    for name in COMMANDS:
        for param in load(name).params:
            # what `wait` calls its timeout is not the one of a file operation
            if param.param_type_name == "option" and (name, param.name) != ("wait", "timeout"):
                assert param.envvar == "ARTISYNC_" + max(param.opts, key=len)[2:].upper().replace("-", "_")


def test_the_version_is_told(artisync: Artisync) -> None:
    assert "0.1.0" in artisync("--version").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dance"], "no such command 'dance'"),
        (["mount"], "MOUNTPOINT"),
        (["mount", ""], "empty path"),
        (["mount", "m", "--cache-size", "20Gib8"], "20GiB"),
        (["mount", "m", "--cache-size", "10"], "'10' has no unit"),
        (["cache", "prune", "--cache-size", "10MiB"], "too small"),
        (["cache", "prune", "--to", "10"], "'10' has no unit"),
        (["cache", "prune", "--to", f"{'9' * 400}GiB"], "not a size that can be used"),
        (["pull", "--all", "--watch", "--json", "copy"], "--watch and --json cannot be combined"),
        (["mount", "m", "--timeout", "soon"], "30s"),
        (["mount", "m", "--ttl=-1"], "30s"),
        (["mount", "m", "--transport", "telnet"], "paramiko"),
        (["mount", "m", "--remote-root", "~other/data"], "is not a path"),
        (["mount", "m", "--ssh", "ssh -p nine host"], "'nine' is not a port"),
        (["mount", "m", "--ssh", "ssh"], "no host"),
        (["mount", "m", "--profile", "../x"], "cannot name a profile"),
        (["mount", "m", "n"], "unexpected extra argument"),
        (["connect"], "LINE"),
        (["connect", "ssh -p 0 user@host"], "not a port"),
        (["connect", "ssh -Z user@host"], "unknown option -Z"),
        (["connect", "ssh user@host 'unclosed"], "cannot be parsed"),
        (["connect", "--remoteroot", "/x", "ssh host"], "--remoteroot"),
        (["status", "--yaml"], "--yaml"),
        (["conect"], "no such command 'conect'. Did you mean connect?"),
        (["stat"], "no such command 'stat'. Did you mean status?"),
        (["xyz"], "no such command 'xyz'.\n"),
    ],
)
def test_wrong_usage_is_told_as_other_errors_are_with_exit_code_2(
    artisync: Artisync, words: list[str], said: str
) -> None:
    result = artisync(*words)
    assert result.code == 2
    assert said in result.err
    assert result.err.startswith("artisync: ")
    assert result.err.splitlines()[0].endswith((".", "?", "?)")) or "--help" not in result.err
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
    assert "no server yet" in said.err
    assert 'artisync connect "ssh -p PORT USER@HOST"' in said.err


def test_a_corrupt_profile_is_told_with_its_file_and_the_next_step(artisync: Artisync, home: Path) -> None:
    path = profile_path("default")
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

    monkeypatch.setattr(register, "mounts", fail)
    said = artisync("status")
    assert said.code == (2 if kind is errors.UsageError else 1)
    assert said.err.splitlines() == list(filter(None, ["artisync: it failed", kind("x").hint]))


def test_names_from_the_server_do_not_drive_the_terminal(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise errors.NoSuchPath("/a\x1b]0;owned\x07\udcff\r")

    monkeypatch.setattr(register, "mounts", fail)
    assert "/a\\x1b]0;owned\\x07\\xff\\r\n" in artisync("status").err


def test_ctrl_c_is_exit_130_without_a_word(artisync: Artisync, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(register, "mounts", interrupted)
    said = artisync("status")
    assert (said.code, said.err.strip(), said.out) == (130, "", "")


def test_little_is_loaded_before_ctrl_c_is_silent() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import vfs.__main__; print(*sys.modules)"
    words = [sys.executable, "-I", "-S", "-c", program, str(Path(cli.__file__).parents[2])]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert not {"typing", "re", "vfs.cli"} & {*loaded}


def test_ctrl_c_while_modules_are_loaded_is_an_end_without_a_word(home: Path) -> None:
    (home / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = child("-m", "vfs", "status", PYTHONPATH=f"{home}{os.pathsep}{Path(__file__).parents[3]}")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import os, sys\n"
        "from vfs.control import register\n"
        "register.mounts = lambda: []\n"
        "r, w = os.pipe(); os.close(r); os.dup2(w, 1)\n"
        "from vfs.cli import main; sys.argv[1:] = ['status', '--json']; main()\n"
    )
    done = child("-c", program)
    assert (done.returncode, done.stderr) == (1, "")


def in_a_shell(words: str) -> subprocess.CompletedProcess[str]:
    """What a command line of artisync did, with the shell's redirections."""
    command = ["sh", "-c", f"exec {sys.executable} -m vfs {words}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("words", ["status", "completion bash"])
@pytest.mark.parametrize(("where", "why"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_an_output_that_takes_nothing_is_told(words: str, where: str, why: str) -> None:
    done = in_a_shell(f"{words} {where}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"artisync: cannot write to the standard output: {why}")
    assert "redirect" in done.stderr


@pytest.mark.parametrize("where", ["2>/dev/full", "<&- 2>&-"])
def test_messages_that_cannot_be_written_stop_no_command(where: str) -> None:
    done = in_a_shell(f"profile list --json -v {where}")
    assert (done.returncode, done.stdout) == (0, '{\n  "profiles": []\n}\n')
    assert in_a_shell(f"profile list {where}").returncode == 0


def test_a_working_directory_that_is_gone_is_told(
    artisync: Artisync, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "gone").mkdir()
    monkeypatch.chdir(home / "gone")
    (home / "gone").rmdir()
    assert artisync("status").code == 0
    for words in (["mount", "m", "--ssh", LINE], ["unmount", "m"], ["pull", "exp-1", "copy"]):
        said = artisync(*words)
        assert said.code == 1
        assert "the working directory is gone" in said.err


def test_too_few_open_files_are_told() -> None:
    limited = f"ulimit -n 5; exec {sys.executable} -m vfs ls --ssh '{LINE}'"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith("artisync: too many open files; the limit is 5\n")
    assert "`ulimit -n 1024`" in done.stderr
    assert "unexpected" not in done.stderr


def test_a_user_without_a_home_directory_is_told(artisync: Artisync, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_config_path", unknown)
    assert "this user has no home directory" in artisync("profile", "list").err
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: Path("~/.config/artisync"))
    said = artisync("mount", "m")  # what older versions of platformdirs answer
    assert (said.code, said.out) == (1, "")
    assert "not an absolute path: ~/.config/artisync" in said.err


def test_with_v_an_error_comes_with_its_traceback() -> None:
    done = child("-m", "vfs", "mount", "m", "-v")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.startswith("artisync: no server yet")


@pytest.fixture
def mounted_with(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which `vfs.commands.mount.run` was called."""
    calls: list[Settings] = []

    def mount_run(settings: Settings, mountpoint: Path, **_: object) -> int:
        calls.append(settings)
        return 0

    module = types.ModuleType("vfs.commands.mount")
    module.run = mount_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vfs.commands.mount", module)
    monkeypatch.setattr("vfs.commands.mount", module, raising=False)
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
    save_profile(Profile("default", Address.parse("ssh saved")))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert artisync("mount", "m", "--foreground", *words).code == 0
    [settings] = mounted_with
    assert (settings.address.host, settings.profile_name) == (host, profile)


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
        (29 * 86400, "29 d ago"),
    ],
)
def test_times_are_told_relative_to_now(seconds: float, text: str) -> None:
    assert console.ago(seconds) == text


@pytest.mark.parametrize(
    ("word", "like"),
    [
        ("exp-gpt", ["exp-gpt-small-lr1e-4"]),
        ("gpt", ["exp-gpt-small-lr1e-4"]),
        ("exp_beta", ["exp-beta"]),
        ("exp", ["exp-beta", "exp-alpha", "exp-gpt-small-lr1e-4"]),
        ("exp-gtp", ["exp-gpt-small-lr1e-4"]),
        ("exp-resnet", []),
        ("exp-9", []),
        ("zz", []),
        ("a", []),
        ("", []),
    ],
)
def test_only_what_may_have_been_meant_is_suggested(word: str, like: list[str]) -> None:
    assert sorted(nearest(word, ["exp-alpha", "exp-beta", "exp-gpt-small-lr1e-4"])) == sorted(like)


def test_what_is_long_ago_has_a_date() -> None:
    assert console.ago(time.time() - datetime(2023, 11, 14, 12).timestamp()) == "2023-11-14"


def test_without_a_terminal_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as null:
        monkeypatch.setattr(sys, "stdin", null)
        assert console.prompter() is None


def test_a_thread_at_work_ends_before_the_interpreter_and_one_that_hangs_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, never = threading.Event(), threading.Event()
    last = threading.Timer(0.1, ended.set)
    hanging = threading.Thread(target=never.wait, daemon=True)

    def run(_arguments: Sequence[str]) -> int:
        last.daemon = True
        last.start()
        hanging.start()
        return 3

    monkeypatch.setattr(cli, "run", run)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 3
    assert ended.is_set()
    assert hanging.is_alive()
    never.set()
