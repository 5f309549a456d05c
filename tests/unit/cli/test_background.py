"""How a mount goes into the background: the parent that waits, and the child that lets go of the terminal.

The child is the real command line, with `vfs.commands.mount.run` replaced by a few lines.
"""

from __future__ import annotations

import os
import pty
import signal
import stat
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.waiting import eventually, readable
from vfs.cli import background

REPO = Path(__file__).parents[3]
SECONDS = 20.0


@dataclass
class Lab:
    """Runs `artisync mount` with a fake mount. What the fake child writes to `told` is read from `events`."""

    home: Path
    place: Path
    events: int
    told: int
    pids: list[int] = field(default_factory=list)

    def command(self, body: str) -> list[str]:
        """A command line of ours whose children run `body` as the mount, with `settings`, `mountpoint`, `ready`."""
        program = f"""\
            #!{sys.executable} -P
            import os, signal, sys, types
            sys.path.insert(0, {str(REPO)!r})
            sys.executable = __file__
            def tell(text): open({f"/proc/{os.getpid()}/fd/{self.told}"!r}, "w").write(f"{{text}}\\n")
            def run(settings, mountpoint, *, ready, prompter):
                tell(f"pid {{os.getpid()}}")
            """
        text = textwrap.dedent(program) + textwrap.indent(textwrap.dedent(body), "    ")
        text += textwrap.dedent(
            """
            fake = types.ModuleType("vfs.commands.mount")
            fake.run = run
            sys.modules["vfs.commands.mount"] = fake
            from vfs.cli import run as command_line
            words = sys.argv[1:]
            if words[:3] == ["-P", "-m", "vfs"]: words = words[3:]
            sys.exit(command_line(words))
            """
        )
        script = self.home / "artisync"
        script.write_text(text)
        script.chmod(0o755)
        return [str(script), "mount", str(self.place), "--ssh", "ssh user@host"]

    def event(self) -> str:
        """The next line that the child tells."""
        line = b""
        while not line.endswith(b"\n"):
            assert readable(self.events, SECONDS), f"the child told nothing after {line!r}"
            line += os.read(self.events, 1)
        text = line.decode().strip()
        if text.startswith("pid "):
            self.pids.append(int(text[4:]))
        return text

    def run(self, body: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command(body), *more], capture_output=True, text=True, timeout=SECONDS, cwd=self.home
        )


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    events, told = os.pipe()
    made = Lab(tmp_path, tmp_path / "mnt", events, told)
    yield made
    for pid in made.pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.close(events)
    os.close(told)


def gone(pid: int) -> bool:
    with background.Process(pid) as process:
        return process.ended(SECONDS)


def test_the_parent_returns_once_the_mount_is_ready_and_the_mount_goes_on(lab: Lab) -> None:
    done = lab.run('ready("")\ntell("ready")\nsignal.pause()')
    assert done.returncode == 0
    assert f"Mounted at {lab.place}" in done.stderr
    assert done.stdout == ""
    pid = int(lab.event().split()[1])
    assert lab.event() == "ready"
    with background.Process(pid) as process:
        assert not process.ended(0)


def test_the_mount_is_one_process_whose_command_line_names_the_place(lab: Lab) -> None:
    lab.run('ready("")\nsignal.pause()')
    lab.event()
    found = subprocess.run(["pgrep", "-f", str(lab.place)], capture_output=True, text=True).stdout
    assert [int(pid) for pid in found.split()] == lab.pids


def test_a_ready_mount_has_let_go_of_terminal_directory_and_streams(lab: Lab) -> None:
    body = """\
        os.environ.get("ARTISYNC_READY_FD") and tell("leak")
        ready("")
        tell(f"{os.getsid(0) == os.getpid()} {os.getcwd()} {os.readlink('/proc/self/fd/0')}")
        tell(os.readlink("/proc/self/fd/1"))
        tell(os.readlink("/proc/self/fd/2"))
        tell([link for fd in range(3, 100) if os.path.lexists(link := f"/proc/self/fd/{fd}")])
        """
    assert lab.run(body).returncode == 0
    lab.event()
    assert lab.event() == "True / /dev/null"
    log = lab.event()
    assert log.startswith(str(lab.home / "state/artisync/logs/mnt-"))
    assert lab.event() == log
    # neither the pipe to the parent nor a spare of the log is left
    assert lab.event() == "[]"


