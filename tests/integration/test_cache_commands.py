"""`artisync cache` beside a live mount that uses the same cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse


def test_a_cache_is_looked_at_and_cleared_under_a_live_mount(tmp_path: Path) -> None:
    file = tmp_path / "artifacts/exp-1/a.bin"
    file.parent.mkdir(parents=True)
    content = os.urandom(32 << 20)
    file.write_bytes(content)
    settle(file)
    with Sshd() as sshd:
        mounted = Mounted(sshd, tmp_path / "artifacts", tmp_path)
        place = ["--cache-dir", str(mounted.cache)]

        def cached() -> dict[str, int]:
            report = json.loads(mounted.artisync("cache", "info", "--json", *place).stdout)
            return {row["experiment"]: row["bytes"] for row in report["experiments"]}

        with mounted as path:
            os.listdir(path / "exp-1")
            with open(path / "exp-1/a.bin", "rb", buffering=0) as opened:
                assert opened.read(1 << 20) == content[: 1 << 20]
                assert eventually(lambda: cached().keys() == {"exp-1"})
                done = mounted.artisync("cache", "clear", "--yes", *place)
                assert done.returncode == 0, done.stderr
                assert f"{path} stays" in done.stderr
                assert cached() == {}
                opened.seek(-(8 << 20), os.SEEK_END)
                assert opened.read(8 << 20) == content[-(8 << 20) :]
            assert mounted.artisync("cache", "verify", *place).returncode == 0
        assert cached()["exp-1"] >= 8 << 20
    with mounted as path, open(path / "exp-1/a.bin", "rb") as opened:  # the server is gone
        opened.seek(-(8 << 20), os.SEEK_END)
        assert opened.read() == content[-(8 << 20) :]
