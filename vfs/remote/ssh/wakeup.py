"""Wakes a thread out of poll(2), by a pipe."""

from __future__ import annotations

import os


class Wakeup:
    """`fileno` is readable from the first `set` on. Any thread may set it; `close` comes last, once."""

    def __init__(self) -> None:
        """Raises OSError without a free descriptor."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """To be polled for POLLIN."""
        return self._reading

    def set(self) -> None:
        """Wake the polls of now and later."""
        try:
            os.write(self._writing, b"\0")
        except BlockingIOError:  # it was set 65536 times
            pass

    def close(self) -> None:
        """To be called once, after the last poll and the last `set`."""
        os.close(self._reading)
        os.close(self._writing)
