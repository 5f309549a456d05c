"""The kernel's readahead for the mount: 128 KiB, which only root may change.

The kernel copies the value of the mount's device into each file when it is opened. A GiB in requests
of 1 MiB costs the mount about half of the processor time that it costs in requests of 128 KiB. Used on the event loop's
thread; the file in sysfs waits for nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

USUAL = 128 << 10
"""Bytes of the kernel's default readahead (VM_READAHEAD_PAGES)."""


class KernelReadahead:
    """Of the mount with this device number; `close` it before it is unmounted."""

    def __init__(self, device: str) -> None:
        self._now = USUAL
        self._fd = -1
        with suppress(OSError):  # not root, or no sysfs
            self._fd = os.open(f"/sys/class/bdi/{device}/read_ahead_kb", os.O_WRONLY | os.O_CLOEXEC)

    def set(self, size: int) -> int:
        """Set the readahead of files opened from now on to `size` bytes, a multiple of 1024; the value in force."""
        if size != self._now and self._fd >= 0:
            try:
                os.write(self._fd, b"%d" % (size >> 10))
                self._now = size
            except OSError:
                self.close()
        return self._now

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
