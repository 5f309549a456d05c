"""Copies of experiments on this machine: what has to be fetched, and fetching it, each file whole and of one version.

Reads as the mount does, through the same tree, readers and cache: so a pull that was stopped goes on where it was, and
no copy holds bytes of two versions. A file takes its place by a rename; one that has grown gets its tail appended, so
that TensorBoard, which never looks at a replaced file, sees it. On the event loop's thread; files are written by others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vfs.base.each import each
from vfs.base.errors import (
    ArtisyncError,
    ChangedHere,
    DestinationUnusable,
    InTheWay,
    LinkError,
    NoSuchPath,
    NotDirectory,
    RemoteError,
    StaleVersion,
    Unreachable,
    UsageError,
)
from vfs.base.progress import Progress
from vfs.base.units import size
from vfs.commands.fitting import fitting
from vfs.commands.patterns import expand, is_pattern
from vfs.commands.pull_dest import PullDirectory
from vfs.commands.pull_journal import Action, Pulled, decide
from vfs.commands.pull_write import PullWriter
from vfs.files import experiments, symlinks
from vfs.files.node import Kind, Node
from vfs.files.read_whole import each_file, with_reader
from vfs.files.reader import Reader
from vfs.files.requests import fresh_only
from vfs.stack import Stack

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """What is pulled, and into which directory, in plain types."""

    directory: str
    names: Sequence[str] | None = None
    """Experiments, directories and files; None for all experiments, and what lies beside them."""
    only: Sequence[str] = ()
    """Only below these directories of each experiment; all, if empty."""
    newer_than: float | None = None
    """Only what was written after that, in seconds since the epoch of the server's clock."""
    dry_run: bool = False
    overwrite: bool = False
    watch: bool = False

    def wants(self, path: str, node: Node) -> bool:
        """Whether a file is to be copied; `path` is relative to the experiment."""
        if self.only and path.partition("/")[0] not in self.only:
            return False
        return node.kind is Kind.DIRECTORY or self.newer_than is None or node.latest.mtime > self.newer_than


@dataclass(slots=True)
class Item:
    """One file, symlink or directory to copy."""

    node: Node
    name: str
    """Relative to the destination."""
    action: Action
    size: int
    """Bytes to fetch, by the listing."""
    symlink: str | None = None
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
    """Files that were changed here, and are therefore kept."""
    unsettled: list[str] = field(default_factory=list)
    """Files that are still being written on the server."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Names that failed, each with the reason."""


