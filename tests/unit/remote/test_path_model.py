"""What the model of the path makes of a modelled bottleneck, in virtual time."""

from __future__ import annotations

import pytest

from tests.lab.bottleneck import MBIT, Path, always
from vfs.remote.path_model import FIRST_SPARE, SPARE_SECONDS, START, PathModel

pytestmark = pytest.mark.one_python

BEGIN = 100.0
KIB, MIB = 1 << 10, 1 << 20


def share(path: Path, since: float, until: float) -> float:
    """Of what could have come."""
    return path.carried(since, until) / path.capacity(since, until)


def in_flight(path: Path, since: float, until: float) -> int:
    """The most."""
    return max(size for at, size in path.in_flight if since <= at < until)


def waits(path: Path, since: float, until: float) -> list[float]:
    """How long small requests waited, the shortest first."""
    return sorted(seconds for at, seconds in path.small if since <= at < until)


@pytest.mark.parametrize("rtt", [0.01, 0.06, 0.12, 0.3])
@pytest.mark.parametrize("mbit", [5, 20, 100, 400, 1000])
def test_what_is_in_flight_fills_the_path_and_hardly_more(mbit: float, rtt: float) -> None:
    rate = mbit * MBIT
    path = Path(always(rate), always(rtt))
    path.run(30)
    assert share(path, BEGIN + 5, BEGIN + 30) >= 0.93
    # bandwidth × delay and half as much, 256 KiB, and one read more
    most = 1.5 * rate * max(rtt, 0.012) + (256 << 10) + path.model.piece
    assert in_flight(path, BEGIN + 5, BEGIN + 30) <= most
    assert waits(path, BEGIN + 5, BEGIN + 30)[-1] <= 2 * rtt + 0.2
    assert path.model.rate == pytest.approx(rate, rel=0.05)
    assert path.model.spare == pytest.approx(SPARE_SECONDS * rate, rel=0.05)


@pytest.mark.parametrize(("mbit", "rtt"), [(20, 0.06), (400, 0.05), (1000, 0.1)])
def test_the_start_assumes_little_and_finds_the_rate_within_a_few_round_trips(
    mbit: float, rtt: float
) -> None:
    path = Path(always(mbit * MBIT), always(rtt))
    assert (path.model.window, path.model.spare) == (START, FIRST_SPARE)
    path.run(10 * rtt)
    assert in_flight(path, BEGIN, BEGIN + rtt) <= START
    assert share(path, BEGIN + 4 * rtt, BEGIN + 10 * rtt) >= 0.9


@pytest.mark.parametrize(("mbit", "rtt"), [(20, 0.06), (400, 0.05), (400, 0.1), (1000, 0.1)])
@pytest.mark.parametrize("told", [0.1, 0.5, 1.0])
def test_what_a_few_bytes_told_of_the_rate_fills_the_path_from_the_first_round_trip_on(
    mbit: float, rtt: float, told: float
) -> None:
    path = Path(always(mbit * MBIT), always(rtt))
    path.model.saw_rtt(rtt, path.now, 0)
    path.model.saw_first(told * mbit * MBIT)
    path.run(3)
    fills = mbit * MBIT * rtt
    assert share(path, BEGIN + rtt, BEGIN + 2 * rtt) >= 0.8 * min(1, 2 * told)
    assert in_flight(path, BEGIN, BEGIN + rtt) <= max(START, 2 * told * fills + MIB)
    assert share(path, BEGIN + 1, BEGIN + 3) >= 0.9


@pytest.mark.parametrize(
    ("mbit", "rtt", "least", "most"),
    [(5, 0.06, 16, 16), (100, 0.06, 128, 192), (20, 0.3, 128, 192), (400, 0.05, 12_000, 13_000)],
)
def test_on_a_slow_path_a_quarter_of_what_fills_it_is_asked_for_early(
    mbit: float, rtt: float, least: int, most: int
) -> None:
    path = Path(always(mbit * MBIT), always(rtt))
    path.model.saw_rtt(rtt, path.now, 0)
    assert path.model.early == path.model.spare
    path.model.saw_first(mbit * MBIT)
    told = path.model.early
    path.run(3)
    for early in (told, path.model.early):
        assert least * KIB <= early <= most * KIB


@pytest.mark.parametrize(("mbit", "rtt", "most"), [(1, 0.06, 64 * KIB), (5, 0.06, START), (1, 0.3, START)])
def test_a_first_rate_that_no_slow_start_explains_bounds_what_the_first_read_brings(
    mbit: float, rtt: float, most: int
) -> None:
    path = Path(always(mbit * MBIT), always(rtt))
    path.model.saw_rtt(rtt, BEGIN, 0)
    path.model.saw_first(mbit * MBIT)
    assert (path.model.spare, path.model.window) == (most, most)
    path.run(10)
    assert waits(path, BEGIN, BEGIN + 10)[-1] <= rtt + most / (mbit * MBIT) + 0.1


