"""Numbers and structures of NFSv3 and MOUNT v3 (RFC 1813). Pure."""

from __future__ import annotations

import errno
import stat
import struct
from enum import IntEnum

from vfs.files.shown import Shown
from vfs.frontends.nfs.xdr import Packer

NFS_PROGRAM, MOUNT_PROGRAM, VERSION = 100003, 100005, 3

MOST_HANDLE = 64
MOST_NAME = 255
MOST_PATH = 1024
MOST_READ = 1 << 20
"""Bytes of one READ."""
MOST_WRITE = 64 << 10
"""Bytes of one WRITE, which is refused."""
MOST_LISTING = 256 << 10
"""Bytes of one answer to READDIR and READDIRPLUS."""


class NfsProcedure(IntEnum):
    """Procedures of program 100003."""

    NULL = 0
    GETATTR = 1
    SETATTR = 2
    LOOKUP = 3
    ACCESS = 4
    READLINK = 5
    READ = 6
    WRITE = 7
    CREATE = 8
    MKDIR = 9
    SYMLINK = 10
    MKNOD = 11
    REMOVE = 12
    RMDIR = 13
    RENAME = 14
    LINK = 15
    READDIR = 16
    READDIRPLUS = 17
    FSSTAT = 18
    FSINFO = 19
    PATHCONF = 20
    COMMIT = 21


class MountProcedure(IntEnum):
    """Procedures of program 100005."""

    NULL = 0
    MNT = 1
    DUMP = 2
    UMNT = 3
    UMNTALL = 4
    EXPORT = 5


class NfsStatus(IntEnum):
    """`nfsstat3`; MOUNT has the same numbers for what it shares."""

    OK = 0
    NOENT = 2
    IO = 5
    ACCES = 13
    NOTDIR = 20
    ISDIR = 21
    INVAL = 22
    ROFS = 30
    NAMETOOLONG = 63
    STALE = 70
    BADHANDLE = 10001
    NOTSUPP = 10004
    TOOSMALL = 10005


STATUS = {
    errno.ENOENT: NfsStatus.NOENT,
    errno.EACCES: NfsStatus.ACCES,
    errno.ENOTDIR: NfsStatus.NOTDIR,
    errno.EISDIR: NfsStatus.ISDIR,
    errno.EINVAL: NfsStatus.INVAL,
    errno.ENAMETOOLONG: NfsStatus.NAMETOOLONG,
    errno.ESTALE: NfsStatus.STALE,
    errno.EOPNOTSUPP: NfsStatus.NOTSUPP,
}
"""By errno; any other is IO. Never JUKEBOX ("later"): clients ask again for ever, also those of a soft mount."""
ERRNOS = {status: number for number, status in STATUS.items()}
"""The other way round, for the log."""

READS, LOOKS, EXECUTES = 0x01, 0x02, 0x20
"""What ACCESS grants (`ACCESS3_READ`, `ACCESS3_LOOKUP`, `ACCESS3_EXECUTE`)."""

SYMLINKS, HOMOGENEOUS = 0x02, 0x08
"""Properties in FSINFO: there are symbolic links; PATHCONF says the same of every file."""

WRITES = frozenset(
    (
        NfsProcedure.SETATTR,
        NfsProcedure.WRITE,
        NfsProcedure.CREATE,
        NfsProcedure.MKDIR,
        NfsProcedure.SYMLINK,
        NfsProcedure.MKNOD,
        NfsProcedure.REMOVE,
        NfsProcedure.RMDIR,
        NfsProcedure.RENAME,
        NfsProcedure.LINK,
        NfsProcedure.COMMIT,
    )
)

FAILURE_WORDS = {NfsProcedure.GETATTR: 0, NfsProcedure.RENAME: 4, NfsProcedure.LINK: 3}
"""Zero words behind the status of a failure: each stands for attributes that are not given. Any other procedure has two if it
writes, and one if it does not."""

_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFBLK: 3,
    stat.S_IFCHR: 4,
    stat.S_IFLNK: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFIFO: 7,
}
_FATTR = struct.Struct(">5IQQIIQQ6I")


def fattr(shown: Shown, *, fsid: int, change: int) -> bytes:
    """`fattr3`. `change`: goes into the nanoseconds of ctime, by which clients tell that something is another."""
    seconds = min(max(int(shown.mtime), 0), 0xFFFFFFFF)
    kind = _TYPES.get(stat.S_IFMT(shown.mode), 1)
    head = kind, stat.S_IMODE(shown.mode), shown.nlink, shown.uid, shown.gid
    times = seconds, 0, seconds, 0, seconds, change % 1_000_000_000
    room = -(-shown.size // 512) * 512
    return _FATTR.pack(*head, shown.size, room, 0, 0, fsid, shown.ino, *times)


def failure(procedure: NfsProcedure, status: NfsStatus) -> Packer:
    """The results of a procedure that failed, without attributes."""
    words = FAILURE_WORDS.get(procedure, 2 if procedure in WRITES else 1)
    return Packer().u32(status, *[0] * words)
