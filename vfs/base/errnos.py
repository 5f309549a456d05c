"""The one table of exceptions and errnos: what each failure is to a program that reads through the mount or fsspec."""

from __future__ import annotations

import errno

from vfs.base import errors

ERRNOS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.EndlessSymlink, errno.ELOOP),
    (errors.NoSuchPath, errno.ENOENT),
    (errors.AccessDenied, errno.EACCES),
    (errors.NotDirectory, errno.ENOTDIR),
    (errors.NotAFile, errno.ESTALE),
    (errors.NameTooLong, errno.ENAMETOOLONG),
    (errors.Unsupported, errno.EOPNOTSUPP),
    (errors.StaleVersion, errno.ESTALE),
    (errors.Unreachable, errno.EHOSTUNREACH),
    (errors.UnknownHost, errno.EHOSTUNREACH),
    (errors.Refused, errno.EHOSTUNREACH),
    (errors.NoAnswer, errno.EHOSTUNREACH),
    (errors.HungUp, errno.EHOSTUNREACH),
    (errors.AuthRejected, errno.EACCES),
    (TimeoutError, errno.ETIMEDOUT),
)
"""The first class that fits; any other failure is EIO."""


def errno_of(error: BaseException) -> int:
    """The errno that stands for `error`."""
    for kind, number in ERRNOS:
        if isinstance(error, kind):
            return number
    return errno.EIO