@pytest.mark.parametrize(("mbit", "rtt"), [(1, 0.3), (2, 0.15), (2, 0.3), (3, 0.15), (5, 0.06)])
@pytest.mark.parametrize("connections", [1, 2])
def test_a_slow_path_is_filled_by_small_reads(mbit: float, rtt: float, connections: int) -> None:
    path = Path(always(mbit * MBIT), always(rtt), connections=connections)
    path.run(60)
    assert share(path, BEGIN + 10, BEGIN + 60) >= 0.94


@pytest.mark.parametrize("mbit", [20, 100, 400])
def test_jitter_is_not_taken_for_a_shorter_path(mbit: float) -> None:
    path = Path(always(mbit * MBIT), always(0.06), jitter=0.03)
    path.run(40)
    assert share(path, BEGIN + 5, BEGIN + 40) >= 0.9
    assert waits(path, BEGIN + 5, BEGIN + 40)[-1] <= 0.5


def test_stalls_are_not_taken_for_a_slower_path() -> None:
    path = Path(always(20 * MBIT), always(0.06), stalls=lambda now: max(0.0, 0.3 - now % 3))
    path.run(40)
    assert share(path, BEGIN + 3, BEGIN + 39) >= 0.95
    assert waits(path, BEGIN + 3, BEGIN + 39)[-1] <= 0.5


def test_a_rate_that_falls_and_rises_is_followed() -> None:
    def rate(now: float) -> float:
        return (5 if now % 20 >= 10 else 100) * MBIT

    path = Path(rate, always(0.06), small_every=0.2)
    path.run(80)
    for began in range(0, 80, 20):
        fast, slow = BEGIN + began, BEGIN + began + 10
        assert share(path, fast, slow) >= 0.9
        assert share(path, slow, slow + 10) >= 0.9
        assert waits(path, fast + 1, slow - 0.2)[-1] <= 0.5
        # what was on its way when the rate fell is in front of everybody: 0.95 MB, which take 1.5 s; 0.75 MB fill the path
        assert waits(path, slow, slow + 10)[-1] <= 1.6
        assert waits(path, slow + 2, slow + 10)[-1] <= 0.5


@pytest.mark.parametrize("every", [3, 7])
def test_a_rate_that_changes_is_followed_beside_jitter_and_stalls(every: int) -> None:
    def rate(now: float) -> float:
        return (5 if now % 20 >= 10 else 100) * MBIT

    def stalls(now: float) -> float:
        return max(0.0, 0.3 - now % every)

    path = Path(rate, always(0.06), jitter=0.03, stalls=stalls, small_every=0.2)
    path.run(60)
    assert share(path, BEGIN, BEGIN + 60) >= 0.9
    for began in range(0, 60, 20):
        fast, slow = BEGIN + began, BEGIN + began + 10
        assert waits(path, fast + 1, slow - 0.4)[-1] <= 0.5
        assert (
            waits(path, slow, slow + 10)[-1] <= 2.5
        )  # 1.4 MB, which keep 100 Mbit/s full in spite of the jitter
        assert waits(path, slow + 3, slow + 9.6)[-1] <= 0.5


@pytest.mark.parametrize(
    ("before", "after", "rtt", "at_first"),
    [(5, 25, 0.12, 0.8), (1, 20, 0.3, 0.5), (20, 100, 0.3, 0.7), (5, 50, 0.15, 0.8), (2, 20, 0.3, 0.6)],
)
@pytest.mark.parametrize("pause", [0, 12])
def test_a_rate_that_rises_is_found_on_a_long_path_too(
    before: float, after: float, rtt: float, at_first: float, pause: float
) -> None:
    changes, again = BEGIN + 10, BEGIN + 10 + pause
    path = Path(
        lambda now: (before if now < changes else after) * MBIT,
        always(rtt),
        greedy=lambda now: now < changes or now > again,
    )
    path.run(20 + pause)
    assert share(path, again, again + 4) >= at_first
    assert share(path, again + 7, again + 10) >= 0.95


@pytest.mark.parametrize(("before", "rtt"), [(1000, 0.05), (1000, 0.001), (100, 0.06)])
def test_a_rate_that_nobody_measured_lately_is_not_relied_on(before: float, rtt: float) -> None:
    path = Path(
        lambda now: (before if now < BEGIN + 10 else 5) * MBIT,
        always(rtt),
        greedy=lambda now: now < BEGIN + 8 or now > BEGIN + 20,
        small_every=0.1,
    )
    path.run(30)
    assert waits(path, BEGIN + 20, BEGIN + 30)[-1] <= START / (5 * MBIT) + 0.1
    assert share(path, BEGIN + 20, BEGIN + 30) >= 0.95