def test_a_warning_of_the_mount_reaches_the_person(lab: Lab) -> None:
    done = lab.run('ready("offline: no answer")\nsignal.pause()')
    lab.event()
    assert done.returncode == 0
    assert "artisync: offline: no answer" in done.stderr


def test_what_the_mount_logs_later_is_in_its_log_file(lab: Lab) -> None:
    log = lab.home / "my.log"
    body = """\
        import logging
        ready("")
        logging.getLogger("vfs.remote").info("the link is back")
        print("from C", file=sys.stderr)
        tell("logged")
        """
    assert lab.run(body, "--log-file", "my.log").returncode == 0
    lab.event()
    assert lab.event() == "logged"
    text = log.read_text()
    assert "INFO vfs.remote" in text
    assert "the link is back" in text
    assert "from C" in text


@pytest.mark.parametrize("words", [(), ("--foreground",)])
def test_a_log_file_is_for_its_owner_alone(lab: Lab, words: tuple[str, ...]) -> None:
    body = """\
        import logging
        ready("")
        logging.getLogger("vfs.remote").info("the link is back")
        """
    assert lab.run(body, "--log-file", "my.log", *words).returncode == 0
    lab.event()
    assert stat.S_IMODE((lab.home / "my.log").stat().st_mode) == 0o600


def test_a_log_file_that_cannot_be_written_is_told_before_anything_is_mounted(lab: Lab) -> None:
    done = lab.run('ready("")', "--log-file", "/dev/null/log")
    assert done.returncode == 2
    assert "cannot write the log file /dev/null/log" in done.stderr


def test_an_error_of_the_mount_is_told_once_and_is_the_exit_code(lab: Lab) -> None:
    done = lab.run('from vfs.base.errors import Refused\nraise Refused("host:22 refused it")')
    lab.event()
    assert done.returncode == 1
    assert done.stderr.count("artisync: host:22 refused it") == 1
    assert "Is the container running?" in done.stderr
    assert "Traceback" not in done.stderr
    assert gone(lab.pids[0])


def test_a_bug_is_one_line_and_with_v_a_traceback(lab: Lab) -> None:
    done = lab.run('raise ZeroDivisionError("by zero")')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "artisync: unexpected ZeroDivisionError: by zero",
        "Run it again with -v for the traceback.",
    ]
    assert "Traceback" in lab.run('raise ZeroDivisionError("by zero")', "-v").stderr


def test_a_mount_that_is_killed_before_it_is_ready_is_told(lab: Lab) -> None:
    done = lab.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == 1
    assert "SIGKILL" in done.stderr


def test_a_mount_that_ends_without_a_word_is_a_failure(lab: Lab) -> None:
    assert lab.run("return 0").returncode == 1


def test_a_mount_that_crashes_leaves_the_place_in_its_log_file(lab: Lab) -> None:
    log = lab.home / "my.log"
    done = lab.run('import ctypes\nready("")\nctypes.string_at(0)', "--log-file", "my.log")
    assert done.returncode == 0
    assert eventually(lambda: "Segmentation fault" in log.read_text() and "in run" in log.read_text())


def test_options_of_the_command_line_reach_the_mount(lab: Lab) -> None:
    body = (
        "from vfs.cli.logs import verbosity;"
        "tell([settings.timeout, settings.ttl, settings.allow_other, settings.transport, verbosity()])"
    )
    lab.run(body, "--timeout", "7s", "--ttl=0", "--allow-other", "--transport", "openssh", "-vv")
    lab.event()
    assert lab.event() == "[7.0, 0.0, True, 'openssh', 2]"


