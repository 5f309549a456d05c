"""Copies of experiments on this machine: what has to be fetched, and fetching it, each file whole and of one version.

Reads as the mount does, through the same tree, readers and cache: so a pull that was stopped goes on where it was, and
no copy holds bytes of two versions. A file takes its place by a rename; one that has grown gets its tail appended, so
that TensorBoard, which never looks at a replaced file, sees it. On the event loop's thread; files are written by others.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import posixpath
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vfs import experiments, links
from vfs.errors import (
    ArtisyncError,
    DestinationUnusable,
    NoSuchPath,
    StaleVersion,
    Unreachable,
)
from vfs.node import Kind, Node
from vfs.progress import Progress
from vfs.pulled import Action, Left, Pulled, decide
from vfs.reader import Piece, Reader
from vfs.stack import Stack
from vfs.units import size
from vfs.version import Version
from vfs.whole import Lanes, chunks, with_reader

log = logging.getLogger(__name__)

PARTS = ("tensorboard", "checkpoints", "logs")
"""The directories of an experiment that can be asked for."""
PART = ".artisync-part"
"""How the name of a file ends that is not whole yet."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of an experiment are wanted."""

    parts: frozenset[str] = frozenset()
    """Only below these directories of the experiment; all, if empty."""
    newer_than: float | None = None
    """Only what was written after that, in seconds since the epoch of the server's clock."""

    def wants(self, path: str, node: Node) -> bool:
        """`path` is relative to the experiment."""
        if self.parts and path.partition("/")[0] not in self.parts:
            return False
        return node.kind is Kind.DIRECTORY or self.newer_than is None or node.version.mtime > self.newer_than


@dataclass(slots=True)
class Item:
    """One file to be brought, or left alone."""

    node: Node
    name: str
    """Relative to the destination."""
    action: Action
    size: int
    """Bytes to be fetched, as far as the listing tells."""
    link: str | None = None
    """The text of a symbolic link to be made instead of a file."""
    done: int = 0
    """Bytes that were written."""


