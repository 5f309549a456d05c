"""Cases of plain reading: sequential, again, offline, many at once."""

from __future__ import annotations

import filecmp
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import content
from tests.bench.case import CPU, SECONDS, SPEED, Case, Values
from tests.bench.lab import RATE_MBIT, Failed, Lab, View
from tests.bench.peers import Peer, Server
from tests.bench.scale import GIB, Scale, size

LINK = RATE_MBIT / 8 * 1e6
"""Bytes per second."""
MB = 1e6
PIECES = 200
"""Reads at random places."""
FAR_MS = 50
"""The round trip of the cases that have one only."""


def cases(scale: Scale) -> list[Case]:
    """The cases of this module."""
    big, wan = size(scale.loopback), size(scale.wan)
    sequential = {"speed": SPEED, "again": SPEED._replace(label="second read"), "cpu": CPU}
    far = {"speed": SPEED, "share": SPEED._replace(label="of the link", unit="share"), "cpu": CPU}
    return [
        Case(
            "loopback",
            f"cold sequential read of {big} on loopback, then again in the same mount",
            sequential,
            _loopback,
            copies=True,
            local=True,
        ),
        *(
            Case(
                f"wan-{rtt}",
                f"cold sequential read of {wan} at RTT {rtt} ms and 1 Gbit/s, at most {scale.wan_seconds:g} s",
                far,
                partial(_wan, rtt),
                copies=rtt == 50,  # to wait for scp and rsync once is enough
            )
            for rtt in (20, 50, 100)
        ),
        Case(
            "offline",
            f"read of {wan} after a remount, the server gone and the kernel's pages dropped",
            {"speed": SPEED, "cpu": CPU},
            _offline,
            local=True,
        ),
        Case(
            "offline-random",
            f"{PIECES} reads at random places of {wan} that are in the cache, the server gone, the kernel's pages dropped",
            {
                "small": SECONDS._replace(label="4 KiB", unit="ms"),
                "medium": SECONDS._replace(label="128 KiB", unit="ms"),
            },
            _offline_random,
            local=True,
        ),
        Case(
            "readers",
            f"{scale.readers} programs read {size(scale.reader_size)} each at once, RTT 50 ms, 1 Gbit/s,"
            f" at most {scale.wan_seconds:g} s",
            {
                "share": SPEED._replace(label="of the link in all", unit="share"),
                "spread": SPEED._replace(label="fastest to slowest", unit="ratio"),
            },
            _readers,
        ),
    ]


def big_file(lab: Lab, length: int) -> Path:
    """A file of random bytes on the server, the only one of its experiment."""
    name = f"exp-{length >> 20}/model.bin"
    return lab.made(name, lambda path: content.random_file(path, length))


@contextmanager
def opened(lab: Lab, peer: Peer, server: Server, original: Path) -> Iterator[tuple[View, Path]]:
    """A fresh mount, and `original` in it; its directory is known."""
    with lab.fresh() as place, lab.view(peer, server, place) as view:
        path = view.path / original.relative_to(server.root)
        os.listdir(path.parent)
        yield view, path


def far(
    lab: Lab, peer: Peer, original: Path, work: Callable[[Path], float], mbit: float = RATE_MBIT
) -> Values:
    """What `work` returns for `original` in a fresh mount over a long link (`time`), and the MB that came for it
    (`wire`)."""
    with lab.relay(FAR_MS, mbit) as relay, opened(lab, peer, lab.server(relay.port), original) as (_, path):
        before = relay.bytes_down()
        value = work(path)
        return {"time": value, "wire": (relay.bytes_down() - before) / MB}


def copy(lab: Lab, peer: Peer, server: Server, experiment: Path) -> float:
    """Copy an experiment into an empty directory: seconds. Raises Failed, also when a file is not as on the server."""
    with lab.fresh() as place:
        destination = place / "copy"
        destination.mkdir()
        assert peer.copy is not None
        seconds, _ = lab.timed(peer.copy(server, experiment.name, destination, place), place)
        for path in experiment.rglob("*"):
            copied = destination / path.relative_to(experiment.parent)
            if path.is_file() and not (copied.is_file() and filecmp.cmp(path, copied, shallow=False)):
                raise Failed(f"{path.name} is not as on the server")
        return seconds


