"""The server's files for programs that read through fsspec (pandas, pyarrow, Dask, …), where nothing can be mounted.

    fsspec.open("artisync://exp-1/checkpoints/best_model.pt")

Reads as the mount does, through the same tree, readers and cache, and keeps the same promises. Thread-safe; a pickled
filesystem carries its options, and every process opens a stack of its own.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from posixpath import normpath
from typing import Any, NoReturn, TypeVar

from fsspec.spec import AbstractFileSystem

from vfs.base import calls
from vfs.base.calls import Call
from vfs.base.errnos import errno_of
from vfs.base.errors import ArtisyncError, ConfigError, RemoteError, StaleVersion, UsageError
from vfs.base.settings import resolve
from vfs.files.read_whole import CHUNK
from vfs.files.reader import Piece, Reader
from vfs.frontends.fsspec import browse, stacks
from vfs.stack import Stack

T = TypeVar("T")

OPTIONS = (
    "profile",
    "ssh",
    "remote_root",
    "cache_dir",
    "cache_size",
    "timeout",
    "ttl",
    "transport",
    "accept_new_host_key",
)
"""Storage options, by their names in `resolve`."""
OPTIONS_OF_FSSPEC = {
    *("use_listings_cache", "listings_expiry_time", "max_paths"),
    *("asynchronous", "loop", "batch_size", "skip_instance_cache"),
}
"""What fsspec and programs (zarr) give to any file system. Without effect: listings are as fresh as in the mount."""
BUFFER = 128 << 10
"""Bytes that a small read asks for, as the kernel does above the mount."""

_ABSENT = (FileNotFoundError, NotADirectoryError)


class ArtisyncFileSystem(AbstractFileSystem):  # type: ignore[misc,unused-ignore]
    """The directory of artifacts on a server, read-only; paths are relative to it: `exp-1/checkpoints/best_model.pt`.

    Storage options are those of the commands: see `OPTIONS`; without any the profile `default` answers. Raises
    ValueError for those that cannot be used. Failures are OSErrors: FileNotFoundError, PermissionError, TimeoutError,
    EHOSTUNREACH when the server cannot be reached, ESTALE for an open file whose version is gone, EROFS for writing.
    """

    protocol = "artisync"
    root_marker = ""

    def __init__(self, **options: Any) -> None:
        self._options = {name: options.pop(name) for name in OPTIONS if name in options}
        if unknown := sorted(options.keys() - OPTIONS_OF_FSSPEC):
            raise ValueError(f"artisync has no option {unknown[0]!r}; there are {', '.join(OPTIONS)}")
        super().__init__(**options)
        try:
            resolve(self._options)
        except (ConfigError, UsageError) as error:
            raise ValueError(f"{error}. {error.hint}") from error

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return normpath(f"/{stripped}").lstrip("/") if isinstance(stripped, str) else stripped

    # --- names ------------------------------------------------------------------------------------------------------

    def info(self, path: str, **kwargs: Any) -> browse.Info:
        """Its name, size (bytes), type, mtime (seconds since the epoch), mode and ino; symlinks are followed."""
        path = self._strip_protocol(path)
        return self._ask("info", path, lambda stack: browse.info(stack.files, path))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory. A symlink to a file is shown as the file, any other as a "link", as fsspec calls it."""
        path = self._strip_protocol(path)
        infos = self._ask("list", path, lambda stack: browse.listing(stack.files, path))
        return infos if detail else [info["name"] for info in infos]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """All files below a path, many directories listed at a time. Directories behind symlinks are not entered."""
        path = self._strip_protocol(path)
        infos = self._ask(
            "find", path, lambda stack: browse.below(stack.files, path, maxdepth), bounded=False
        )
        shown = {
            info["name"]: info
            for info in sorted(infos, key=lambda info: info["name"])
            if info["type"] != "directory" or (withdirs and info["name"])
        }
        return shown if detail else list(shown)

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **kwargs: Any,
    ) -> Iterator[Any]:
        """As the base class has it, but a server that cannot be asked is no empty directory: then it raises."""

        def failed(error: OSError) -> None:
            if on_error == "raise" or not isinstance(error, (*_ABSENT, PermissionError)):
                raise error
            if callable(on_error):
                on_error(error)

        walk: Iterator[Any] = super().walk(path, maxdepth, topdown, failed, **kwargs)
        return walk

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Raises OSError when the server cannot be asked: unreachable is not gone."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except _ABSENT:
            return None

    def modified(self, path: str) -> datetime:
        """When it was last written, by the server's clock."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    # --- bytes ------------------------------------------------------------------------------------------------------

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> ArtisyncFile:
        if mode != "rb":
            self._read_only(path)
        return ArtisyncFile(self, path, block_size or BUFFER)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """A file, or a slice of it, in one version."""
        (part,) = self.cat_ranges([path], start, end, on_error="raise")
        return bytes(part)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: Any = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Parts of files, fetched all at once, each of one version. Gaps between them are our own business."""
        starts, ends = (each if isinstance(each, list) else [each] * len(paths) for each in (starts, ends))
        spans = list(zip(map(self._strip_protocol, paths), starts, ends, strict=True))
        parts = self._ask(
            "cat",
            " ".join(path for path, _, _ in spans[:3]),
            lambda stack: browse.parts(stack.files, spans),
            bounded=False,
            files=len(paths),
        )
        for number, (path, _, _) in enumerate(spans):
            if isinstance(parts[number], BaseException):
                parts[number] = _os_error(parts[number], path)
                if on_error == "raise":
                    raise parts[number]
        return parts

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """One file's bytes, or those of many by path, fetched all at once."""
        paths = self.expand_path(path, recursive=recursive)
        if isinstance(path, str) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0])
        if recursive:
            paths = [name for name in paths if not self.isdir(name)]
        parts = self.cat_ranges(paths, None, None, on_error="raise" if on_error == "raise" else "return")
        found = zip(paths, parts, strict=True)
        return {name: part for name, part in found if on_error != "omit" or not isinstance(part, OSError)}

    def _read_only(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = mv = touch = put_file = pipe_file = _read_only

    def _ask(
        self,
        operation: str,
        path: str,
        work: Callable[[Stack], Coroutine[Any, Any, T]],
        *,
        bounded: bool = True,
        **details: object,
    ) -> T:
        """What `work` answers; its failure as an OSError. It is logged as `operation` with `details`.

        `bounded`: within the timeout once there is a connection.
        """

        async def answer(stack: Stack) -> T:
            call = Call(operation, None, path=os.fsencode(path), **details)
            return await calls.answer(call, stack.files.timeout if bounded else None, work(stack))

        try:
            return stacks.of_this_process().run(self._options, answer)
        except (ArtisyncError, OSError) as error:
            raise _os_error(error, path) from error


class ArtisyncFile(io.BufferedReader):
    """An open file: one version, and bytes appended to it. Raises OSError(ESTALE) once that version is gone."""

    def __init__(self, fs: ArtisyncFileSystem, path: str, buffer_size: int) -> None:
        self.fs = fs
        self.path = path
        self._file = _RawFile(
            fs, path, fs._ask("open", path, lambda stack: browse.open_file(stack.files, path))
        )
        super().__init__(self._file, buffer_size)

    @property
    def size(self) -> int:
        """Bytes; it only grows."""
        return self._file.reader.size


class _RawFile(io.RawIOBase):
    """Without a buffer. The reader is used on the loop's thread; bytes are copied on the caller's."""

    mode = "rb"

    def __init__(self, fs: ArtisyncFileSystem, path: str, reader: Reader) -> None:
        self.name = path
        self.reader = reader
        self._fs = fs
        self._home = stacks.of_this_process()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + (0, self._position, self.reader.size)[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        view, count = memoryview(buffer), 0
        for block, a, b in self._read(len(view)):
            view[count : count + b - a] = block.view(a, b)
            count += b - a
        return count

    def readall(self) -> bytes:
        whole = io.BytesIO()
        while pieces := self._read(CHUNK):
            whole.writelines(block.view(a, b) for block, a, b in pieces)
        return whole.getvalue()

    def close(self) -> None:
        if not self.closed:
            self._home.soon(self.reader.close)
        super().close()

    def _read(self, length: int) -> list[Piece]:
        """The next bytes, some MiB at most; none at the end."""

        async def read(stack: Stack) -> list[Piece]:
            if self._home is not stacks.of_this_process():
                await self._open_again(stack)
            return await stack.files.read_latest(self.reader, self._position, min(length, CHUNK))

        pieces = self._fs._ask("read", self.name, read, off=self._position, len=length)
        self._position += sum(b - a for _, a, b in pieces)
        return pieces

    async def _open_again(self, stack: Stack) -> None:
        """In a forked child: the same version, from a stack of its own."""
        reader = await browse.open_file(stack.files, self.name)
        if reader.content.version != self.reader.content.version:
            reader.close()
            raise StaleVersion(f"{self.name!r} is another version than before the fork")
        self._home, self.reader = stacks.of_this_process(), reader


def _os_error(error: BaseException, path: str) -> OSError:
    """The OSError, of the right subclass, that stands for `error`."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    number = errno_of(error)
    if isinstance(error, ArtisyncError) and not isinstance(error, RemoteError):
        return OSError(number, f"{error}. {error.hint}", path)
    return OSError(number, os.strerror(number), path)
