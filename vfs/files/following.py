"""Asks where a symlink on the server leads, and decides how it is shown.

Mostly its text says where: then READLINK and STAT, sent together, are enough. REALPATH is sent only for a symlink that leads
somewhere: some servers crash on a circular one. Its answer is ignored where it only normalises the path's text.
"""

from __future__ import annotations

import asyncio
import posixpath
from typing import NamedTuple

from vfs.base.errors import NoSuchPath, RemoteError, ServerFailure
from vfs.files import symlinks
from vfs.files.node import UNKNOWN, Node
from vfs.remote.api import LONGEST_PATH, MOST_SYMLINKS, Attributes, Remote


class ShownSymlink(NamedTuple):
    """What stands at a symlink's name: a symlink with the text `target`; or what it leads to, which is at `real` and has the
    attributes `followed`. Without `real` there is no symlink any more, but something with those attributes."""

    target: bytes
    followed: Attributes | None = None
    real: bytes | None = None


async def follow(remote: Remote, root: bytes, parent: Node, path: bytes) -> ShownSymlink:
    """Find out what the symlink at `path`, in the directory `parent`, is shown as.

    Raises ServerFailure when that cannot be told just now, and Unreachable.
    """
    text, followed = await asyncio.gather(remote.readlink(path), remote.stat(path), return_exceptions=True)
    for answer in (text, followed):
        if isinstance(answer, ServerFailure) and answer is followed:  # it may well lead somewhere
            raise answer
        if isinstance(answer, BaseException) and not isinstance(answer, RemoteError):
            raise answer
    if isinstance(followed, Attributes):
        directory = _real_directory(root, parent)
        plain = symlinks.plain(directory, text) if directory and isinstance(text, bytes) else None
        if plain is not None and symlinks.inside(root, plain) and plain != path:
            return ShownSymlink(symlinks.relative(root, path, plain))
        if plain is None and directory and isinstance(text, bytes):
            # some servers tidy the text before they look
            real: bytes | None = await resolve(remote, directory, text, root)
        else:
            real = await _real(remote, root, directory, path, text if isinstance(text, bytes) else None)
        if real is None:
            return ShownSymlink(b"", followed)
        if symlinks.inside(root, real):
            return ShownSymlink(symlinks.relative(root, path, real))
        if not _endless(root, parent, real):
            return ShownSymlink(b"", followed, real)
    if not isinstance(text, bytes):
        return ShownSymlink(symlinks.nowhere(root, path, b"unreadable"))
    if isinstance(followed, NoSuchPath) and await _circular(remote, path, text):
        return ShownSymlink(posixpath.basename(path))  # following a symlink to itself is ELOOP
    return ShownSymlink(symlinks.nowhere(root, path, text))


async def _real(
    remote: Remote, root: bytes, directory: bytes | None, path: bytes, text: bytes | None
) -> bytes | None:
    """Where the symlink leads, without symlinks; None if it is no symlink any more."""
    real = await remote.realpath(path)
    if real != path:
        return real
    if text is not None:
        return await resolve(remote, directory or posixpath.dirname(path), text, root)
    return path if (await remote.lstat(path)).is_symlink else None


async def resolve(remote: Remote, directory: bytes, text: bytes, known: bytes = b"") -> bytes:
    """The absolute path that `text` stands for in `directory`, symlinks on the way followed by READLINK.

    `known`: a path that holds no symlink. It is one round trip for each name that is not in it.
    """
    here, todo, hops = directory, _words(text), 0
    if text.startswith(b"/"):
        here = b"/"
    while todo:
        word = todo.pop(0)
        if word == b"..":
            here = posixpath.dirname(here)
            continue
        step = posixpath.join(here, word)
        if (known and symlinks.inside(step, known)) or hops == MOST_SYMLINKS:
            here = step
            continue
        try:
            linked = await remote.readlink(step)
        except RemoteError:
            here = step
            continue
        hops += 1
        todo = _words(linked) + todo
        if linked.startswith(b"/"):
            here = b"/"
    return here


async def without_symlinks(remote: Remote, path: bytes) -> bytes:
    """A path from REALPATH with its symlinks resolved, since some servers only tidy the text."""
    words = _words(path)
    steps = [b"/" + b"/".join(words[:count]) for count in range(1, len(words) + 1)]
    texts = await asyncio.gather(*(remote.readlink(step) for step in steps), return_exceptions=True)
    for text in texts:
        if isinstance(text, BaseException) and not isinstance(text, RemoteError):
            raise text
    return await resolve(remote, b"/", path) if any(isinstance(text, bytes) for text in texts) else path


def _words(path: bytes) -> list[bytes]:
    return [word for word in path.split(b"/") if word not in (b"", b".")]


def _real_directory(root: bytes, parent: Node) -> bytes | None:
    """The directory's path on the server without symlinks; None if it is not known."""
    for node in (parent, *parent.ancestors()):
        if node.follow:
            below = parent.path[len(node.path) :]
            return None if not node.real or node.real == UNKNOWN else node.real + below
    return parent.path


async def _circular(remote: Remote, path: bytes, text: bytes) -> bool:
    """Whether a symlink that cannot be followed leads back to itself or to another such symlink."""
    seen = {path}
    while len(seen) < MOST_SYMLINKS:
        path = symlinks.step(path, text)
        if path in seen:
            return True
        if len(path) > LONGEST_PATH:
            return False
        seen.add(path)
        try:
            text = await remote.readlink(path)
        except RemoteError:
            return False
    return True


def _endless(root: bytes, parent: Node, real: bytes) -> bool:
    """Whether a directory that is shown in place of a symlink would contain itself."""
    nodes = (parent, *parent.ancestors())
    return any(symlinks.inside(real, node.real or (b"\0" if node.parent else root)) for node in nodes)
