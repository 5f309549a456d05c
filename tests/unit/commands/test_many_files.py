"""Commands over very many files: what they hold of each at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.lab.memory_stack import ROOT, MemoryStack, play
from tests.lab.pulling import pull
from tests.unit.commands.test_pins import pin
from vfs.files.experiments import summary

pytestmark = pytest.mark.usefixtures("home")


async def most_tasks(work: Coroutine[Any, Any, object]) -> int:
    """How many tasks there were at a time while `work` was done."""
    most, task = 0, asyncio.ensure_future(work)
    while not task.done():
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0.001)
    await task
    return most


def test_files_are_begun_some_at_a_time_however_many_there_are(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        for number in range(700):
            stack.old(ROOT + b"/exp/%d" % number, b"small")
        exp = await stack.node(b"exp")
        assert await most_tasks(summary(stack.tree, "exp", exp)) < 450
        assert await most_tasks(pin(stack, "exp")) < 450
        (tmp_path / "out").mkdir()
        assert await most_tasks(pull(stack, tmp_path / "out")) < 450

    play(story, latency=0.02, place=tmp_path / "cache")
