"""What any format is held to, whatever it says: the budget, the order, the ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfs.formats.advisor import AT_ONCE, MOST_RANGES, Advisor, Budget, Verdict
from vfs.formats.api import PAGE, PIECE, Misfit, Range, Sparse, Steps, need, touched, want

MIB = 1 << 20
SIZE = 1000 * MIB


class Bytes:
    """Known from the start up to `end`."""

    def __init__(self, data: bytes, end: int | None = None) -> None:
        self.size = len(data)
        self.data = data
        self.end = len(data) if end is None else end

    def get(self, offset: int, length: int) -> bytes | None:
        end = min(offset + length, self.size)
        return self.data[offset:end] if end <= self.end else None


def test_wanted_ranges_are_whole_pages_within_the_file() -> None:
    budget = Budget(10_000)
    budget.want([Range(5000, 5001), Range(9000, 90_000)])
    assert budget.grant() == (Range(4096, 10_000),)


def test_what_is_granted_and_unread_is_not_granted_twice() -> None:
    budget = Budget(SIZE)
    budget.want([Range(0, 3 * PAGE)])
    assert budget.grant() == (Range(0, 3 * PAGE),)
    budget.want([Range(PAGE, 5 * PAGE)])
    assert budget.grant() == (Range(3 * PAGE, 5 * PAGE),)


def test_no_more_is_granted_than_the_budget_until_it_is_read() -> None:
    budget = Budget(SIZE)
    budget.want([Range(0, SIZE)])
    assert budget.grant() == (Range(0, 50 * MIB),)
    budget.read(Range(0, 24 * MIB))
    assert budget.grant() == ()
    budget.read(Range(24 * MIB, 25 * MIB))
    assert budget.grant() == (Range(50 * MIB, 75 * MIB),)


def test_reading_elsewhere_frees_nothing() -> None:
    budget = Budget(SIZE)
    budget.want([Range(0, SIZE)])
    budget.grant()
    budget.read(Range(800 * MIB, 900 * MIB))
    assert budget.grant() == ()


def test_no_more_waits_than_may_be_granted_however_long_a_program_jumps() -> None:
    def jumps(size: int) -> Steps[None]:
        while True:
            read = yield from touched()
            yield from want([Range(read.end, read.end + MIB)])

    advisor = Advisor(jumps(SIZE), SIZE)
    for number in range(MOST_RANGES + 1000):
        at = number * 7919 % 900 * MIB + number % 100 * PAGE
        advisor.advise(Bytes(b""), Range(at, at + PAGE))
    assert advisor.budget.waiting <= MOST_RANGES


def test_no_file_gets_more_than_so_many_ranges() -> None:
    budget = Budget(1 << 40)
    granted = 0
    for _ in range(3):
        budget.want(Range(i * 3 * PAGE, i * 3 * PAGE + 1) for i in range(MOST_RANGES * 2))
        while ranges := budget.grant():
            granted += len(ranges)
    assert granted == MOST_RANGES


spans = st.tuples(st.integers(-10, 30 * MIB), st.integers(0, 8 * MIB)).map(lambda t: Range(t[0], t[0] + t[1]))


@given(st.lists(st.one_of(st.lists(spans, max_size=5), spans), max_size=30), st.integers(0, 24 * MIB))
def test_whatever_is_wanted_and_read_the_budget_holds(moves: list[list[Range] | Range], size: int) -> None:
    budget = Budget(size)
    for move in moves:
        if isinstance(move, Range):
            budget.read(move)
            continue
        budget.want(move)
        for granted in budget.grant():
            assert 0 <= granted.start < granted.end <= size
        assert 0 <= budget.unread <= budget.limit
        assert budget.unread == sum(e - s for s, e in zip(budget._starts, budget._ends, strict=True))
        assert all(a <= b for a, b in zip(budget._ends, budget._starts[1:], strict=False))


def test_a_format_goes_on_when_what_it_needs_is_known() -> None:
    def steps() -> Steps[None]:
        data = yield from need(0, 4)
        yield from want([Range(int.from_bytes(data, "little"), SIZE)])

    advisor = Advisor(steps(), SIZE)
    data = (900 * MIB).to_bytes(4, "little")
    assert advisor.advise(Bytes(data, end=0), Range(500, 600)) == (Range(0, PAGE),)
    assert advisor.advise(Bytes(data, end=0), Range(600, 700)) == (), "what is under way is asked for once"
    assert advisor.advise(Bytes(data), Range(700, 800)) == (Range(900 * MIB, 950 * MIB - PAGE),)


def test_what_has_served_and_what_was_meant_for_another_kind_of_reader_hold_up_nothing() -> None:
    data = bytes(20 * MIB)
    end, header = Range(19 * MIB, 20 * MIB), Range(10 * MIB, 10 * MIB + PAGE)

    def steps(jumps: bool) -> Steps[None]:
        yield from need(end.start, end.end)
        if jumps:
            yield from want([Range(0, 9 * MIB)])
            yield from touched()
            yield Sparse()
        yield from want([header])

    for jumps in (False, True):
        advisor = Advisor(steps(jumps), len(data))
        advisor.budget.within(MIB)  # as on a slow link
        assert advisor.advise(Bytes(data, end=0), Range(0, 1)) == (end,)
        answers = [advisor.advise(Bytes(data), Range(at, at + 1)) for at in range(1, 4)]
        assert answers[1 if jumps else 0] == (header,)


def test_a_read_that_is_told_twice_counts_once() -> None:
    seen = []

    def steps() -> Steps[None]:
        yield Sparse()
        while len(seen) < 2:
            seen.append((yield from touched()))

    advisor = Advisor(steps(), SIZE)
    for read in (Range(0, 1), Range(0, 1), Range(5, 6)):
        assert not advisor.finished
        advisor.advise(Bytes(b""), read)
    assert seen == [Range(0, 1), Range(5, 6)]
    assert advisor.finished
    assert advisor.sparse


def test_a_format_that_finds_its_file_damaged_says_nothing_more() -> None:
    def steps() -> Steps[None]:
        yield from want([Range(0, 1)])
        raise Misfit("broken")

    advisor = Advisor(steps(), SIZE)
    assert advisor.advise(Bytes(b""), Range(0, 1)) == (Range(0, PAGE),)
    assert advisor.finished


def test_a_format_that_asks_beyond_the_end_gets_nothing() -> None:
    advisor = Advisor((lambda: (yield from _discard(need(SIZE - 1, SIZE + 1))))(), SIZE)
    assert advisor.advise(Bytes(b""), Range(0, 1)) == ()
    assert advisor.finished


def _discard(steps: Steps[bytes]) -> Steps[None]:
    yield from steps


def test_a_verdict_names_what_it_lacks() -> None:
    def steps() -> Steps[bool | None]:
        return (yield from need(8, 9)) == b"x"

    asked = Verdict(steps(), 9)
    assert (asked.wanted, asked.complete) == (Range(8, 9), None)
    asked.tell(b"x")
    assert (asked.wanted, asked.complete) == (None, True)
    assert (Verdict(steps(), 3).wanted, Verdict(None, 3).wanted) == (None, None), "it ends before"


def test_what_is_known_is_taken_apart_in_steps() -> None:
    def steps() -> Steps[None]:
        for at in range(0, 10 * PIECE, PIECE):
            yield from need(at, at + PIECE)
        yield from want(Range(i * 3 * PAGE, i * 3 * PAGE + 1) for i in range(3 * AT_ONCE))

    data = Bytes(bytes(10 * PIECE))
    advisor = Advisor(steps(), 1 << 40)
    calls = granted = 0
    while calls == 0 or advisor.paused:
        calls += 1
        ranges = advisor.advise(data, Range(0, 10 * PIECE))
        granted += len(ranges)
        assert len(ranges) <= AT_ONCE + 2
    assert advisor.finished
    assert granted == 3 * AT_ONCE
    assert calls >= 12
