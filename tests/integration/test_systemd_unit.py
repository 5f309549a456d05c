"""The commands of the printed unit, run as the user's manager runs them: in `/`, with the unit's environment alone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse


def quoted_words(line: str) -> list[str]:
    return re.findall(r'"([^"\\]*)"', line)


def test_the_units_commands_mount_and_unmount(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    root.mkdir()
    (root / "x.log").write_text("hello\n")
    settle(root / "x.log")
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path)
        done = mounted.artisync("mount", "--print-systemd-unit", *mounted.words, str(mounted.path))
        assert done.returncode == 0, done.stderr
        lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("Exec"))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        for line in re.findall(r"^Environment=(.*)$", done.stdout, re.MULTILINE):
            [assignment] = quoted_words(line)
            environment |= [assignment.split("=", 1)]
        service = subprocess.Popen(quoted_words(lines["ExecStart"]), env=environment, cwd="/")
        try:
            assert eventually(lambda: os.path.ismount(mounted.path), 20)
            assert (mounted.path / "x.log").read_text() == "hello\n"
            stop = subprocess.run(
                quoted_words(lines["ExecStop"]), env=environment, cwd="/", timeout=60, check=False
            )
            assert stop.returncode == 0
            assert service.wait(20) == 0
        finally:
            service.terminate()  # unmounts, if it is still there
            service.wait(20)
        assert not os.path.ismount(mounted.path)