def test_a_longer_path_under_the_same_connections_is_found_within_seconds() -> None:
    path = Path(always(400 * MBIT), lambda now: 0.001 if now < BEGIN + 20 else 0.12)
    path.run(40)
    assert share(path, BEGIN + 5, BEGIN + 20) >= 0.95
    assert share(path, BEGIN + 23, BEGIN + 40) >= 0.85
    assert path.model.rtt == pytest.approx(0.12, rel=0.2)


@pytest.mark.parametrize(
    ("before", "after", "shorter", "longer", "at_first"),
    [
        (1000, 1000, 0.02, 0.05, 0.8),
        (100, 100, 0.02, 0.04, 0.8),
        (100, 20, 0.02, 0.05, 0.9),
        (100, 20, 0.02, 0.3, 0.6),
        (50, 100, 0.01, 0.15, 0.7),
        (20, 20, 0.01, 0.15, 0.7),
    ],
)
def test_a_path_that_becomes_longer_under_a_read_does_not_look_slow(
    before: float, after: float, shorter: float, longer: float, at_first: float
) -> None:
    changes = BEGIN + 13
    path = Path(
        lambda now: (before if now < changes else after) * MBIT,
        lambda now: shorter if now < changes else longer,
    )
    path.run(30)
    assert share(path, changes, changes + 4) >= at_first
    assert share(path, changes + 4, changes + 17) >= 0.95


@pytest.mark.parametrize("rtt", [0.02, 0.1])
def test_the_end_of_a_burst_does_not_look_like_a_longer_path(rtt: float) -> None:
    path = Path(
        lambda now: (3000 if now < BEGIN + rtt / 2 + 0.05 else 1000) * MBIT, always(rtt), small_every=99
    )
    path.run(4)
    assert share(path, BEGIN + 1, BEGIN + 4) >= 0.98


def test_a_path_with_a_quarter_of_the_round_trip_is_another_one_and_nothing_is_known_of_its_rate() -> None:
    path = Path(
        always(20 * MBIT), lambda now: 0.12 if now < BEGIN + 10 else 0.001, greedy=lambda now: now < BEGIN + 9
    )
    path.run(9.9)
    assert path.model.measured
    assert path.model.soon < 64 * KIB
    path.run(2)
    assert not path.model.measured
    assert path.model.soon == MIB


def test_a_shorter_path_is_found_too() -> None:
    path = Path(always(100 * MBIT), lambda now: 0.12 if now < BEGIN + 20 else 0.01)
    path.run(60)
    assert share(path, BEGIN + 25, BEGIN + 60) >= 0.95
    assert path.model.rtt <= 0.02
    assert waits(path, BEGIN + 45, BEGIN + 60)[-1] <= 0.15


def test_reads_that_are_answered_together_do_not_look_like_a_faster_path() -> None:
    path = Path(always(20 * MBIT), always(0.06), connections=2)
    path.run(30)
    assert share(path, BEGIN + 5, BEGIN + 30) >= 0.9
    assert path.model.rate <= 1.3 * 20 * MBIT
    assert in_flight(path, BEGIN + 5, BEGIN + 30) <= 2 * 20 * MBIT * 0.06 + (256 << 10)


def test_beside_other_traffic_what_is_left_is_used() -> None:
    path = Path(always(100 * MBIT), always(0.06), other=lambda now: 0.8 if now % 4 < 2 else 0.0)
    path.run(40)
    assert share(path, BEGIN + 5, BEGIN + 40) >= 0.9


def test_readers_that_ask_for_little_do_not_make_the_path_slow() -> None:
    path = Path(always(100 * MBIT), always(0.06), greedy=lambda now: now < BEGIN + 5 or now > BEGIN + 25)
    path.run(5)
    window = path.model.window
    for _ in range(20):  # one read at a time
        path.now += 0.2
        sent = path.model.sent(4096, path.now, 0, 0)
        path.model.received(4096, sent, path.now + 0.061, 4096)
    assert path.model.window >= 0.9 * window


def test_a_new_path_begins_anew() -> None:
    path = Path(always(100 * MBIT), always(0.06))
    path.run(5)
    path.model.restart()
    assert (path.model.window, path.model.rtt, path.model.rate) == (START, 0.0, 0.0)


def test_nothing_that_was_not_measured_counts() -> None:
    model = PathModel()
    model.saw_rtt(0.0, 1.0, 0)
    model.saw_rtt(-1.0, 1.0, 0)
    assert (model.rtt, model.window, model.measured) == (0.0, START, False)
    assert model.allowed(1.0) == START


def test_what_comes_soon_is_told_by_the_rate_and_before_that_by_the_round_trip() -> None:
    model = PathModel()
    assert model.soon == 0
    model.saw_rtt(0.0005, 1.0, 0)
    assert model.soon == 1 << 20
    far = PathModel()
    far.saw_rtt(0.05, 1.0, 0)
    assert far.soon == 0
    slow = Path(always(20 * MBIT), always(0.001))
    slow.run(5)
    assert slow.model.soon == pytest.approx(0.016 * 20 * MBIT, rel=0.1)