@dataclass(slots=True)
class Outcome:
    """What a pull did. Sizes in bytes."""

    files: int = 0
    size: int = 0
    same: int = 0
    kept: list[str] = field(default_factory=list)
    """Changed here, and therefore not touched."""
    unsettled: list[str] = field(default_factory=list)
    """Being written on the server all the while."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """With the reason."""


class Pull:
    """One destination. `await plan(...)`, then `await fetch(...)`, as often as wanted, inside `with pulled:`."""

    def __init__(
        self,
        stack: Stack,
        destination: Path,
        pulled: Pulled,
        selection: Selection,
        progress: Progress,
        *,
        overwrite: bool = False,
        patience: float,
    ) -> None:
        """`patience`: seconds to wait for a file that is being written to come to rest."""
        self._tree = stack.tree
        self._fetcher = stack.fetcher
        self._destination = destination
        self._pulled = pulled
        self._selection = selection
        self._overwrite = overwrite
        self._patience = patience
        self._lanes = Lanes()
        self.progress = progress
        self.outcome = Outcome()

    # --- what is wanted -----------------------------------------------------------------------------------------

    async def plan(self, names: Iterable[str] | None) -> list[Item]:
        """Look at the experiments `names`, or at all and what lies beside them; asks for listings only.

        Raises NoSuchExperiment, AmbiguousExperiment, Unreachable.
        """
        tree = self._tree
        known = await experiments.experiments(tree)
        chosen = (
            [experiments.choose(name, list(known)) for name in names] if names is not None else list(known)
        )
        self.outcome.same = 0
        items: list[Item] = []
        wanted = [(name, known[name]) for name in dict.fromkeys(chosen)]
        for found in await experiments.look_through(wanted, self._look):
            items += found
        if names is None and not self._selection.parts:
            for node in list(tree.root.children.values()):
                if node.kind is Kind.FILE and self._selection.wants(os.fsdecode(node.name), node):
                    items += self._item(node, os.fsdecode(node.name))
        self.progress.total = sum(item.size for item in items)
        self.progress.files = sum(item.node.kind is not Kind.DIRECTORY for item in items)
        return items

    async def _look(self, name: str, top: Node) -> list[Item]:
        items: list[Item] = []
        unlisted: list[tuple[Node, ArtisyncError]] = []
        async for node in experiments.walk(self._tree, top, unlisted):
            path = os.fsdecode(posixpath.relpath(node.path, top.path))
            if not self._selection.wants(path, node):
                continue
            if node.pending is not None:
                await self._tree.refresh(node)  # tells whether it has grown or was replaced
                current = node.parent.children.get(node.name) if node.parent is not None else None
                if current is None:
                    continue
                node = current
            if node.kind is Kind.LINK:
                items += await self._link(node, top, f"{name}/{path}")
            elif node.kind is Kind.DIRECTORY:
                items.append(Item(node, f"{name}/{path}", Action.NEW, 0))
            elif node.kind is Kind.FILE:
                items += self._item(node, f"{name}/{path}")
        self.outcome.failed += [
            (f"{name}/{os.fsdecode(posixpath.relpath(node.path, top.path))}", error.hint)
            for node, error in unlisted
        ]
        return items

    def _item(self, node: Node, name: str) -> list[Item]:
        found = _stat(self._destination / name)
        left = self._pulled.left(name, found) if found is not None else None
        action = decide(found, left, node.version, overwrite=self._overwrite)
        if action is Action.SAME:
            self.outcome.same += 1
            return []
        if action is Action.KEEP:
            self.outcome.kept.append(name)
            return []
        here = found.st_size if found is not None and action is Action.GROW else 0
        return [Item(node, name, action, max(0, node.version.size - here))]

    async def _link(self, node: Node, top: Node, name: str) -> list[Item]:
        """A link within the experiment stays one; any other is copied as what it shows, if that is a file."""
        try:
            shown = await self._tree.find(node.relative)
        except ArtisyncError:
            log.info("%s leads nowhere", name)
            return []
        inside = links.inside(top.path, shown.path)
        if inside and self._selection.wants(os.fsdecode(posixpath.relpath(shown.path, top.path)), shown):
            text, target = os.fsdecode(node.target), self._destination / name
            if target.is_symlink() and os.readlink(target) == text:
                return []
            if target.exists() and not target.is_symlink():
                self.outcome.kept.append(name)
                return []
            return [Item(node, name, Action.NEW, 0, text)]
        return self._item(shown, name) if shown.kind is Kind.FILE else []

    def check_room(self, items: Iterable[Item]) -> None:
        """Raises DestinationUnusable when the disk has no room for them."""
        needed = sum(item.size for item in items)
        place = self._destination
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > free:
            raise DestinationUnusable(f"{size(needed)} are to be pulled, and {place} has {size(free)} free")

    # --- bringing it --------------------------------------------------------------------------------------------

    async def fetch(self, items: Iterable[Item]) -> None:
        """Bring them, many at a time. What fails is noted in `outcome`, and the rest goes on.

        Raises Unreachable when the server cannot be reached any more, DestinationUnusable when nothing more can be
        written.
        """
        # small ones first: an event file is not to wait for a checkpoint
        todo = sorted(items, key=lambda item: (item.node.kind is not Kind.DIRECTORY, item.size))
        try:
            async with asyncio.TaskGroup() as group:
                for item in todo:
                    if item.node.kind is Kind.DIRECTORY:
                        self._make_directory(self._destination / item.name)
                    else:
                        group.create_task(self._bring(item))
        except* (Unreachable, DestinationUnusable) as errors:
            error = errors.exceptions[0]
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            raise error from None

    async def _bring(self, item: Item) -> None:
        async with self._lanes.of(item.size):
            self.progress.doing = item.name
            try:
                if item.link is not None:
                    await asyncio.to_thread(_make_link, self._destination / item.name, item.link)
                else:
                    await self._bring_file(item)
            except Unreachable:
                raise
            except StaleVersion:
                self.outcome.unsettled.append(item.name)
            except NoSuchPath:
                log.info("%s is gone from the server", item.name)
            except (ArtisyncError, TimeoutError) as error:
                self.outcome.failed.append((item.name, str(error) or getattr(error, "hint", "no answer")))
            except OSError as error:
                raise DestinationUnusable(f"{self._destination / item.name}: {error.strerror}") from error
            else:
                self.outcome.files += 1
                self.progress.files_done += 1

    async def _bring_file(self, item: Item) -> None:
        async def copy(reader: Reader) -> None:
            self.progress.done -= item.done  # what a version that went away had brought
            item.done = 0
            await self._copy(reader, item)

        await with_reader(self._tree, self._fetcher, item.node, self._patience, copy)

    async def _copy(self, reader: Reader, item: Item) -> None:
        """The version that the reader has now, whole, in the item's place."""
        version = reader.content.version
        lineage = reader.content.lineage.hex()
        target = self._destination / item.name
        start = await asyncio.to_thread(self._start, target, item, lineage, version)
        done = Left(version.size, version.mtime * 1_000_000_000, lineage)
        if start is not None:
            self._pulled.note(item.name, Left(start, 0, lineage, growing_to=version.size))
            with open(target, "r+b", buffering=0) as file:
                await self._write(reader, item, file.fileno(), start, version.size)
                _stamp(file.fileno(), version)
        else:
            self._make_directory(target.parent)
            part = target.with_name(f".{target.name[:200]}{PART}")
            try:
                with _create(part, reader.node.attributes.mode) as file:
                    await self._write(reader, item, file.fileno(), 0, version.size)
                    _stamp(file.fileno(), version)
                # before the rename, so that a kill between the two leaves nothing that looks changed here
                self._pulled.note(item.name, done)
                os.replace(part, target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        self._pulled.settle(item.name, done)

    def _start(self, target: Path, item: Item, lineage: str, version: Version) -> int | None:
        """Where to go on in a file that is the beginning of the version; None to write it anew."""
        found = _stat(target)
        left = self._pulled.left(item.name, found) if found is not None else None
        if item.action is not Action.GROW or found is None or left is None or left.lineage != lineage:
            return None
        start = left.size if left.growing_to is not None else found.st_size
        return start if start <= version.size else None

    async def _write(self, reader: Reader, item: Item, fd: int, start: int, end: int) -> None:
        async for pieces in chunks(reader, start, end):
            await asyncio.to_thread(_write_pieces, fd, start, pieces)
            count = sum(b - a for _, a, b in pieces)
            start += count
            item.done += count
            self.progress.done += count
            self.outcome.size += count

    def _make_directory(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationUnusable(f"{path}: {error.strerror}") from error


def _write_pieces(fd: int, offset: int, pieces: list[Piece]) -> None:
    for block, a, b in pieces:
        view = memoryview(block.view(a, b))
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written


def _create(path: Path, mode: int) -> io.FileIO:
    """A new file with the mode of the server's file, as far as the umask allows, and what its owner needs."""
    path.unlink(missing_ok=True)  # left by a kill
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return io.FileIO(os.open(path, flags, (stat.S_IMODE(mode) & 0o777) | 0o600), "wb")


def _stamp(fd: int, version: Version) -> None:
    os.ftruncate(fd, version.size)
    os.utime(fd, (version.mtime, version.mtime))


def _make_link(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.symlink_to(text)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
