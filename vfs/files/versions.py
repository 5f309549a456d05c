"""Which bytes belong to a file node: its lineage, growth or replacement, settled or not.

Owned by the event loop's thread; there are no locks. The namespace tells what the attributes say; here bytes are compared.
"""

from __future__ import annotations

import asyncio
import logging
import math

from vfs import formats
from vfs.base.each import each
from vfs.base.errors import ArtisyncError, NoSuchPath, NotAFile, StaleVersion, Unreachable
from vfs.base.file_version import Change, classify, settled
from vfs.base.loop_time import loop_time
from vfs.base.tasks import SingleFlight
from vfs.fetch.content import Content
from vfs.fetch.fetcher import SINGLE_READ, Fetcher
from vfs.fetch.samples import COMPARE, Sample
from vfs.files.lineages import Lineages
from vfs.files.namespace import Namespace
from vfs.files.node import NEVER, Kind, Node, version_of
from vfs.files.requests import Requests
from vfs.files.resolve import Resolver
from vfs.remote.api import Attributes

log = logging.getLogger(__name__)

SETTLE_POLL = 0.25
"""Seconds between two requests for the attributes of a file that is not settled, while a program waits for it."""
RECHECK_LANES = 16
"""Reads in flight at a time while bytes that programs were given are compared."""
RECHECK_SECONDS = 5.0
"""The longest that a read waits for that comparison, which goes on in the background."""
YOUNG = 60.0
"""Seconds since its last write within which a file is expected to grow while it is open."""
SILENCE_POLL = 0.08
"""Seconds between two looks at whether the server still answers."""


