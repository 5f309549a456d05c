"""The parser of replies under bytes of every kind: a reply, or `ProtocolViolation`, and never anything else.

`ARTISYNC_FUZZ_SECONDS` says how long the broken streams go on (2 s if it is not set); the seed is fixed, unless
`ARTISYNC_FUZZ_SEED` names another one.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.remote.wire_streams import ANSWERS, Expectation, Fed, broken, made
from vfs.remote.sftp.wire import MAX_PACKET, PacketType

pytestmark = pytest.mark.one_python

SECONDS = float(os.environ.get("ARTISYNC_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("ARTISYNC_FUZZ_SEED", "6"))
EXPECTED = [
    Expectation(-1, PacketType.VERSION),
    *(Expectation(number, kind, 100) for number, kind in enumerate(ANSWERS)),
]
PIECES = st.lists(st.sampled_from([1, 2, 4, 5, 9, 13, 1000, 1 << 20]), min_size=1, max_size=20)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A packet that begins as one should: a length that may be right, a type and an id that may be expected."""
    body = draw(st.binary(max_size=80))
    kind = draw(st.sampled_from([*map(int, PacketType), 0, 255]))
    number = draw(st.integers(0, len(ANSWERS)))
    right = len(body) + 5
    length = draw(st.one_of(st.just(right), st.integers(0, 2 * right), st.integers(0, 2**32 - 1)))
    return length.to_bytes(4) + bytes([kind]) + number.to_bytes(4) + body


def feed(stream: bytes, pieces: list[int]) -> Fed:
    fed = Fed(EXPECTED)
    fed.feed(stream, itertools.cycle(pieces).__next__)
    fed.check()
    return fed


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=300), PIECES)
def test_any_bytes_are_replies_or_a_violation(stream: bytes, pieces: list[int]) -> None:
    feed(stream, pieces)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(packets(), max_size=5), PIECES)
def test_packets_of_any_kind_are_replies_or_a_violation(parts: list[bytes], pieces: list[int]) -> None:
    feed(b"".join(parts), pieces)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), PIECES, PIECES)
def test_replies_do_not_depend_on_how_their_bytes_come(seed: int, some: list[int], others: list[int]) -> None:
    chance = random.Random(seed)
    pairs = made(chance, 12)
    answers = [answer for _, answer in pairs]
    stream = b"".join([answers[0], *chance.sample(answers[1:], len(answers) - 1)])
    results: list[tuple[Any, Any]] = []
    for pieces in ([1 << 20], some, others):
        fed = Fed(expectation for expectation, _ in pairs)
        assert fed.feed(stream, itertools.cycle(pieces).__next__)
        fed.check()
        results.append(
            (
                [(reply.token, reply.value) for reply in fed.replies],
                {one: fed.data(one) for one in fed.destinations},
            )
        )
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) == len(pairs)
    assert not fed.decoder.pending


@pytest.mark.timeout(SECONDS + 60)
def test_broken_streams_are_replies_or_a_violation_and_take_little_memory() -> None:
    end = time.monotonic() + SECONDS
    tracemalloc.start()
    rounds = given_up = 0
    try:
        while time.monotonic() < end:
            chance = random.Random(SEED + rounds)
            pairs = made(chance, chance.randint(1, 8))
            stream = broken(chance, pairs)
            longest = chance.choice([3, 50, 5000, 1 << 20])
            if longest == 3:
                stream = stream[:2000]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            fed = Fed(expectation for expectation, _ in pairs)
            given_up += not fed.feed(
                stream, lambda chance=chance, longest=longest: chance.randint(1, longest)
            )
            fed.check()
            used = tracemalloc.get_traced_memory()[1] - before
            assert used < 3 * MAX_PACKET + 20 * len(stream), f"round {rounds}"
            rounds += 1
    finally:
        tracemalloc.stop()
    assert rounds > 50
    assert 0 < given_up < rounds


def test_what_is_left_of_a_stream_is_no_reply() -> None:
    pairs = made(random.Random(SEED), 20)
    stream = b"".join(answer for _, answer in pairs)
    for length in itertools.chain(range(1, 300), range(300, len(stream), 997)):
        fed = Fed(expectation for expectation, _ in pairs)
        assert fed.feed(stream[:length], lambda: 1 << 20)
        fed.check()
        whole = sum(1 for end in itertools.accumulate(len(answer) for _, answer in pairs) if end <= length)
        assert len(fed.replies) == whole
