"""Who fetches what, and when: once for all who wait, demand before readahead, again after a lost link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.memory_stack import ROOT, MemoryStack, play, tagged
from vfs.base.errors import AccessDenied, NoSuchPath, ServerFailure, Unreachable
from vfs.base.file_version import Version
from vfs.fetch import server_handles
from vfs.fetch.content import Content, Job, without
from vfs.fetch.fetcher import URGENT
from vfs.fetch.queues import Queues

FILE = ROOT + b"/ck.pt"
MIB = 1 << 20
SIZE = 20 * MIB


async def content_of(stack: MemoryStack) -> Content:
    """An old file's content, opened on the server."""
    stack.old(FILE, tagged(b"old", SIZE))
    content = await stack.tree.versions.open(await stack.node(b"ck.pt"))
    stack.remote.requests.clear()
    return content


def offsets(stack: MemoryStack) -> list[int]:
    """Where the batches began that the server was asked for, in order, in MiB."""
    return [start // MIB for start, _ in stack.remote.read_ranges]


async def ahead(stack: MemoryStack, content: Content, owner: Hashable, start: int, end: int) -> None:
    stack.fetcher.ahead(owner, content, [(start * MIB, end * MIB)])
    await asyncio.sleep(0)  # it goes out once the present step is over


def test_a_range_is_fetched_once_however_many_wait_for_parts_of_it() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        await asyncio.gather(*(stack.fetcher.need(content, start, MIB) for start in range(0, MIB, MIB // 10)))
        assert stack.remote.bytes_read == MIB
        assert stack.fetcher.fetched == MIB
        await stack.fetcher.need(content, 0, MIB)
        assert stack.remote.bytes_read == MIB

    play(story, latency=0.1)


def test_only_what_is_missing_is_fetched() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        await stack.fetcher.need(content, 100_000, 200_000)
        await stack.fetcher.need(content, 0, 300_000)
        assert sorted(stack.remote.read_ranges) == [(0, 100_000), (100_000, 100_000), (200_000, 100_000)]
        pieces = stack.fetcher.ready(content, 0, 300_000)
        assert pieces is not None
        assert b"".join(bytes(block.view(a, b)) for block, a, b in pieces) == tagged(b"old", 300_000)

    play(story)


def test_what_somebody_waits_for_goes_before_what_nobody_waits_for_yet() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = 2 * MIB
        await ahead(stack, content, "reader", 0, 10)
        await stack.fetcher.need(content, 15 * MIB, 17 * MIB)
        assert offsets(stack) == [0, 1, 15, 16]
        await asyncio.sleep(2)
        assert offsets(stack)[4:] == [2, 3, 4, 5, 6, 7, 8, 9]

    play(story, latency=0.1)


def test_a_small_read_goes_at_once_whatever_is_under_way() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = MIB
        await ahead(stack, content, "reader", 0, 10)
        large = asyncio.ensure_future(stack.fetcher.need(content, 12 * MIB, 14 * MIB))
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await stack.fetcher.need(content, 15 * MIB, 15 * MIB + URGENT)
        assert asyncio.get_running_loop().time() - began < 0.11
        await large

    play(story, latency=0.1)


def test_what_was_asked_for_ahead_becomes_urgent_when_somebody_waits_for_it() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = MIB
        await ahead(stack, content, "reader", 0, 10)
        await stack.fetcher.need(content, 8 * MIB, 9 * MIB)
        assert offsets(stack) == [0, 8]
        await asyncio.sleep(2)
        assert sorted(offsets(stack)) == list(range(10))

    play(story, latency=0.1)


def test_readers_get_their_readahead_in_turn() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = MIB
        await ahead(stack, content, "one", 0, 4)
        await ahead(stack, content, "two", 10, 14)
        await asyncio.sleep(2)
        assert offsets(stack) == [0, 1, 10, 2, 11, 3, 12, 13]

    play(story, latency=0.1)


def test_hints_go_before_readahead() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = MIB
        await ahead(stack, content, "reader", 0, 3)
        stack.fetcher.ahead("hints", content, [(10 * MIB, 12 * MIB)], hint=True)
        await asyncio.sleep(2)
        assert offsets(stack) == [0, 10, 11, 1, 2]

    play(story, latency=0.1)


def test_over_a_slow_link_a_reader_in_sequence_keeps_to_the_window() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        remote = stack.remote
        remote.window, remote.piece, remote.spare = 64 << 10, 16 << 10, 150 << 10
        reading = [
            asyncio.ensure_future(stack.fetcher.need(content, start, start + (128 << 10)))
            for start in (0, 128 << 10)
        ]
        await asyncio.sleep(0.01)
        assert 0 < remote.in_flight <= remote.window + remote.piece
        small = asyncio.ensure_future(stack.fetcher.need(content, 5 * MIB, 5 * MIB + 4096))
        before = remote.in_flight
        await asyncio.sleep(0.01)
        assert remote.in_flight == before + 4096
        await asyncio.gather(small, *reading)

    play(story, latency=0.1)


def test_over_a_slow_link_a_demand_waits_for_no_more_than_a_small_piece() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window, stack.remote.piece = 256 << 10, 64 << 10
        await ahead(stack, content, "reader", 0, 3)
        await stack.fetcher.need(content, 10 * MIB, 10 * MIB + (256 << 10))
        assert stack.remote.bytes_read <= 2 * (256 << 10)
        assert {length for _, length in stack.remote.read_ranges} == {64 << 10}

    play(story, latency=0.1)


def test_cancelled_readahead_is_not_sent_unless_somebody_waits_for_it() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = MIB
        await ahead(stack, content, "one", 0, 6)
        await ahead(stack, content, "two", 10, 12)
        waiting = asyncio.ensure_future(stack.fetcher.need(content, 3 * MIB, 4 * MIB))
        await asyncio.sleep(0)
        stack.fetcher.cancel("one")
        await waiting
        await asyncio.sleep(2)
        assert sorted(offsets(stack)) == [0, 3, 10, 11]
        await stack.fetcher.need(content, 5 * MIB, 6 * MIB)
        assert offsets(stack)[-1] == 5

    play(story, latency=0.1)


def test_readahead_waits_while_more_is_to_be_written_to_disk_than_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        with monkeypatch.context() as patch:
            patch.setattr(type(stack.cache), "congested", True)
            await ahead(stack, content, "one", 0, 2)
            await asyncio.sleep(1)
            assert offsets(stack) == []
        await stack.fetcher.need(content, 5 * MIB, 5 * MIB + 10)
        await asyncio.sleep(1)
        assert sorted(offsets(stack)) == [0, 1, 5]

    play(story)


def test_what_was_queued_when_the_link_was_fast_is_asked_for_in_small_pieces_once_it_is_slow() -> None:
    async def story(stack: MemoryStack) -> None:
        content, remote = await content_of(stack), stack.remote
        remote.window, remote.piece = MIB, 256 << 10
        await ahead(stack, content, "reader", 0, 4)
        waiting = asyncio.ensure_future(stack.fetcher.need(content, 2 * MIB, 3 * MIB))
        remote.window, remote.piece = 64 << 10, 16 << 10
        await asyncio.sleep(0.15)
        under_way = len(remote.read_ranges)
        remote.delay("read", before=0.5)  # the next one is overtaken
        await waiting
        assert stack.fetcher.ready(content, 2 * MIB, 3 * MIB) is not None
        assert {length for _, length in remote.read_ranges[under_way:]} == {16 << 10}
        await stack.fetcher.need(content, 0, 4 * MIB)
        assert remote.bytes_read == 4 * MIB, "no byte twice"

    play(story, latency=0.1)


def test_what_waits_beyond_the_window_is_told_to_the_remote() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.window = 2 * MIB
        await ahead(stack, content, "one", 0, 10)
        assert stack.remote.backlogs == [8 * MIB]

    play(story)


def test_who_gives_up_does_not_stop_what_others_wait_for() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        first = asyncio.ensure_future(stack.fetcher.need(content, 0, MIB))
        second = asyncio.ensure_future(stack.fetcher.need(content, 0, MIB))
        await asyncio.sleep(0.01)
        first.cancel()
        await second
        assert stack.remote.requests["read"] == 1

    play(story, latency=0.1)


@pytest.mark.parametrize("kind", ["open", "read"])
def test_a_failure_is_told_to_all_who_wait_once_and_the_next_asks_again(kind: str) -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.fetcher.handles.reopen(content)
        stack.remote.fail(kind, ServerFailure("disk"))
        answers = await asyncio.gather(
            *(stack.fetcher.need(content, 0, 1000) for _ in range(5)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {ServerFailure}
        assert stack.remote.requests[kind] == 1
        await stack.fetcher.need(content, 0, 1000)

    play(story, latency=0.1)


@pytest.mark.parametrize("error", [NoSuchPath("gone"), AccessDenied("denied")])
def test_readahead_that_fails_disturbs_nobody(error: NoSuchPath | AccessDenied) -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.remote.fail("read", error)
        await ahead(stack, content, "one", 0, 1)
        await asyncio.sleep(1)
        await stack.fetcher.need(content, 0, MIB)

    play(story)


def test_a_fetch_over_a_lost_link_just_takes_longer() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        content = await content_of(stack)
        loop.call_later(0.1, stack.remote.go_offline)
        loop.call_later(10.1, stack.remote.go_online)
        began = loop.time()
        await stack.fetcher.need(content, 0, 8 * MIB)
        assert 10 < loop.time() - began < 12
        pieces = stack.fetcher.ready(content, 0, 8 * MIB)
        assert pieces is not None
        assert b"".join(bytes(block.view(a, b)) for block, a, b in pieces) == tagged(b"old", 8 * MIB)

    play(story, latency=0.2)


def test_when_the_link_stays_down_all_who_wait_are_told_and_later_it_is_asked_for_again() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        content = await content_of(stack)
        stack.remote.go_offline()
        began = loop.time()
        answers = await asyncio.gather(
            *(stack.fetcher.need(content, start * MIB, (start + 1) * MIB) for start in range(10)),
            return_exceptions=True,
        )
        assert {type(answer) for answer in answers} == {Unreachable}
        assert loop.time() - began == pytest.approx(stack.remote.timeout)
        with pytest.raises(Unreachable):
            await stack.fetcher.need(content, 0, 1000)
        assert loop.time() - began == pytest.approx(stack.remote.timeout)
        stack.remote.go_online()
        await stack.fetcher.need(content, 0, 10 * MIB)

    play(story)


def test_the_servers_handles_are_closed_when_they_are_idle_and_when_they_are_many() -> None:
    async def story(stack: MemoryStack) -> None:
        for number in range(server_handles.MOST + 20):
            stack.old(b"%s/%d.pt" % (ROOT, number), b"x")
        for node in await stack.tree.listing(stack.tree.root):
            await stack.tree.versions.open(node)
        assert stack.remote.open_handles == server_handles.MOST
        await asyncio.sleep(3 * server_handles.IDLE_CLOSE)
        assert stack.remote.open_handles == 0

    play(story)


def test_what_is_under_way_is_told_by_path() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        assert stack.fetcher.under_way() == []
        await ahead(stack, content, "one", 0, 3)
        assert [(one.path, one.size, one.waiting) for one in stack.fetcher.under_way()] == [
            (FILE, SIZE, 3 * MIB)
        ]
        await asyncio.sleep(1)
        assert stack.fetcher.under_way() == []

    play(story, latency=0.1)


@pytest.mark.timed
def test_each_of_many_small_ranges_costs_the_same() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(FILE, bytes(16 * MIB))
        content = await stack.tree.versions.open(await stack.node(b"ck.pt"))
        stack.remote.window = 4000
        for first in range(0, 4000, 100):
            ranges = [(i * 4096, i * 4096 + 100) for i in range(first, first + 100)]
            stack.fetcher.ahead("hints", content, ranges)
        quarters = [time.thread_time()]
        for quarter in range(4):
            while stack.fetcher.fetched < (quarter + 1) * 100_000:
                await asyncio.sleep(0.001)
            quarters.append(time.thread_time())
        assert stack.fetcher.fetched == 400_000
        first, last = quarters[1] - quarters[0], quarters[4] - quarters[3]
        assert first < 4 * last  # seven times as long if each cost what is left to fetch

    play(story, latency=0.01)


def test_of_thousands_of_small_ranges_that_the_link_takes_at_once_one_step_of_the_loop_sends_a_few_hundred() -> (
    None
):
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.fetcher.ahead("hints", content, [(i * 4096, i * 4096 + 100) for i in range(2000)])
        jobs = [job for some in content.jobs.values() for job in some]
        sent = [0]
        while sent[-1] < 2000:
            await asyncio.sleep(0)
            sent.append(sum(job.sent for job in jobs))
        assert max(after - before for before, after in pairwise(sent)) <= 300
        for job in jobs:
            await job.done  # what is cancelled by the thousand holds the loop

    play(story, latency=0.01)


def test_a_demand_beside_many_small_jobs_of_its_block_fetches_what_is_between_them() -> None:
    async def story(stack: MemoryStack) -> None:
        content = await content_of(stack)
        stack.fetcher.ahead("hints", content, [(i * 4096, i * 4096 + 100) for i in range(256)])
        await asyncio.sleep(0)
        await stack.fetcher.need(content, 0, MIB)
        assert stack.remote.bytes_read == MIB, "no byte twice"
        pieces = stack.fetcher.ready(content, 0, MIB)
        assert pieces is not None
        assert b"".join(bytes(block.view(a, b)) for block, a, b in pieces) == tagged(b"old", MIB)

    play(story, latency=0.01)


spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda t: (t[0], t[0] + t[1]))


@given(st.sets(st.integers(0, 80)), st.lists(spans, max_size=8))
def test_what_is_left_of_gaps_is_what_no_job_brings(wanted: set[int], taken: list[tuple[int, int]]) -> None:
    gaps: list[tuple[int, int]] = []
    for n in sorted(wanted):
        if gaps and gaps[-1][1] == n:
            gaps[-1] = gaps[-1][0], n + 1
        else:
            gaps.append((n, n + 1))
    left = without(gaps, sorted(taken))
    covered = {n for a, b in taken for n in range(a, b)}
    assert [n for a, b in left for n in range(a, b)] == sorted(wanted - covered)


@given(st.lists(st.sampled_from(["take", "take 30", "cancel", 1, 20, 50, 90, 100]), max_size=40))
def test_the_queues_know_how_many_bytes_wait_in_them(moves: list[str | int]) -> None:
    content = Content(b"x", b"x", Version(0, 0))
    queues = Queues()
    loop = asyncio.new_event_loop()
    try:
        for i, move in enumerate(moves):
            if move == "take":
                _ = queues.next_demand() or queues.next_ahead()
            elif move == "take 30":
                part = queues.next_demand(30) or queues.next_ahead(30)
                assert part is None or part.size <= 30
            elif move == "cancel":
                queues.cancel(i % 2)
            else:
                job = Job(content, 0, 0, int(move), loop.create_future())
                queues.ahead(i % 2, job, hint=i % 4 == 0)
                if i % 3 == 0:
                    queues.urge(job)
                    queues.urge(job)
            waiting = [
                *queues._demand,
                *(
                    job
                    for turns in (queues._hints, queues._ahead)
                    for queue in turns.values()
                    for job in queue
                ),
            ]
            assert queues.waiting == sum(job.size for job in waiting)
        while queues.next_demand() or queues.next_ahead():
            pass
        assert queues.waiting == 0
    finally:
        loop.close()
