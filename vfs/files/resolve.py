"""Asks the server what one name stands for, symlinks included, and enters the answer into the namespace.

Requests here are not single-flight; the callers make them so.
"""

from __future__ import annotations

from vfs.base.errors import NameTooLong, NoSuchPath, NotDirectory, ServerFailure
from vfs.base.loop_time import loop_time
from vfs.files.following import follow
from vfs.files.namespace import Namespace, join
from vfs.files.node import Kind, Node
from vfs.remote.api import Attributes, Remote


class Resolver:
    """Asks `remote`, and enters what it says into `names`."""

    def __init__(self, names: Namespace, remote: Remote) -> None:
        self._names = names
        self._remote = remote

    async def node(self, node: Node) -> None:
        """Ask for a node's attributes. Raises NoSuchPath, ServerFailure, Unreachable; NotDirectory of the root."""
        at = loop_time()
        if node.parent is None:
            node.attributes, node.checked = await self._remote.stat(node.path), at
            if not node.attributes.is_dir:
                raise NotDirectory(f"{node.path!r}")
        elif node.kind is Kind.SYMLINK or node.follow:
            await self.name(node.parent, node.name)
        else:
            attributes = await self._remote.lstat(node.path)
            if attributes.is_symlink:
                await self.symlink(node.parent, node.name, attributes, at)
            else:
                self._names.observe_node(node, attributes, at)

    async def name(self, parent: Node, name: bytes) -> None:
        """Ask what a name stands for. Raises NoSuchPath, NameTooLong, ServerFailure, Unreachable."""
        at = loop_time()
        try:
            attributes = await self._remote.lstat(join(parent.path, name))
        except ServerFailure:  # SFTP has no word for a name that is too long
            system = await self._remote.statvfs(parent.path)
            if system is not None and 0 < system.f_namemax < len(name):
                raise NameTooLong(f"{name!r} on a file system of {system.f_namemax}") from None
            raise
        except NoSuchPath:
            child = parent.children.get(name)
            if child is not None and child.checked <= at:
                self._names.remove(child)
            parent.lacks = name, at
            raise
        if attributes.is_symlink:
            await self.symlink(parent, name, attributes, at)
        else:
            self._names.observe(parent, name, attributes, at)

    async def symlink(self, parent: Node, name: bytes, attributes: Attributes, at: float) -> None:
        """Ask where a symlink leads, and enter what it is shown as. Raises ServerFailure if that fails just now."""
        shown = await follow(self._remote, self._names.root.path, parent, join(parent.path, name))
        what = attributes if shown.followed is None else shown.followed
        self._names.observe(parent, name, what, at, target=shown.target, real=shown.real)