class Versions:
    """The contents of file nodes."""

    def __init__(
        self,
        names: Namespace,
        requests: Requests,
        resolver: Resolver,
        fetcher: Fetcher,
        lineages: Lineages,
    ) -> None:
        self.names = names
        self.requests = requests
        self.resolver = resolver
        self.fetcher = fetcher
        self.lineages = lineages
        self.patience = 15.0
        """Seconds that an open waits for a file that is being written: half of what one operation may take, because
        the kernel opens once more when it is told that the file is stale."""
        self._tasks: SingleFlight[tuple[str, Node]] = SingleFlight()

    # --- what the namespace tells -------------------------------------------------------------------------------

    def has_bytes(self, node: Node) -> bool:
        """Whether programs may have been given bytes of the file: then growth must be verified."""
        return node.content is not None and bool(node.content.held)

    def adopt(self, node: Node, attributes: Attributes, at: float) -> None:
        """The file has grown to `attributes`: the same lineage, a new version."""
        node.attributes, node.pending = attributes, None
        node.checked, node.since = at, loop_time()
        node.settled = False
        content = node.content
        if content is None or not content.held:
            node.resized = True
        if content is not None:
            content.version = version_of(attributes)
            content.trusted = content.append_only
            content.foreign = False
            self.fetcher.handles.reopen(content)
            if not content.held:
                self.fetcher.void(content)
            self.lineages.remember(node)

    def confirmed(self, node: Node) -> None:
        """The server said once more that the node has these attributes: perhaps they are settled now."""
        clock = self.fetcher.remote.link.past
        if not node.settled and settled(node.version, node.checked - node.since, clock):
            self._settle(node)

    def _settle(self, node: Node) -> None:
        """The node's version is settled: bytes fetched from now on are this version's for good."""
        node.settled = True
        content = node.content
        if content is not None and content.doubts:
            if not self.requests.silent():
                self._start_recheck(node, content)
        elif content is not None and not content.trusted:
            self.fetcher.handles.reopen(content)  # another file may have been renamed into place since
            self._trust(node, content)

    def _trust(self, node: Node, content: Content) -> None:
        """The cached bytes belong to the content's version for good."""
        content.trusted = True
        self.fetcher.persist(content)
        self.lineages.remember(node)

    def retire(self, node: Node) -> None:
        """The node's version is gone."""
        content = node.content
        if content is not None:
            content.stale = True
            self.fetcher.handles.reopen(content)
            self.lineages.drop(content)

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, node: Node, heard: float | None) -> None:
        """Ask what a node's path stands for now, and of a file that grew, whether it is the same one.

        `heard`: the time of the last answer, which is used if the server is silent. Raises Unreachable, RemoteError.
        """
        await self.requests.ask(("node", node.path), lambda: self._ask(node), heard=heard)

    def ask_soon(self, node: Node) -> None:
        """As `ask`, in the background."""
        self.requests.start(("node", node.path), lambda: self._ask(node))

    async def _ask(self, node: Node) -> None:
        at = loop_time()
        if node.pending is None:
            try:
                await self.resolver.node(node)
            except NoSuchPath:
                if node.parent is None:
                    raise
                self.names.remove(node)
                return
        if node.pending is not None and not node.stale:
            await self.verify(node, at)

    async def verify(self, node: Node, at: float) -> None:
        """Tell by the bytes whether `node.pending` is growth; adopts it, or replaces the node."""
        # it goes on when the waiter gives up
        await asyncio.shield(self._tasks.start(("verify", node), lambda: self._verify(node, at)))

    async def _verify(self, node: Node, at: float) -> None:
        content, pending = node.content, node.pending
        if content is None or pending is None or node.stale:
            return
        clock = self.fetcher.remote.link.past
        try:
            alike, attributes = await self.fetcher.compare(content)
        except (NoSuchPath, NotAFile):
            self.names.remove(node)
            return
        if node.stale:
            return
        if attributes is None:  # no program was given a byte, so none can be mixed with the new ones
            content.held.clear()
            self.lineages.drop(content)
            self.adopt(node, pending, node.checked)
        elif not alike or classify(node.version, version_of(attributes)) is Change.REPLACED:
            self.names.replace(node, attributes, at)
        elif version_of(attributes) == node.version:
            node.pending, node.checked = None, at
        else:
            self.adopt(node, attributes, at)
            if settled(node.version, 0.0, clock):
                self._settle(node)
            else:
                content.doubt_growth()

    async def moved(self, node: Node, attributes: Attributes, at: float) -> None:
        """A request of the time `at` found the file with other attributes than the node's.

        Raises StaleVersion unless it has grown.
        """
        if node.stale or node.parent is None:
            raise StaleVersion(f"{node.path!r} was replaced")
        if version_of(attributes) != node.version:
            self.names.observe_node(node, attributes, at)
        if node.pending is not None and not node.stale:
            await self.verify(node, at)
        if node.stale:
            raise StaleVersion(f"{node.path!r} was replaced")

    # --- opening --------------------------------------------------------------------------------------------------

    def open_early(self, node: Node) -> None:
        """Open a file on the server that a program looks up, and may open next. Tried once for each node.

        Only if the server has told its kind in this session: a FIFO would block the server's process.
        """
        told = node.checked > NEVER
        if told and node.content is None and not node.opened_early and node.version.size > 0:
            node.opened_early = True
            self.fetcher.handles.open_early(node.path)

    async def open_ahead(self, node: Node) -> Content | None:
        """As `open`, ahead of a program; None when that fails."""
        try:
            return await self.open(node)
        except (ArtisyncError, TimeoutError) as error:
            log.debug("cannot fetch %r ahead: %s", node.path, error)
            return None

    async def open(self, node: Node) -> Content:
        """The content behind a file node, fit to be read.

        Waits until a file that is being rewritten is settled. Raises StaleVersion when it never is, and when the node
        is not, or no longer, what the name stands for; RemoteError and Unreachable as the remote does.
        """
        try:
            return await self._open(node)
        except NotAFile as error:
            self.names.remove(node)
            raise StaleVersion(f"{node.path!r} was replaced") from error

    async def _open(self, node: Node) -> Content:
        end = loop_time() + self.patience
        content = await self.lineages.of(node)
        if not content.held and content.version.size > 0:
            attributes, at = await self.fetcher.open(content)
            if version_of(attributes) != content.version and at <= node.checked:
                self.fetcher.handles.reopen(content)  # opened early, and replaced since
                attributes, at = await self.fetcher.open(content)
            if version_of(attributes) != content.version:
                await self.moved(node, attributes, at)
            else:
                self.names.observe_node(node, attributes, at)
        if node.stale or not self.at_once(content):
            await self.settle_name(node, end - loop_time())
        await self.rechecked(node)
        if node.stale:
            raise StaleVersion(f"{node.path!r} was replaced")
        if not content.held:
            self._fetch_ends(content)
        return content

    def _fetch_ends(self, content: Content) -> None:
        """Fetch the ends of a file that may grow while it is open: they tell growth from a rewrite."""
        size, past = content.version.size, self.fetcher.remote.link.past
        young = past is not None and content.version.mtime > past - YOUNG
        if young and size > SINGLE_READ and not content.append_only:
            ends = [(0, COMPARE), (size - COMPARE, size)]
            self.fetcher.ahead(("ends", content.lineage), content, ends, hint=True)

    def at_once(self, content: Content) -> bool:
        """Whether bytes may be given out before the file is settled."""
        known = content.trusted or content.append_only or bool(content.held)
        return known or content.version.size <= SINGLE_READ

    async def settle_name(self, node: Node, patience: float = math.inf, *, small: bool = False) -> None:
        """Wait, for `patience` seconds, until what the node's name stands for is settled, or only appended to.

        `small`: also while it is a file that one read brings whole. Raises StaleVersion when that is another node, or
        never comes to rest; TimeoutError when the server is silent at the end.
        """
        parent = node.parent
        assert parent is not None
        end = loop_time() + patience
        while True:
            current = parent.children.get(node.name)
            if current is None or current.stale or current.kind is not Kind.FILE or current.settled:
                break
            if formats.append_only(current.name) or (current.version.size <= SINGLE_READ and not small):
                break
            left = end - loop_time()
            if left <= 0:
                raise StaleVersion(f"{node.path!r} is written again and again")
            await asyncio.sleep(min(SETTLE_POLL, left))
            try:
                async with asyncio.timeout_at(end if end < math.inf else None):
                    await self.ask(current, None)
            except TimeoutError:
                if self.requests.silent():
                    raise
        if current is not node or node.stale:
            raise StaleVersion(f"{node.path!r} was replaced")

    async def recheck(self, node: Node) -> None:
        """Once a file is settled, compare the bytes given out before; if they differ, it was replaced.

        Raises StaleVersion when it changed meanwhile and did not grow; else as the remote does.
        """
        content = node.content
        if content is not None and self._due(node, content):
            await asyncio.shield(self._start_recheck(node, content))

    async def rechecked(self, node: Node) -> bool:
        """As `recheck`, for RECHECK_SECONDS at most. False: the server does not answer; bytes given out before may be given again."""
        content = node.content
        if content is None or not self._due(node, content):
            return True
        if not self.fetcher.remote.link.online:
            return False
        task = self._start_recheck(node, content)
        end = loop_time() + RECHECK_SECONDS
        while not task.done():
            left = end - loop_time()
            if left <= 0:
                return True
            await asyncio.wait({task}, timeout=min(SILENCE_POLL, left))
            if not task.done() and self.requests.silent():
                return False
        try:
            task.result()
        except Unreachable:
            return False
        return True

    def _due(self, node: Node, content: Content) -> bool:
        """Whether there are bytes to compare, and the result would hold."""
        return bool(content.doubts) and (node.settled or content.foreign) and not node.stale

    def _start_recheck(self, node: Node, content: Content) -> asyncio.Task[None]:
        return self._tasks.start(("recheck", node), lambda: self._recheck(node, content))

    async def _recheck(self, node: Node, content: Content) -> None:
        version = content.version
        self.fetcher.handles.reopen(content)  # another file may have been renamed into place since

        async def again(group: list[Sample]) -> None:
            if content.version == version and not node.stale:
                await self._compare_again(node, content, group)

        await each(list(content.doubts.groups()), again, RECHECK_LANES)
        if content.version == version and not node.stale and not content.doubts:
            content.foreign = False
            if node.settled or content.append_only:
                self._trust(node, content)
            else:
                content.doubt_growth()

    async def _compare_again(self, node: Node, content: Content, group: list[Sample]) -> None:
        version, start, end = content.version, group[0].start, max(sample.end for sample in group)
        buffer, at = memoryview(bytearray(end - start)), loop_time()
        try:
            count, attributes = await self.fetcher.read_past_cache(content, start, buffer)
        except (NoSuchPath, NotAFile):
            self.names.remove(node)
            return
        if version_of(attributes) != version:
            await self.moved(node, attributes, at)
        if content.version != version or node.stale:
            return
        if count == len(buffer) and all(sample.matches(buffer, start) for sample in group):
            content.doubts.settle(group)
        else:
            self.names.replace(node, node.attributes, node.checked)

    async def aclose(self) -> None:
        """End what is in flight."""
        await self._tasks.aclose()
