"""Which lineage a file's bytes belong to: the one that the cache remembers for its path, if it still fits; else a new one.

Pins belong to paths, and go over to the lineage that is there.
"""

from __future__ import annotations

import asyncio
import os

from vfs import formats
from vfs.base.file_version import Change, classify
from vfs.base.tasks import SingleFlight
from vfs.cache.blocks import BlockCache
from vfs.cache.records import lineage_pin
from vfs.fetch.content import Content
from vfs.fetch.fetcher import Fetcher
from vfs.files.node import Node, version_of
from vfs.files.records import FileRecord, file_key, pin_key
from vfs.files.requests import Requests


class Lineages:
    """Finds and remembers contents. `identity` names the tree in the cache."""

    def __init__(self, requests: Requests, fetcher: Fetcher, cache: BlockCache, identity: str) -> None:
        self.identity = identity
        self.host = ""
        """The host that answers now; bytes that came from another one are compared before they are trusted."""
        self._requests = requests
        self._fetcher = fetcher
        self._cache = cache
        self._finding: SingleFlight[Node] = SingleFlight()

    async def of(self, node: Node) -> Content:
        """The content of a file node, kept in the node. Raises as the remote does where bytes have to be compared."""
        if node.content is None:
            # it goes on when the waiter gives up
            await asyncio.shield(self._finding.start(node, lambda: self._find(node)))
        assert node.content is not None
        return node.content

    async def known(self, node: Node) -> Content | None:
        """The content of a file if this or an earlier mount made one. Sends no request."""
        if node.content is None:
            record = FileRecord.load(await self._cache.get_record(self._key(node)))
            if record is None or record.version != node.version or record.host != self.host:
                return None
        return await self.of(node)

    async def _find(self, node: Node) -> None:
        append_only = formats.append_only(node.name)
        pin = self._pin_key(node)
        data, pinned = await asyncio.gather(
            self._cache.get_record(self._key(node)), self._cache.get_record(pin)
        )
        record = FileRecord.load(data)
        if record is not None:
            change = classify(record.version, node.version)
            if change is not Change.REPLACED:
                content = Content(node.path, record.lineage, record.version, append_only, trusted=True)
                content.on_disk = set(await self._cache.index(record.lineage))
                content.held = set(content.on_disk)
                self._fetcher.disk.note_memory(content)
                if pinned is not None and await self._cache.get_record(lineage_pin(record.lineage)) is None:
                    self._pin(record.lineage, pin)
                if change is Change.SAME and record.host == self.host:
                    node.content = content
                    return
                if change is Change.SAME and self._requests.silent():
                    await self._fetcher.disk.note_ends(content)
                    self._borrow(node, content)
                    return
                alike, attributes = await self._fetcher.compare(content)
                now = version_of(attributes) if attributes is not None else None
                if alike and now is not None and classify(node.version, now) is not Change.REPLACED:
                    content.version = node.version
                    content.trusted = append_only or (node.settled and now == node.version)
                    node.content = content
                    content.doubt_growth()
                    self.remember(node)
                    return
                self._fetcher.handles.reopen(content)
            self._cache.drop(record.lineage)
            self._cache.disk.set_record(lineage_pin(record.lineage), None)
        lineage = os.urandom(16)
        if pinned is not None:
            self._pin(lineage, pin)
        node.content = Content(node.path, lineage, node.version, append_only, append_only or node.settled)
        self.remember(node)

    def _borrow(self, node: Node, content: Content) -> None:
        """Show bytes of another host while no server answers; they are compared before any is added."""
        content.trusted, content.foreign = False, True
        content.doubts.add_samples(content.ends.samples())
        node.content = content

    def remember(self, node: Node) -> None:
        """Note for later mounts that the node's content has its version, once that is certain."""
        content = node.content
        if content is not None and content.trusted:
            record = FileRecord(content.lineage, content.version, self.host, node.relative)
            self._cache.disk.set_record(self._key(node), record.dump())

    def drop(self, content: Content) -> None:
        """Forget the cached bytes of a content: no version that is there has them."""
        self._cache.drop(content.lineage)

    def _key(self, node: Node) -> str:
        return file_key(self.identity, node.path)

    # --- pins -------------------------------------------------------------------------------------------------------

    def pin(self, node: Node, content: Content) -> None:
        """Keep whatever is at the node's path from eviction; `content` is there now."""
        key = self._pin_key(node)
        self._cache.disk.set_record(key, node.relative)
        self._pin(content.lineage, key)

    async def pinned(self, node: Node) -> bool:
        """Whether any process has pinned the node's path. Sends no request."""
        return await self._cache.get_record(self._pin_key(node)) is not None

    def _pin(self, lineage: bytes, path_pin: str) -> None:
        self._cache.disk.set_record(lineage_pin(lineage), path_pin.encode(errors="surrogatepass"))

    def _pin_key(self, node: Node) -> str:
        return pin_key(self.identity, node.relative)

    async def aclose(self) -> None:
        """Cancel what is in flight."""
        await self._finding.aclose()
