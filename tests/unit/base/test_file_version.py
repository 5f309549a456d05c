"""What makes a version, and when it is settled."""

from vfs.base.file_version import Change, Version, classify, settled


def test_equal_attributes_are_the_same_version() -> None:
    assert classify(Version(10, 5), Version(10, 5)) is Change.SAME


def test_longer_and_not_older_may_be_growth() -> None:
    assert classify(Version(10, 5), Version(11, 5)) is Change.GROWN
    assert classify(Version(10, 5), Version(11, 6)) is Change.GROWN


def test_anything_else_is_a_replacement() -> None:
    for new in (Version(9, 6), Version(10, 6), Version(11, 4), Version(0, 5)):
        assert classify(Version(10, 5), new) is Change.REPLACED


def test_two_seconds_without_a_change_settle_a_version_whatever_the_clocks_say() -> None:
    assert settled(Version(1, 10**12), 2.0, None)
    assert not settled(Version(1, 10**12), 1.9, 100.0)


def test_an_old_mtime_settles_a_version_at_once() -> None:
    assert settled(Version(1, 100), 0.0, 103.0)
    assert not settled(Version(1, 100), 0.0, 102.0)
    assert not settled(Version(1, 100), 0.0, None)
