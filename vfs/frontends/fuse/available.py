"""What FUSE needs of this system: the device, the right to use it, the spelling of options. Loads no libfuse. Any thread.

Sources: fusermount3(1), mount.fuse3(8), libfuse's `fuse_opt.c`.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

from vfs.base.errors import FuseMissing, MountError

FUSE_CONF = Path("/etc/fuse.conf")
DEVICE = Path("/dev/fuse")


def check_fuse(*, allow_other: bool = False) -> None:
    """See whether this user can mount. Raises FuseMissing, or MountError when `allow_other` is forbidden."""
    if sys.platform == "linux":
        _check_device()
        if os.getuid() != 0 and shutil.which("fusermount3") is None:
            raise FuseMissing("fusermount3 is not installed")
    if allow_other and os.getuid() != 0 and not _allows_other():
        raise MountError(
            f"allow_other needs the line `user_allow_other` in {FUSE_CONF}: "
            f"`echo user_allow_other | sudo tee -a {FUSE_CONF}`"
        )


def _check_device() -> None:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        raise FuseMissing(
            f"there is no {DEVICE}: `sudo modprobe fuse` "
            "(a container needs `--device /dev/fuse --cap-add SYS_ADMIN`)"
        ) from error
    except PermissionError as error:
        if error.errno == errno.EPERM:
            raise FuseMissing(
                f"{DEVICE} is forbidden here: a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"
            ) from error
        raise FuseMissing(f"this user may not open {DEVICE}: `sudo chmod 666 {DEVICE}`") from error
    except OSError as error:
        raise FuseMissing(f"{DEVICE} cannot be opened: {error.strerror}") from error


def _allows_other() -> bool:
    try:
        return any(line.strip() == "user_allow_other" for line in FUSE_CONF.read_text().splitlines())
    except OSError:
        return False


def escape(name: str) -> str:
    r"""A value for a mount option: libfuse takes `\,` for a comma and `\\` for a backslash."""
    return name.replace("\\", "\\\\").replace(",", "\\,")
