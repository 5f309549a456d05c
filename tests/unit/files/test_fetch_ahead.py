"""Event files fetched together once those of two runs are opened."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.loop_watch import WatchedLoop
from tests.lab.memory_stack import ROOT, MemoryStack, play, tagged
from vfs.base.errors import AccessDenied
from vfs.files.ahead import fetch_ahead
from vfs.files.node import Node

RUNS = 8
NAME = b"events.out.tfevents.1700000000.host"


class Runs:
    """Runs with one event file and one other file each, all listed."""

    def __init__(self, stack: MemoryStack, size: int = 20_000) -> None:
        self.stack = stack
        self.siblings = stack.service.fetch_ahead
        for run in range(RUNS):
            stack.files.mkdir(b"%s/exp-%d" % (ROOT, run))
            stack.old(b"%s/exp-%d/%s" % (ROOT, run, NAME), tagged(b"%d" % run, size))
            stack.old(b"%s/exp-%d/notes.bin" % (ROOT, run), b"notes")

    async def list(self) -> None:
        for node in await self.stack.tree.listing(self.stack.tree.root):
            await self.stack.tree.listing(node)

    async def open(self, *runs: int, name: bytes = NAME) -> None:
        """Open and read that file of some runs as a program does, and let a second go by."""
        for run in runs:
            node = await self.stack.node(b"exp-%d/%s" % (run, name))
            await self.stack.read(b"exp-%d/%s" % (run, name))
            self.siblings.note(node)
        await asyncio.sleep(1)

    async def here(self) -> list[int]:
        """The runs of whose event file all bytes are here."""
        nodes = [await self.stack.node(b"exp-%d/%s" % (run, NAME)) for run in range(RUNS)]
        return [run for run, node in enumerate(nodes) if node.content is not None and node.content.held]


def test_event_files_of_two_runs_bring_those_of_all_and_nothing_else() -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        await runs.open(0, 1)
        assert await runs.here() == list(range(RUNS))
        assert stack.remote.bytes_read == RUNS * 20_000
        await runs.siblings.aclose()

    play(story, latency=0.05)


@pytest.mark.parametrize(
    ("opened", "name"), [([0, 0], NAME), ([0, 1], b"notes.bin")], ids=["one run", "other files"]
)
def test_one_run_and_other_files_bring_nothing(opened: list[int], name: bytes) -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        await runs.open(*opened, name=name)
        assert await runs.here() == ([0] if name == NAME else [])

    play(story)


def test_a_file_that_cannot_be_opened_keeps_none_of_the_others() -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        stack.files.chmod(b"%s/exp-4/%s" % (ROOT, NAME), 0)
        stack.remote.fail("open", AccessDenied("no"), b"%s/exp-5/%s" % (ROOT, NAME))
        await runs.open(0, 1)
        assert await runs.here() == [0, 1, 2, 3, 6, 7]

    play(story)


def test_no_more_is_fetched_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_ahead, "MOST", 100_000)

    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        await runs.open(0, 1)
        assert len(await runs.here()) == 2 + 5

    play(story)


def test_on_a_slow_link_no_more_is_fetched_at_a_time_than_some_seconds_of_it() -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        stack.remote.spare = 80_000 // fetch_ahead.LIKELY
        await runs.list()
        await runs.open(0, 1)
        assert len(await runs.here()) == 2 + 4

    play(story)


def test_on_a_metered_link_nothing_is_fetched() -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        stack.remote.metered = True
        await runs.list()
        await runs.open(0, 1, 2)
        assert await runs.here() == [0, 1, 2]

    play(story)


def test_of_a_large_file_only_the_beginning_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_ahead, "MOST_OF_ONE", 10_000)

    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        await runs.open(0, 1)
        assert stack.remote.bytes_read == 2 * 20_000 + (RUNS - 2) * 10_000

    play(story)


def test_nothing_is_fetched_while_the_server_cannot_be_asked() -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        await runs.open(0)
        stack.remote.go_offline()
        node = await stack.node(b"exp-0/" + NAME)
        runs.siblings.note(node)
        runs.siblings.note(await stack.node(b"exp-1/" + NAME))
        await asyncio.sleep(1)
        stack.remote.go_online()
        await asyncio.sleep(1)
        assert await runs.here() == [0]

    play(story)


def test_a_large_tree_is_looked_through_in_steps(watched_loop: WatchedLoop) -> None:
    async def story(stack: MemoryStack) -> None:
        runs = Runs(stack)
        await runs.list()
        directory = await stack.node(b"exp-7")
        attributes = (await stack.node(b"exp-0/" + NAME)).attributes
        for i in range(100_000):
            name = b"events.%d" % i
            directory.children[name] = Node(i, directory, name, directory.path + b"/" + name, attributes, 0.0)
        await asyncio.sleep(0)
        watched_loop.held.clear()
        watched_loop.strict = True
        node = await stack.node(b"exp-0/" + NAME)
        await stack.read(b"exp-0/" + NAME)
        runs.siblings.note(node)
        runs.siblings.note(await stack.node(b"exp-1/" + NAME))
        await asyncio.sleep(1)
        assert 2 in await runs.here()
        directory.children.clear()
        await runs.siblings.aclose()

    play(story, latency=0.05)
