"""What a mount asks of a server before it is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.engine_threads import Threads, run_engine
from tests.lab.fake_server import FakeDialer, FakeServer
from tests.lab.waiting import now
from vfs import stack as stacks
from vfs.base.settings import resolve

RTT = 0.3


def test_the_root_is_listed_while_the_server_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resolve({"ssh": "ssh -p 22 user@host", "remote_root": "/a", "cache_dir": tmp_path / "cache"})

    async def main(threads: Threads) -> None:
        server = FakeServer(threads, {b"/a/f": b"x"}, latency=RTT)
        dialer = FakeDialer(server)
        monkeypatch.setattr(stacks, "make_dialer", lambda settings, prompter: dialer)
        async with stacks.open_stack(settings) as stack:
            taken = now() - dialer.at[0]
            assert list(stack.tree.root.children) == [b"f"]
        assert taken == pytest.approx(4 * RTT, abs=0.1)  # INIT, limits, REALPATH and OPENDIR, READDIR

    run_engine(main)
