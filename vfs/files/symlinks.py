"""What a symbolic link from the server is shown as. Pure.

Nothing that the server says may make a program follow a path out of the mount: a symlink to a place inside the root
becomes a relative symlink; one that leaves it is shown as what it points to (read over SFTP), and one that leads nowhere
stays a symlink whose text cannot resolve to anything outside.
"""

from __future__ import annotations

import posixpath

NOWHERE = b".artisync-no-such-target"
"""A name that no server directory is expected to have; a dangling symlink's text goes through it."""


def inside(root: bytes, path: bytes) -> bool:
    """Whether the normalised absolute `path` is `root` or below it."""
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def relative(root: bytes, symlink: bytes, target: bytes) -> bytes:
    """The text of a symlink at `symlink` that leads to `target`; both are absolute, real, and inside `root`."""
    assert inside(root, symlink)
    assert inside(root, target)
    return posixpath.relpath(target, posixpath.dirname(symlink))


def plain(directory: bytes, text: bytes) -> bytes | None:
    """The absolute path that a symlink's text names in the real `directory`, whatever is a symlink on the way.

    None where symlinks on the way matter: `..` behind one leads to the parent of its target.
    """
    words = [word for word in text.split(b"/") if word not in (b"", b".")]
    ups = 0
    while ups < len(words) and words[ups] == b"..":
        ups += 1
    if not words or b".." in words[ups:]:
        return None
    return posixpath.normpath(posixpath.join(directory, text)).replace(b"//", b"/")


def nowhere(root: bytes, symlink: bytes, target: bytes) -> bytes:
    """The text of a symlink that dangles: it resolves inside the mount only, to a name that is not there."""
    up = posixpath.relpath(root, posixpath.dirname(symlink))
    words = [word for word in target.split(b"/") if word not in (b"", b".", b"..")]
    return b"/".join([up, NOWHERE, *words])[:4095]


def step(symlink: bytes, target: bytes) -> bytes:
    """The path that the text `target` of a symlink at the absolute path `symlink` names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(symlink), target))
