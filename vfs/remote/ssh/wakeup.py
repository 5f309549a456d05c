"""Something that a thread in poll(2) can be woken with: a pipe, which every Unix has."""

from __future__ import annotations

import os


class Wakeup:
    """`fileno` becomes readable at the first `set`, and stays so. Any thread may set it; one thread closes it last."""

    def __init__(self) -> None:
        """Raises OSError when there are no descriptors left."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """What to poll for POLLIN."""
        return self._reading

    def set(self) -> None:
        """Wake whoever polls, now and later."""
        try:
            os.write(self._writing, b"\0")
        except BlockingIOError:  # it was set 65536 times
            pass

    def close(self) -> None:
        """To be called once, when nobody polls any more and nobody will set it."""
        os.close(self._reading)
        os.close(self._writing)
