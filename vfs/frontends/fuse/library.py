"""libfuse 3, as mfusepy loads it: the prototypes and structures of its low-level API.

Sources: libfuse's `fuse_lowlevel.h`, `fuse_common.h` and `fuse_log.h`, versions 3.10 to 3.17. Importing this module loads
the library and compares the structures with it; FuseMissing says what does not fit. No call here waits for the kernel,
except those for which `waiting` is used. Untested on macOS, where mfusepy 3 takes no libfuse 3 yet.
"""

from __future__ import annotations

import collections
import ctypes as C  # noqa: N812
import logging
import os
import struct
import sys
from typing import Any

from vfs.base.errors import FuseMissing

log = logging.getLogger(__name__)


def _import_mfusepy() -> Any:
    # where libfuse 2 is installed too, mfusepy would load that one
    choose = sys.platform == "linux" and not {"FUSE_LIBRARY_NAME", "FUSE_LIBRARY_PATH"} & os.environ.keys()
    if choose:
        os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    try:
        import mfusepy
    except OSError as error:
        raise FuseMissing(f"libfuse 3 cannot be loaded: {error}") from error
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise FuseMissing(f"unknown libfuse: {error}") from error
    finally:
        if choose:
            del os.environ["FUSE_LIBRARY_NAME"]
    return mfusepy


def check_version(major: int, minor: int) -> None:
    """Raise FuseMissing unless libfuse `major`.`minor` has the interface that is declared here."""
    if major != 3:
        raise FuseMissing(f"libfuse {major} was found, and libfuse 3 is needed")
    if minor < 10:
        raise FuseMissing(f"libfuse 3.{minor} was found, and 3.10 or newer is needed")


_mfusepy = _import_mfusepy()
VERSION: tuple[int, int] = (_mfusepy.fuse_version_major, _mfusepy.fuse_version_minor)
check_version(*VERSION)

Stat: Any = _mfusepy.c_stat
StatVfs: Any = _mfusepy.c_statvfs
FileInfo: Any = _mfusepy.fuse_file_info
ConnInfo: Any = _mfusepy.fuse_conn_info

P = C.c_void_p
NODEID = C.c_uint64


class Args(C.Structure):
    """struct fuse_args"""

    _fields_ = (("argc", C.c_int), ("argv", C.POINTER(C.c_char_p)), ("allocated", C.c_int))


class EntryParam(C.Structure):
    """struct fuse_entry_param"""

    _fields_ = (
        ("ino", C.c_uint64),
        ("generation", C.c_uint64),
        ("attr", Stat),
        ("attr_timeout", C.c_double),
        ("entry_timeout", C.c_double),
    )


class Context(C.Structure):
    """struct fuse_ctx"""

    _fields_ = (("uid", C.c_uint), ("gid", C.c_uint), ("pid", C.c_int), ("umask", C.c_uint))


class RequestBuffer(C.Structure):
    """struct fuse_buf, with room for what newer versions append."""

    _fields_ = (
        ("size", C.c_size_t),
        ("flags", C.c_int),
        ("mem", P),
        ("fd", C.c_int),
        ("pos", C.c_int64),
        ("reserved", C.c_uint64 * 8),
    )


class LibraryVersion(C.Structure):
    """struct libfuse_version, since 3.17"""

    _fields_ = (("major", C.c_uint), ("minor", C.c_uint), ("hotfix", C.c_uint), ("padding", C.c_uint))


OPERATIONS = (  # noqa: SIM905 # struct fuse_lowlevel_ops, in order
    "init destroy lookup forget getattr setattr readlink mknod mkdir unlink rmdir symlink rename link open read "
    "write flush release fsync opendir readdir releasedir fsyncdir statfs setxattr getxattr listxattr removexattr "
    "access create getlk setlk bmap ioctl poll write_buf retrieve_reply forget_multi flock fallocate readdirplus "
    "copy_file_range lseek"
).split()


class Callbacks(C.Structure):
    """struct fuse_lowlevel_ops; its size is told to libfuse, so that newer members count as absent."""

    _fields_ = tuple((name, P) for name in OPERATIONS)


class ForgetData(C.Structure):
    """struct fuse_forget_data"""

    _fields_ = (("ino", C.c_uint64), ("nlookup", C.c_uint64))


INTERRUPT = C.CFUNCTYPE(None, P, P)
LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, P)

_shared = _mfusepy._libfuse
lib: Any = C.PyDLL(_shared._name, handle=_shared._handle)
"""Calls that never wait. They keep the interpreter's lock: to get it back from a busy thread may take 5 ms each time."""
waiting: Any = C.CDLL(_shared._name, handle=_shared._handle)
"""Calls that wait for the kernel, for another process or for a lock, or copy much; other threads run meanwhile."""

