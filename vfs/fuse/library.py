"""libfuse 3, as mfusepy loads it: the prototypes and structures of its low-level API.

Sources: libfuse's `fuse_lowlevel.h` and `fuse_common.h`, versions 3.10 to 3.17. Loading happens on first import; nothing
here keeps state. Untested on macOS, where libfuse 3 comes with macFUSE.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812
from typing import Any

from vfs.errors import FuseMissing

try:
    import mfusepy
except OSError as error:
    raise FuseMissing(f"libfuse cannot be loaded: {error}") from error
except (AttributeError, AssertionError) as error:
    raise FuseMissing(f"this libfuse is not one that is known: {error}") from error

NEWEST = 18
"""The newest minor version of libfuse 3 whose structures are known to be those below."""

if mfusepy.fuse_version_major != 3:
    raise FuseMissing(f"libfuse {mfusepy.fuse_version_major} was found, and libfuse 3 is needed")
if mfusepy.fuse_version_minor < 10:
    raise FuseMissing(f"libfuse 3.{mfusepy.fuse_version_minor} was found, and 3.10 or newer is needed")

lib: Any = mfusepy._libfuse
Stat: Any = mfusepy.c_stat
StatVfs: Any = mfusepy.c_statvfs
FileInfo: Any = mfusepy.fuse_file_info
ConnInfo: Any = mfusepy.fuse_conn_info

P = C.c_void_p
NODEID = C.c_uint64
FileInfoPointer = C.POINTER(FileInfo)


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


class Buffer(C.Structure):
    """struct fuse_buf, with room for what newer versions append."""

    _fields_ = (
        ("size", C.c_size_t),
        ("flags", C.c_int),
        ("mem", P),
        ("fd", C.c_int),
        ("pos", C.c_int64),
        ("reserved", C.c_uint64 * 8),
    )


class IoVec(C.Structure):
    """struct iovec"""

    _fields_ = (("base", P), ("length", C.c_size_t))


OPERATIONS = (  # noqa: SIM905 # struct fuse_lowlevel_ops, in order
    "init destroy lookup forget getattr setattr readlink mknod mkdir unlink rmdir symlink rename link open read "
    "write flush release fsync opendir readdir releasedir fsyncdir statfs setxattr getxattr listxattr removexattr "
    "access create getlk setlk bmap ioctl poll write_buf retrieve_reply forget_multi flock fallocate readdirplus "
    "copy_file_range lseek"
).split()


class Operations(C.Structure):
    """struct fuse_lowlevel_ops; its size is told to libfuse, so that newer members count as absent."""

    _fields_ = tuple((name, P) for name in OPERATIONS)


class ForgetData(C.Structure):
    """struct fuse_forget_data"""

    _fields_ = (("ino", C.c_uint64), ("nlookup", C.c_uint64))


INTERRUPT = C.CFUNCTYPE(None, P, P)

for _name, _restype, _argtypes in (
    ("fuse_session_new", P, [P, P, C.c_size_t, P]),
    ("fuse_session_mount", C.c_int, [P, C.c_char_p]),
    ("fuse_session_fd", C.c_int, [P]),
    ("fuse_session_exited", C.c_int, [P]),
    ("fuse_session_receive_buf", C.c_int, [P, P]),
    ("fuse_session_process_buf", None, [P, P]),
    ("fuse_session_unmount", None, [P]),
    ("fuse_session_destroy", None, [P]),
    ("fuse_reply_err", C.c_int, [P, C.c_int]),
    ("fuse_reply_none", None, [P]),
    ("fuse_reply_entry", C.c_int, [P, P]),
    ("fuse_reply_attr", C.c_int, [P, P, C.c_double]),
    ("fuse_reply_readlink", C.c_int, [P, C.c_char_p]),
    ("fuse_reply_open", C.c_int, [P, P]),
    ("fuse_reply_buf", C.c_int, [P, P, C.c_size_t]),
    ("fuse_reply_iov", C.c_int, [P, P, C.c_int]),
    ("fuse_reply_statfs", C.c_int, [P, P]),
    ("fuse_reply_xattr", C.c_int, [P, C.c_size_t]),
    ("fuse_add_direntry", C.c_size_t, [P, P, C.c_size_t, C.c_char_p, P, C.c_int64]),
    ("fuse_add_direntry_plus", C.c_size_t, [P, P, C.c_size_t, C.c_char_p, P, C.c_int64]),
    ("fuse_req_ctx", C.POINTER(Context), [P]),
    ("fuse_req_interrupt_func", None, [P, INTERRUPT, P]),
):
    _function = getattr(lib, _name)
    _function.restype, _function.argtypes = _restype, _argtypes