class Pull:
    """One destination. `await plan()`, then `await fetch(...)`, as often as wanted, inside `with pulled:`."""

    def __init__(
        self,
        stack: Stack,
        order: Order,
        destination: PullDirectory,
        pulled: Pulled,
        progress: Progress,
        *,
        patience: float,
    ) -> None:
        """`patience`: seconds to wait for a file that is being written to come to rest."""
        self._order = order
        self._tree = stack.tree
        self._fetcher = stack.fetcher
        self._destination = destination
        self._pulled = pulled
        self._writer = PullWriter(destination, pulled, overwrite=order.overwrite)
        self._patience = patience
        self._meant: dict[str, str] = {}
        self.progress = progress
        self.outcome = Outcome()

    # --- what to copy -------------------------------------------------------------------------------------------

    async def plan(self) -> list[Item]:
        """Look at what is ordered, patterns expanded; asks for listings only.

        Raises NoSuchExperiment, AmbiguousExperiment, NoSuchPath, Unreachable; UsageError for two of the same name;
        DestinationUnusable when the destination is gone.
        """
        if self._destination.removed:
            raise DestinationUnusable(f"{self._destination.path} was removed")
        self.outcome.same = 0
        with fresh_only():
            wanted = await self._wanted()
            looks = await each(wanted, lambda one: self._look(*one), experiments.TOGETHER)
        items = self._fitting([item for found in looks for item in found])
        self.progress.done = self.progress.files_done = 0
        self.progress.total = sum(item.size for item in items)
        self.progress.files = sum(item.node.kind is not Kind.DIRECTORY for item in items)
        return items

    async def _wanted(self) -> list[tuple[str, Node, str]]:
        """The nodes to copy: the name of the copy (the last word of the path), the node, its path in its experiment."""
        known = await experiments.experiments(self._tree, sure=True)
        if self._order.names is None:
            root = self._tree.root.children.values()
            beside = [(os.fsdecode(node.name), node) for node in root if node.kind is Kind.FILE]
            beside = [(name, node) for name, node in beside if self._order.wants(name, node)]
            return [(name, node, "") for name, node in (*known.items(), *beside)]
        found: dict[str, tuple[str, Node, str]] = {}
        for word in self._order.names:
            for path, node in await self._meaning(word, list(known)):
                name, inside = posixpath.basename(path), path.partition("/")[2]
                if found.setdefault(name, (name, node, inside))[1] is not node:
                    raise UsageError(f"two of the paths would be copied to {name}")
        return list(found.values())

    async def _meaning(self, word: str, known: Sequence[str]) -> list[tuple[str, Node]]:
        """The paths that a word of the command line names, each with its node.

        The beginning of a name stands for the same name in all looks of a watch. What a further look does not find may
        come back.
        """
        if word in self._meant:
            with contextlib.suppress(NoSuchPath, NotDirectory):
                paths = await expand(self._tree, [self._meant[word]])
                return [(path, await self._tree.find(os.fsencode(path), sure=True)) for path in paths]
            return []
        found = []
        for path in await expand(self._tree, [word]):
            first, _, rest = path.strip("/").partition("/")
            if os.fsencode(first) not in self._tree.root.children:  # the beginning of a name, or a mistake
                first = experiments.choose(first, known)
            path = f"{first}/{rest}".rstrip("/")
            found.append((path, await experiments.find_path(self._tree, path)))
        self._meant[word] = word if is_pattern(word) else found[0][0]
        return found

    async def _look(self, name: str, top: Node, inside: str) -> list[Item]:
        """`inside`: where in its experiment `top` is."""
        items, shut = await self._item_of(top, top, "", name), set()
        if not items or top.kind is not Kind.DIRECTORY:
            return items
        unlisted: list[tuple[Node, ArtisyncError]] = []
        start = len(top.path.rstrip(b"/")) + 1
        try:
            async for node in experiments.walk(self._tree, top, unlisted):
                path = os.fsdecode(node.path[start:])
                if not self._order.wants(posixpath.join(inside, path), node):
                    continue
                found = [] if posixpath.dirname(path) in shut else await self._item_of(node, top, name, path)
                items += found
                if node.kind is Kind.DIRECTORY and not found:
                    shut.add(path)
        except NoSuchPath:
            return []
        except RemoteError as error:
            unlisted.append((top, error))
        for directory, problem in unlisted:
            if isinstance(problem, LinkError) and not self._tree.remote.link.online:
                raise problem
            path = posixpath.join(name, os.fsdecode(directory.path[start:])).rstrip("/")
            self.outcome.failed.append((path, problem.hint))
        return items if len(items) > 1 or not self._order.only else []

    async def _item_of(self, node: Node, top: Node, experiment: str, path: str) -> list[Item]:
        name = posixpath.join(experiment, path)
        if node.pending is not None:
            await self._tree.refresh(node)  # tells whether it has grown or was replaced
            current = node.parent.children.get(node.name) if node.parent is not None else None
            if current is None:
                return []
            node = current
        try:
            self._pulled.take(name)
            if node.kind is Kind.SYMLINK:
                item = await self._link(node, top, name)
            elif node.kind is Kind.DIRECTORY:
                item = self._directory(node, name)
            else:
                item = self._file(node, name)
        except LinkError:
            raise
        except (ArtisyncError, OSError) as error:
            self._failed(name, error)
            return []
        return [item] if item is not None else []

    def _directory(self, node: Node, name: str) -> Item:
        """Plan a directory, also one that exists. If a file is kept in its place, nothing below the directory is copied."""
        found = self._destination.found(name)
        if found is not None and not found.is_directory:
            try:
                self._writer.check(name, found)
            except ChangedHere as error:
                raise InTheWay("something else is here in its place; --overwrite replaces it") from error
        return Item(node, name, Action.NEW, 0)

    def _file(self, node: Node, name: str) -> Item | None:
        if node.kind is not Kind.FILE:
            return None
        found = self._destination.found(name)
        if found is not None and found.is_directory:
            self._writer.check(name, found)
            action = Action.REPLACE
        else:
            left = self._pulled.left(name, found) if found is not None else None
            action = decide(found, left, node.version, overwrite=self._order.overwrite)
        if action is Action.SAME:
            self.outcome.same += 1
            return None
        if action is Action.KEEP:
            raise ChangedHere
        if action is not Action.GROW:  # what a stopped pull has fetched
            half = self._pulled.half(name, node.version)
            found = self._destination.found(half) if half is not None else None
        here = found.stat.st_size if found is not None else 0
        return Item(node, name, action, max(0, node.version.size - here))

    async def _link(self, node: Node, top: Node, name: str) -> Item | None:
        """A symlink within the experiment stays one; any other is copied as what it shows, if that is a file.

        Its text names what it leads to in the end, by directories of the experiment alone: none of its words is
        another symlink, so wherever those lead, it leads to a place inside the copy of the experiment.
        """
        try:
            shown = await self._tree.find(node.relative)
        except (NoSuchPath, NotDirectory):
            log.info("%s leads nowhere", name)
            return None
        inside = symlinks.inside(top.path, shown.path)
        if not (inside and self._order.wants(os.fsdecode(posixpath.relpath(shown.path, top.path)), shown)):
            return self._file(shown, name)
        text = os.fsdecode(symlinks.relative(top.path, node.path, shown.path))
        found = self._destination.found(name)
        if found is not None and found.text == text:
            return None
        if found is not None:
            self._writer.check(name, found)
        return Item(node, name, Action.NEW if found is None else Action.REPLACE, 0, text)

    def _fitting(self, items: list[Item]) -> list[Item]:
        """The items that the disk has room for, small ones first; the others failed."""
        free = self._destination.free()
        items, others = fitting(items, lambda item: item.size, free)
        for item in others:
            reason = f"{size(item.size)} do not fit: {self._destination.path} has {size(free)} free"
            self.outcome.failed.append((item.name, reason))
        return items

    # --- copying ------------------------------------------------------------------------------------------------

    async def fetch(self, items: Iterable[Item]) -> None:
        """Copy them, many at a time. What fails is noted in `outcome`; the rest goes on.

        Raises Unreachable when the server cannot be reached any more.
        """
        todo = await asyncio.to_thread(self._make_directories, list(items))
        with fresh_only():
            await each_file(todo, lambda item: item.size, self._bring)
        await asyncio.to_thread(self._pulled.clean, self._destination)

    def _make_directories(self, items: list[Item]) -> list[Item]:
        """Make the directories; returns the files and links to put into them."""
        todo, shut = [], set()
        for item in items:
            if posixpath.dirname(item.name) in shut:
                shut.add(item.name)
            elif item.node.kind is not Kind.DIRECTORY:
                todo.append(item)
            else:
                try:
                    self._writer.directory(item.name, item.node.attributes.mode)
                except (ArtisyncError, OSError) as error:
                    self._failed(item.name, error)
                    shut.add(item.name)
        return todo

    async def _bring(self, item: Item) -> None:
        self.progress.doing = item.name
        try:
            if item.symlink is not None:
                await self._writer.symlink(item.name, item.symlink)
            else:
                await self._bring_file(item)
        except Unreachable:
            raise
        except NoSuchPath:
            log.info("%s is gone from the server", item.name)
        except (ArtisyncError, OSError) as error:
            self._failed(item.name, error)
        else:
            self.outcome.files += 1
            self.progress.files_done += 1

    async def _bring_file(self, item: Item) -> None:
        def wrote(count: int) -> None:
            item.done += count
            self.progress.done += count
            self.outcome.size += count

        async def copy(reader: Reader) -> None:
            self.progress.done -= item.done  # what was fetched of a version that is gone
            item.done = 0
            content = reader.content
            if not await self._tree.lineages.pinned(reader.node):
                self._fetcher.spare(content)  # written once, not twice
            try:
                await self._writer.file(item.name, reader, grow=item.action is Action.GROW, wrote=wrote)
            finally:
                self._fetcher.end_sparing(content, read=False)

        await with_reader(self._tree, self._fetcher, item.node, self._patience, copy)

    def _failed(self, name: str, error: ArtisyncError | OSError) -> None:
        """Note why a name differs from the server's."""
        if isinstance(error, ChangedHere):
            self.outcome.kept.append(name)
        elif isinstance(error, StaleVersion):
            self.outcome.unsettled.append(name)
        elif isinstance(error, TimeoutError):
            self.outcome.failed.append((name, "no answer"))
        elif isinstance(error, OSError):
            self.outcome.failed.append((name, error.strerror or str(error)))
        else:
            self.outcome.failed.append((name, str(error) or error.hint))