for _library, _name, _restype, _argtypes in (
    (lib, "fuse_session_new", P, [P, P, C.c_size_t, P]),
    (waiting, "fuse_session_mount", C.c_int, [P, C.c_char_p]),
    (lib, "fuse_session_fd", C.c_int, [P]),
    (lib, "fuse_session_receive_buf", C.c_int, [P, P]),
    (lib, "fuse_session_process_buf", None, [P, P]),
    (lib, "fuse_lowlevel_notify_inval_inode", C.c_int, [P, C.c_uint64, C.c_int64, C.c_int64]),
    (waiting, "fuse_session_unmount", None, [P]),
    (waiting, "fuse_session_destroy", None, [P]),
    (lib, "fuse_reply_err", C.c_int, [P, C.c_int]),
    (lib, "fuse_reply_none", None, [P]),
    (lib, "fuse_reply_entry", C.c_int, [P, P]),
    (lib, "fuse_reply_attr", C.c_int, [P, P, C.c_double]),
    (lib, "fuse_reply_readlink", C.c_int, [P, C.c_char_p]),
    (lib, "fuse_reply_open", C.c_int, [P, P]),
    (lib, "fuse_reply_buf", C.c_int, [P, P, C.c_size_t]),
    (lib, "fuse_reply_iov", C.c_int, [P, P, C.c_int]),
    (waiting, "fuse_reply_buf", C.c_int, [P, P, C.c_size_t]),
    (waiting, "fuse_reply_iov", C.c_int, [P, P, C.c_int]),
    (lib, "fuse_reply_statfs", C.c_int, [P, P]),
    (lib, "fuse_reply_xattr", C.c_int, [P, C.c_size_t]),
    (lib, "fuse_add_direntry_plus", C.c_size_t, [P, P, C.c_size_t, C.c_char_p, P, C.c_int64]),
    (lib, "fuse_req_ctx", C.POINTER(Context), [P]),
    # its lock is held during interrupt callbacks
    (waiting, "fuse_req_interrupt_func", None, [P, INTERRUPT, P]),
):
    _function = getattr(_library, _name, None)
    if _function is None:
        raise FuseMissing(f"this libfuse ({VERSION[0]}.{VERSION[1]}) has no {_name}")
    _function.restype, _function.argtypes = _restype, _argtypes


def new_session(args: Args, operations: Callbacks) -> int | None:
    """fuse_session_new, or what it has become since 3.17; None when the options are refused."""
    size = C.sizeof(operations)
    versioned = getattr(lib, "fuse_session_new_versioned", None)
    if versioned is None:
        found = lib.fuse_session_new(C.byref(args), C.byref(operations), size, None)
    else:
        versioned.restype, versioned.argtypes = P, [P, P, C.c_size_t, P, P]
        version = LibraryVersion(*VERSION)
        found = versioned(C.byref(args), C.byref(operations), size, C.byref(version), None)
    return int(found) if found else None


# --- libfuse's messages --------------------------------------------------------------------------------------

complaints: collections.deque[str] = collections.deque(maxlen=8)
"""libfuse's last warnings and errors: the only place where fuse_session_new and fuse_session_mount give reasons."""

_libc: Any = C.CDLL(None)
_libc.free.restype, _libc.free.argtypes = None, [P]
_libc.vsnprintf.restype, _libc.vsnprintf.argtypes = C.c_int, [P, C.c_size_t, C.c_char_p, P]
_LEVELS = (50, 50, 50, logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)


def free(address: int) -> None:
    """Free memory that libfuse allocated for its caller."""
    _libc.free(address)


@LOG  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, arguments: int | None) -> None:
    line = C.create_string_buffer(1024)
    _libc.vsnprintf(line, len(line), text, arguments)
    message = line.value.decode(errors="replace").strip()
    if level <= 4:
        complaints.append(message)
    log.log(_LEVELS[min(level, 7)], "libfuse: %s", message)


if C.sizeof(P) == 8:  # there a va_list is passed as one pointer
    lib.fuse_set_log_func.restype, lib.fuse_set_log_func.argtypes = None, [P]
    lib.fuse_set_log_func(_log)


# --- do the structures fit? ---------------------------------------------------------------------------------------

_PLUS = struct.Struct("=4Q2I 6Q10I 2Q2I")
"""struct fuse_direntplus of Linux's `fuse.h`: entry_out (with attr), then dirent up to the name."""


def check_layout() -> None:
    """Let libfuse read an entry with known values, and compare what it understood. Raises FuseMissing."""
    entry = EntryParam(ino=2, generation=3, attr_timeout=4.5, entry_timeout=6.25)
    st = entry.attr
    st.st_ino, st.st_size, st.st_blocks, st.st_mode, st.st_nlink = 7 << 33, 9 << 33, 11, 0o100640, 13
    st.st_uid, st.st_gid, st.st_rdev, st.st_blksize = 15, 17, 0, 19
    for time, seconds in ((st.st_atimespec, 21), (st.st_mtimespec, 23), (st.st_ctimespec, 25)):
        time.tv_sec, time.tv_nsec = seconds, seconds + 1
    buffer = C.create_string_buffer(256)
    size = lib.fuse_add_direntry_plus(None, buffer, len(buffer), b"name", C.byref(entry), 27)
    understood = _PLUS.unpack_from(buffer)
    expected = (
        *(2, 3, 6, 4, 250_000_000, 500_000_000),
        *(7 << 33, 9 << 33, 11, 21, 23, 25, 22, 24, 26, 0o100640, 13, 15, 17, 0, 19, 0),
        *(7 << 33, 27, 4, 0o100640 >> 12),
    )
    sizes = C.sizeof(FileInfo), C.sizeof(ConnInfo), C.sizeof(StatVfs)
    if size != 160 or understood != expected or sizes != (40, 128, 112):
        raise FuseMissing(f"libfuse {VERSION[0]}.{VERSION[1]} on {os.uname().machine} is not supported")


check_layout()
