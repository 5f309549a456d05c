"""What `ls`, and `pull --newer-than`, go by: what the server said last."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play, read
from vfs.commands import ls
from vfs.commands.pull import Order

NAME = b"/exp/logs/console.log"


@pytest.mark.parametrize("paths", [[], ["exp/logs"]])
def test_a_file_that_was_read_and_has_grown_is_listed_as_it_is_now(tmp_path: Path, paths: list[str]) -> None:
    async def story(stack: MemoryStack) -> None:
        for directory in (b"/exp", b"/exp/logs"):
            stack.files.mkdir(ROOT + directory)
        stack.old(ROOT + NAME, b"x" * 1000)
        node = await stack.service.find(NAME)
        reader = await stack.service.open(node)
        await read(reader, 0, 1000)
        reader.close()
        stack.files.write(ROOT + NAME, b"x" * 1500)
        written = int(stack.files.clock())
        await asyncio.sleep(TTL)
        asked: Any = SimpleNamespace(cache=stack.cache, tree=stack.tree, remote=stack.remote)
        (row,) = [row async for report in ls.listing(asked, paths) for row in report.get("rows", ())]
        assert (row["size"], row["changed"], row["cached"]) == (1500, written, 1000)
        assert Order("", None, newer_than=written - 1).wants("logs/console.log", node)

    play(story, place=tmp_path / "cache")


def test_very_many_rows_come_some_at_a_time() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        for number in range(1200):
            stack.old(ROOT + b"/exp/%d" % number, b"")
        asked: Any = SimpleNamespace(cache=stack.cache, tree=stack.tree, remote=stack.remote)
        counts = [len(report.get("rows", ())) async for report in ls.listing(asked, ["exp"])]
        assert (max(counts), sum(counts)) == (500, 1200)

    play(story)
