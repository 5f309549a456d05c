"""What a pull does with a file that is there already, and the journal that it knows this from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfs.errors import DestinationBusy
from vfs.pulled import Action, Left, Pulled, decide
from vfs.version import Version

pytestmark = pytest.mark.usefixtures("home")

SECOND = 1_000_000_000
LEFT = Left(100, 50 * SECOND, "aa")


def put(path: Path, size: int, mtime: float) -> os.stat_result:
    path.write_bytes(bytes(size))
    os.utime(path, (mtime, mtime))
    return path.stat()


@pytest.mark.parametrize(
    ("size", "mtime", "left", "version", "action"),
    [
        (100, 50, LEFT, Version(100, 50), Action.SAME),
        (100, 50, None, Version(100, 50), Action.SAME),
        (100, 50, LEFT, Version(150, 51), Action.GROW),
        (100, 50, LEFT, Version(150, 49), Action.REPLACE),
        (100, 50, LEFT, Version(90, 60), Action.REPLACE),
        (100, 50, LEFT, Version(100, 60), Action.REPLACE),
        (100, 50, None, Version(150, 51), Action.KEEP),
        (120, 77, Left(100, 0, "aa", growing_to=150), Version(150, 51), Action.GROW),
        (120, 77, Left(100, 0, "aa", growing_to=150), Version(140, 60), Action.REPLACE),
    ],
)
def test_what_to_do(
    tmp_path: Path, size: int, mtime: int, left: Left | None, version: Version, action: Action
) -> None:
    assert decide(put(tmp_path / "f", size, mtime), left, version, overwrite=False) is action


def test_only_overwriting_touches_what_was_changed_here(tmp_path: Path) -> None:
    found = put(tmp_path / "f", 10, 10)
    assert decide(found, None, Version(20, 20), overwrite=True) is Action.REPLACE
    assert decide(tmp_path.stat(), None, Version(20, 20), overwrite=True) is Action.KEEP
    assert decide(None, None, Version(20, 20), overwrite=False) is Action.NEW


def test_the_journal_survives_its_process(tmp_path: Path) -> None:
    found = put(tmp_path / "f", 100, 50)
    with Pulled(tmp_path) as pulled:
        pulled.settle("a\udcff\n/f", LEFT)
    with Pulled(tmp_path) as pulled:
        assert pulled.left("a\udcff\n/f", found) == LEFT
        assert pulled.left("other", found) is None


def test_a_file_is_known_before_and_after_it_takes_its_place(tmp_path: Path) -> None:
    after = Left(7, 60 * SECOND, "bb")
    with Pulled(tmp_path) as pulled:
        pulled.settle("f", LEFT)
        pulled.note("f", after)
        # as after a kill: nothing more is written, and the next process reads the journal as it is
        pulled._load()
        assert pulled.left("f", put(tmp_path / "f", 100, 50)) == LEFT
        assert pulled.left("f", put(tmp_path / "f", 7, 60)) == after
        assert pulled.left("f", put(tmp_path / "f", 8, 60)) is None


def test_a_line_that_a_kill_cut_off_is_skipped(tmp_path: Path) -> None:
    with Pulled(tmp_path) as pulled:
        pulled.settle("f", LEFT)
    with open(pulled._path, "ab") as journal:
        journal.write(b'["g", 10')
    with Pulled(tmp_path) as pulled:
        assert pulled.left("f", put(tmp_path / "f", 100, 50)) == LEFT


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Pulled(tmp_path), pytest.raises(DestinationBusy), Pulled(tmp_path):
        pass
    with Pulled(tmp_path):
        pass