def test_options_of_the_environment_reach_the_mount(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTISYNC_TIMEOUT", "8s")
    monkeypatch.setenv("ARTISYNC_ALLOW_OTHER", "1")
    lab.run("tell([settings.timeout, settings.allow_other])")
    lab.event()
    assert lab.event() == "[8.0, True]"


def test_a_mount_point_that_looks_like_an_option_is_none(lab: Lab) -> None:
    command = lab.command("tell(mountpoint)")
    command[2:3] = []
    subprocess.run([*command, "--", "-v"], cwd=lab.home, timeout=SECONDS, capture_output=True)
    lab.event()
    assert lab.event() == str(lab.home / "-v")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_waiting_parent_ends_the_mount_and_leaves_nothing(
    lab: Lab, number: signal.Signals
) -> None:
    body = "os.mkdir(mountpoint)\ntell('made')\nsignal.pause()"
    parent = subprocess.Popen(lab.command(body), stderr=subprocess.PIPE, text=True, process_group=0)
    lab.event()
    assert lab.event() == "made"
    parent.send_signal(number)
    _, said = parent.communicate(timeout=SECONDS)
    assert parent.returncode == 130
    assert "Traceback" not in said
    assert gone(lab.pids[0])
    assert not lab.place.exists()


def test_a_mount_that_ignores_the_request_to_end_is_killed(lab: Lab) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntell('deaf')\nwhile True: signal.pause()"
    parent = subprocess.Popen(lab.command(body), stderr=subprocess.DEVNULL, process_group=0)
    lab.event()
    assert lab.event() == "deaf"
    parent.send_signal(signal.SIGINT)
    assert parent.wait(SECONDS) == 130
    assert gone(lab.pids[0])


def test_a_parent_that_is_killed_takes_an_unready_mount_along(lab: Lab) -> None:
    body = """\
        signal.signal(signal.SIGTERM, lambda *_: (tell("told to end"), sys.exit(0)))
        tell("waiting")
        sys.stdin.readline()
        ready("")
        """
    stdin, release = os.pipe()
    parent = subprocess.Popen(lab.command(body), stdin=stdin, stderr=subprocess.DEVNULL)
    lab.event()
    assert lab.event() == "waiting"
    parent.kill()
    parent.wait(SECONDS)
    os.write(release, b"go\n")
    assert lab.event() == "told to end"
    assert gone(lab.pids[0])
    os.close(stdin)
    os.close(release)


def echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def on_a_terminal(command: list[str], talk: Callable[[int], None]) -> tuple[int, bool]:
    """Run it with a terminal of its own; `talk` gets the other end. The exit code, and whether the terminal echoes."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    try:
        talk(terminal)
        while True:
            try:
                if not os.read(terminal, 1000):
                    break
            except OSError:  # EIO: everybody has let go of it
                break
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), echoes(terminal)
    finally:
        os.close(terminal)


def expect(terminal: int, text: bytes) -> None:
    seen = b""
    while text not in seen:
        assert readable(terminal, SECONDS), f"the terminal shows {seen!r}"
        seen += os.read(terminal, 1)


def test_the_mount_may_ask_on_the_terminal_until_it_is_ready(lab: Lab) -> None:
    body = """\
        tell(prompter.accept_host_key("[h]:22", "ED25519", "SHA256:abc", None))
        ready("")
        signal.pause()
        """

    def talk(terminal: int) -> None:
        expect(terminal, b"SHA256:abc")
        expect(terminal, b"[yes/no] ")
        os.write(terminal, b"perhaps\n")
        expect(terminal, b"[yes/no] ")
        os.write(terminal, b"yes\n")

    assert on_a_terminal(lab.command(body), talk) == (0, True)
    lab.event()
    assert lab.event() == "True"


def test_ctrl_c_at_a_passphrase_prompt_gives_the_echo_back(lab: Lab) -> None:
    body = """\
        import threading
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=prompter.passphrase, args=("/key",), daemon=True).start()
        signal.pause()
        """

    def talk(terminal: int) -> None:
        expect(terminal, b"Passphrase for the key /key: ")
        assert not echoes(terminal)
        os.write(terminal, b"\x03")

    assert on_a_terminal(lab.command(body), talk) == (130, True)
    lab.event()
    assert gone(lab.pids[0])


def test_the_end_of_a_process_can_be_awaited_on_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    child = subprocess.Popen(["sleep", "60"])
    with background.Process(child.pid) as process:
        assert not process.ended(0.05)
        process.send(signal.SIGTERM)
        child.wait(SECONDS)
        assert process.ended(SECONDS)
    with background.Process(child.pid) as process:
        assert process.ended(0)
