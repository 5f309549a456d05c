"""Nothing below a destination is reached through a link, however deep it is and whoever changes it meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfs.commands.pull_dest import PullDirectory, temporary_name


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine").write_text("mine")
    return tmp_path / "outside"


@pytest.fixture
def destination(tmp_path: Path, outside: Path) -> Iterator[PullDirectory]:
    (tmp_path / "out/a").mkdir(parents=True)
    with PullDirectory(tmp_path / "out") as destination:
        yield destination


def put(destination: PullDirectory, name: str) -> None:
    with destination.place(name) as place:
        temporary = temporary_name()
        os.close(place.open(temporary, 0o644))
        place.put(temporary)


def test_no_component_may_be_a_link(destination: PullDirectory, outside: Path) -> None:
    (destination.path / "l").symlink_to(outside)
    (destination.path / "m").symlink_to(outside / "mine")
    for name in ("l/mine", "l/new", "l/x/y"):
        with pytest.raises(OSError), destination.place(name) as place:
            place.make_directory(0o755)
        assert destination.found(name) is None
        destination.remove(name)
    with destination.place("m") as place, pytest.raises(OSError):
        place.open()
    with pytest.raises(OSError), destination.place("l") as place:
        place.inside()
    put(destination, "m")
    assert not (destination.path / "m").is_symlink()
    assert os.listdir(outside) == ["mine"]
    assert (outside / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "", "a//b", "/etc", ".", "nul\0"])
def test_a_name_is_words_between_slashes(destination: PullDirectory, name: str) -> None:
    with pytest.raises(OSError) as raised, destination.place(name):
        pass
    assert raised.value.errno == errno.EINVAL


def test_a_name_may_be_longer_than_any_path(destination: PullDirectory) -> None:
    words = ["d" * 200] * 40
    for depth in range(1, len(words) + 1):
        with destination.place("/".join(words[:depth])) as place:
            place.make_directory(0o700)
    name = "/".join([*words, "file"])
    put(destination, name)
    found = destination.found(name)
    assert found is not None
    assert found.is_file
    below = [name for name, _ in destination.below(words[0])]
    assert below[-1] == name
    for inner in reversed([words[0], *below]):
        destination.remove(inner, directory=inner != name)
    assert os.listdir(destination.path) == ["a"]


def test_a_fifo_in_the_place_of_a_file_stops_nobody(destination: PullDirectory) -> None:
    os.mkfifo(destination.path / "f")
    with destination.place("f") as place, pytest.raises(OSError):
        place.open()


def test_directories_that_are_swapped_for_links_meanwhile_lead_nowhere(
    destination: PullDirectory, outside: Path
) -> None:
    over = threading.Event()
    swapped = 0

    def swap() -> None:
        nonlocal swapped
        real, name = destination.path / "real", destination.path / "a"
        while not over.is_set():
            os.rename(name, real)
            name.symlink_to(outside)
            name.unlink()
            os.rename(real, name)
            swapped += 1

    thread = threading.Thread(target=swap)
    thread.start()
    put_there = 0
    try:
        while put_there < 200 or swapped < 200:
            try:
                put(destination, f"a/{put_there}")
            except OSError:
                continue
            put_there += 1
    finally:
        over.set()
        thread.join()
    assert os.listdir(outside) == ["mine"]
    assert len(os.listdir(destination.path / "a")) == put_there
