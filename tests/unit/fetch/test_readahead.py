"""How reads are told apart, and what is asked for ahead of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.fetch.readahead import GROWTH, KIB, Readahead, kernel_readahead

MIB = 1024 * KIB
SIZE = 500 * MIB
LIMIT = 64 * MIB


def read(
    pattern: Readahead, start: int, end: int, limit: int = LIMIT, spare: int = LIMIT
) -> tuple[int, int] | None:
    pattern.touch(start, end)
    return pattern.ahead(SIZE, limit, spare)


def test_one_small_read_asks_for_nothing_ahead() -> None:
    assert read(Readahead(), 0, 32 * KIB) is None
    assert read(Readahead(), 7 * MIB, 7 * MIB + 128 * KIB) is None


@pytest.mark.parametrize(("limit", "spare"), [(4 * MIB, 9 * MIB), (9 * MIB, 4 * MIB)])
def test_a_large_read_at_the_beginning_opens_a_window_at_once_within_what_may_be_fetched_for_nobody(
    limit: int, spare: int
) -> None:
    start, end = read(Readahead(), 0, 128 * KIB, limit, spare) or (0, 0)
    assert start == 128 * KIB
    assert 4 * MIB <= end <= 5 * MIB


def test_a_reader_that_is_known_to_jump_gets_none_for_its_first_read() -> None:
    pattern = Readahead()
    pattern.touch(0, 128 * KIB)
    assert pattern.ahead(SIZE, LIMIT, LIMIT, growth=1) is None


def test_a_mapped_file_gets_none_for_its_first_read() -> None:
    assert read(Readahead(eager=False), 0, 128 * KIB) is None


def test_a_second_adjacent_read_opens_a_window() -> None:
    pattern = Readahead()
    read(pattern, 9 * MIB, 9 * MIB + 128 * KIB)
    start, end = read(pattern, 9 * MIB + 128 * KIB, 9 * MIB + 256 * KIB) or (0, 0)
    assert start == 9 * MIB + 256 * KIB
    assert end >= 11 * MIB


def test_what_the_kernel_asks_for_around_one_tensor_of_a_mapping_earns_as_its_usual_requests_do() -> None:
    asked = {}
    for size in (128 * KIB, MIB):
        pattern = Readahead(kernel=size)
        read(pattern, 100 * MIB, 100 * MIB + size)
        _, end = read(pattern, 100 * MIB + size, 100 * MIB + 2 * size) or (0, 0)
        asked[size] = end - pattern.position
    assert asked[MIB] == asked[128 * KIB] == GROWTH * 256 * KIB


def test_the_window_grows_with_the_run_up_to_the_limit() -> None:
    pattern, ends, position = Readahead(), [], MIB
    while position < 33 * MIB:
        ahead = read(pattern, position, position + 128 * KIB, limit=16 * MIB)
        position += 128 * KIB
        if ahead is not None:
            ends.append(ahead[1] - position)
    assert ends[0] < 3 * MIB
    assert max(ends) >= 15 * MIB
    assert max(ends) <= 17 * MIB


def test_nothing_is_asked_for_twice_in_one_run() -> None:
    pattern, seen, position = Readahead(), 0, 0
    while position < 64 * MIB:
        ahead = read(pattern, position, position + 128 * KIB)
        position += 128 * KIB
        if ahead is not None:
            assert ahead[0] >= seen
            seen = ahead[1]


def test_a_seek_closes_the_window() -> None:
    pattern = Readahead()
    for i in range(64):
        read(pattern, i * 128 * KIB, (i + 1) * 128 * KIB)
    assert read(pattern, 300 * MIB, 300 * MIB + 128 * KIB) is None
    assert not pattern.earned


def test_nothing_is_asked_for_beyond_where_other_files_were_left_until_a_run_comes_there() -> None:
    pattern = Readahead(bound=7 * MIB)
    for position in range(0, 7 * MIB + pattern.kernel, 128 * KIB):
        read(pattern, position, position + 128 * KIB)
        assert pattern.frontier == 7 * MIB  # all of it with the first read
    assert pattern.left == 7 * MIB
    read(pattern, 7 * MIB + pattern.kernel, 8 * MIB)
    assert pattern.frontier > 30 * MIB  # it reads on
    assert pattern.left == 8 * MIB


def test_a_file_that_is_read_to_its_end_or_from_its_middle_was_not_left() -> None:
    whole, middle = Readahead(), Readahead()
    for position in range(0, SIZE, 4 * MIB):
        read(whole, position, position + 4 * MIB)
    for position in range(50 * MIB, 60 * MIB, MIB):
        read(middle, position, position + MIB)
    assert whole.left is None
    assert middle.left is None


def test_a_backward_reader_gets_no_readahead() -> None:
    pattern = Readahead()
    for i in range(100, 0, -1):
        assert read(pattern, i * MIB, i * MIB + 128 * KIB) is None


def test_a_strided_reader_gets_no_readahead() -> None:
    pattern = Readahead()
    assert [read(pattern, i * 2 * MIB, i * 2 * MIB + 128 * KIB) for i in range(1, 50)] == [None] * 49


def test_readahead_ends_at_the_end_of_the_file() -> None:
    pattern = Readahead()
    read(pattern, SIZE - 384 * KIB, SIZE - 256 * KIB)
    assert read(pattern, SIZE - 256 * KIB, SIZE - 128 * KIB) == (SIZE - 128 * KIB, SIZE)
    assert read(pattern, SIZE - 128 * KIB, SIZE) is None


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 256 * KIB)), max_size=50))
def test_what_is_asked_ahead_is_never_more_than_the_pattern_earned(reads: list[tuple[int, int]]) -> None:
    pattern = Readahead()
    for start, length in reads:
        end = min(SIZE, start + length)
        ahead = read(pattern, start, end)
        low, high = pattern.demand(start, end, SIZE, LIMIT)
        assert low <= start
        assert end <= high <= SIZE
        if ahead is not None:
            run = pattern.run
            assert ahead[0] >= pattern.position
            assert ahead[0] < ahead[1] <= SIZE
            first = LIMIT if pattern.run_start == 0 else 0
            assert ahead[1] - pattern.position <= max(first, min(LIMIT, GROWTH * run)) + MIB


def test_on_a_slow_link_no_more_is_asked_for_nobody_than_it_may_cost() -> None:
    for spare in (64 * KIB, 600 * KIB, 3 * MIB):
        pattern = Readahead()
        start, end = read(pattern, 0, 128 * KIB, spare=spare) or (0, 0)
        assert end - start <= spare
        read(pattern, 128 * KIB, 256 * KIB, spare=spare)
        assert pattern.frontier - pattern.position <= max(spare, 256 * KIB)


def test_on_a_slow_link_a_program_that_reads_a_files_head_costs_little_and_one_that_goes_on_the_whole_window() -> (
    None
):
    pattern, fetched = Readahead(), []
    for position in range(0, 512 * KIB, 128 * KIB):
        pattern.touch(position, position + 128 * KIB)
        pattern.ahead(SIZE, 2 * MIB, 3 * MIB, early=180 * KIB)
        fetched.append(pattern.frontier)
    assert max(fetched[:2]) <= 256 * KIB + 180 * KIB
    assert fetched[2] > 384 * KIB + 3 * MIB // 2 - KIB


def in_vain(pattern: Readahead, start: int, length: int) -> int:
    """Bytes asked for beyond a read of `length` on a link of 100 Mbit/s and RTT 150 ms."""
    for position in range(start, start + length, 128 * KIB):
        pattern.touch(position, position + 128 * KIB)
        pattern.ahead(SIZE, 5 * MIB, 3 * MIB, early=470 * KIB)
    return pattern.frontier - pattern.position


def test_on_a_slow_link_what_is_asked_for_beyond_a_run_is_in_proportion_to_it() -> None:
    assert in_vain(Readahead(), 50 * MIB, 256 * KIB) <= 512 * KIB
    assert in_vain(Readahead(), 50 * MIB, MIB) <= 3 * MIB // 2
    assert in_vain(Readahead(), 50 * MIB, 4 * MIB) <= 2 * MIB
    assert in_vain(Readahead(), 50 * MIB, 20 * MIB) >= 4 * MIB  # what fills it


def test_on_a_slow_link_a_run_is_expected_to_be_as_long_as_the_last_one_that_was_left() -> None:
    pattern = Readahead()
    assert in_vain(pattern, 20 * MIB, 512 * KIB) > 0
    assert [in_vain(pattern, place * MIB, 512 * KIB) for place in (70, 40, 90)] == [0, 0, 0]
    assert in_vain(pattern, 120 * MIB, MIB) > 256 * KIB  # it goes on


def test_a_long_run_has_earned_what_fills_the_link_whatever_that_costs() -> None:
    pattern, position = Readahead(), 0
    while position < 16 * MIB:
        read(pattern, position, position + 128 * KIB, limit=2 * MIB, spare=600 * KIB)
        position += 128 * KIB
    assert pattern.frontier - pattern.position > MIB


def test_a_small_window_never_runs_dry() -> None:
    pattern, position, left = Readahead(), 0, []
    while position < 16 * MIB:
        read(pattern, position, position + 128 * KIB, limit=600 * KIB)
        position += 128 * KIB
        left.append(pattern.frontier - position)
    assert min(left[8:]) >= 300 * KIB


def test_a_small_read_is_rounded_to_what_the_link_carries_in_some_milliseconds() -> None:
    pattern = Readahead()
    pattern.touch(100_000_000, 100_000_100)
    sizes = []
    for spare in (10 * KIB, 200 * KIB, 600 * KIB):
        start, end = pattern.demand(100_000_000, 100_000_100, SIZE, spare)
        sizes.append(end - start)
    assert sizes == [4 * KIB, 8 * KIB, 32 * KIB]


def test_what_the_kernel_asks_for_comes_within_some_milliseconds() -> None:
    assert kernel_readahead(0) == 128 * KIB
    assert kernel_readahead(200_000) == 128 * KIB
    assert kernel_readahead(2_000_000) == MIB
    assert kernel_readahead(1 << 40) == MIB


def test_the_larger_the_kernels_requests_the_more_of_them_make_a_run() -> None:
    pattern = Readahead(kernel=MIB)
    assert read(pattern, 7 * MIB, 8 * MIB) is None
    assert not pattern.earned
    assert read(pattern, 9 * MIB, 10 * MIB) is not None  # out of order by one request
    assert pattern.earned