def _loopback(lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.loopback)
    if peer.mount is None and peer.copy is not None:
        seconds = copy(lab, peer, lab.server(), original.parent)
        return {"speed": lab.scale.loopback / seconds / MB}
    with opened(lab, peer, lab.server(), original) as (view, path):
        before = view.cpu_seconds()
        first = lab.program("read", path, original)
        values = {"speed": first["bytes"] / first["seconds"] / MB}
        if view.process is not None:
            values["cpu"] = (view.cpu_seconds() - before) * GIB / first["bytes"]
        again = lab.program("read", path, original)
        return {**values, "again": again["bytes"] / again["seconds"] / MB}


def _wan(rtt: int, lab: Lab, peer: Peer) -> Values:
    original = big_file(lab, lab.scale.wan)
    with lab.relay(rtt) as relay:
        server = lab.server(relay.port)
        if peer.mount is None:
            seconds = copy(lab, peer, server, original.parent)
            return _of_link(lab.scale.wan / seconds)
        with opened(lab, peer, server, original) as (view, path):
            before = view.cpu_seconds()
            done = lab.program("read", path, original, lab.scale.wan_seconds)
            cpu = (view.cpu_seconds() - before) * GIB / done["bytes"]
            return {**_of_link(done["bytes"] / done["seconds"]), "cpu": cpu}


def _of_link(bytes_per_second: float) -> dict[str, float]:
    return {"speed": bytes_per_second / MB, "share": bytes_per_second / LINK}


@contextmanager
def _cached(lab: Lab, peer: Peer) -> Iterator[tuple[View | None, Path, Path]]:
    """A mount that has read a file and was mounted again, the server gone; the file in it, and on the server. The local
    disk's: the file itself."""
    original = big_file(lab, lab.scale.wan)
    if peer.mount is None:
        _forget_pages(original.parent)
        yield None, original, original
        return
    with lab.fresh() as place:
        with lab.relay(0, 0) as relay:
            server = lab.server(relay.port)
            with lab.view(peer, server, place) as view:
                lab.program("read", view.path / original.relative_to(lab.root), original)
        _forget_pages(place)
        with lab.view(peer, server, place) as view:
            yield view, view.path / original.relative_to(lab.root), original


def _offline(lab: Lab, peer: Peer) -> Values:
    with _cached(lab, peer) as (view, path, original):
        before = view.cpu_seconds() if view is not None else 0.0
        done = lab.program("read", path, original)
        values = {"speed": done["bytes"] / done["seconds"] / MB}
        if view is not None:
            values["cpu"] = (view.cpu_seconds() - before) * GIB / done["bytes"]
        return values


def _offline_random(lab: Lab, peer: Peer) -> Values:
    values = {}
    for name, length in (("small", 4 << 10), ("medium", 128 << 10)):
        with _cached(lab, peer) as (_, path, original):
            done = lab.program("pieces", path, original, "random", PIECES, length)
            values[name] = done["seconds"] / PIECES * 1000
    return values


def _forget_pages(place: Path) -> None:
    """Let the kernel forget what it has in memory of the files below."""
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _readers(lab: Lab, peer: Peer) -> Values:
    scale = lab.scale
    originals = [
        lab.made(f"exp-many/part-{number}", lambda path: content.random_file(path, scale.reader_size))
        for number in range(scale.readers)
    ]
    with lab.relay(50) as relay, opened(lab, peer, lab.server(relay.port), originals[0]) as (_, first):
        began = time.monotonic() + 0.1 * scale.readers  # by then all of them are up
        processes = [
            lab.start("read", first.parent / original.name, original, scale.wan_seconds, began)
            for original in originals
        ]
        results = [lab.result(process) for process in processes]
    total = sum(result["bytes"] for result in results)
    seconds = max(result["ended"] for result in results) - began
    speeds = [result["bytes"] / (result["ended"] - began) for result in results]
    return {"share": total / seconds / LINK, "spread": max(speeds) / max(min(speeds), 1.0)}
