"""What a pull does with a file that is there already, and the journal that it knows this from."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vfs.base.errors import DestinationBusy, StateUnusable
from vfs.base.file_version import Version
from vfs.commands.pull_dest import LocalEntry, PullDirectory
from vfs.commands.pull_journal import Action, Left, Pulled, decide

pytestmark = pytest.mark.usefixtures("home")

SECOND = 1_000_000_000
LEFT = Left(100, 50 * SECOND, "aa")
LINK = Left(0, 0, "", text="there")


def put(path: Path, size: int, mtime: float) -> LocalEntry:
    path.write_bytes(bytes(size))
    os.utime(path, (mtime, mtime))
    return LocalEntry(path.lstat())


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
    assert decide(found, None, Version(20, 20), overwrite=False) is Action.KEEP
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
    with Pulled(tmp_path) as pulled:  # as after a kill: nothing more was written
        assert pulled.left("f", put(tmp_path / "f", 100, 50)) == LEFT
        assert pulled.left("f", put(tmp_path / "f", 7, 60)) == after
        assert pulled.left("f", put(tmp_path / "f", 8, 60)) is None


def test_a_damaged_journal_is_begun_anew(tmp_path: Path) -> None:
    found = put(tmp_path / "f", 100, 50)
    with Pulled(tmp_path) as pulled:
        pulled.settle("f", LEFT)
        path = pulled._path
    path.write_bytes(b"no database" * 1000)
    for left in (None, LEFT):
        with Pulled(tmp_path) as pulled:
            assert pulled.left("f", found) == left
            pulled.settle("f", LEFT)


HOLDS = """
import sys
from pathlib import Path
from vfs.commands.pull_journal import Pulled
with Pulled(Path(sys.argv[1])) as pulled:
    pulled.take("exp-1/a")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_writes_an_experiment(tmp_path: Path) -> None:
    with Pulled(tmp_path) as one, Pulled(tmp_path) as other:
        one.take("exp-1/a")
        one.take("exp-1")
        other.take("exp-2/a")
        with pytest.raises(DestinationBusy, match="exp-1"):
            other.take("exp-1/b")
    words = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with Pulled(tmp_path) as pulled:
            pulled.take("exp-2")
            with pytest.raises(DestinationBusy, match="exp-1"):
                pulled.take("exp-1/b")
        process.communicate()
    with Pulled(tmp_path) as pulled:
        pulled.take("exp-1/b")


def test_very_many_experiments_take_few_descriptors(tmp_path: Path) -> None:
    with Pulled(tmp_path) as pulled:
        before = len(os.listdir("/dev/fd"))
        for number in range(300):
            pulled.take(f"exp-{number}/f")
            pulled.settle(f"exp-{number}/f", LEFT)
        assert len(os.listdir("/dev/fd")) <= before + 2


def test_a_state_directory_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(StateUnusable, match="cannot be written"), Pulled(tmp_path):
        pass


def test_a_journal_for_which_there_is_no_room_is_no_worse_for_it(tmp_path: Path) -> None:
    found = put(tmp_path / "f", 100, 50)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Pulled(tmp_path) as pulled:
        pulled.settle("e/f", LEFT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, limit[1]))
        try:
            with pytest.raises(StateUnusable):
                for number in range(1000):
                    pulled.settle(f"e/{number}", LEFT)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, before)
        assert not pulled.knows(f"e/{number}")
        pulled.settle("e/h", LEFT)
    with Pulled(tmp_path) as pulled:
        assert pulled.left("e/f", found) == pulled.left("e/h", found) == LEFT


def test_a_link_is_known_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("there")
    with Pulled(tmp_path) as pulled:
        pulled.settle("l", LINK)
    with PullDirectory(tmp_path) as destination, Pulled(tmp_path) as pulled:
        found = destination.found("l")
        assert found is not None
        assert pulled.left("l", found) == LINK
        assert pulled.left("l", put(tmp_path / "f", 0, 0)) is None
        (tmp_path / "l").unlink()
        (tmp_path / "l").symlink_to("elsewhere")
        found = destination.found("l")
        assert found is not None
        assert pulled.left("l", found) is None
        pulled.forget("l")
        assert not pulled.knows("l")
    with Pulled(tmp_path) as pulled:
        assert not pulled.knows("l")
