"""Whether a signal should end a call that waits for our answer.

The kernel tells of the first signal of a call, whatever it is: a Ctrl-Z, a child's end, a tracer, a timer. Local disks
and NFS end no call for these, and few programs expect it. Which signals are pending is in `/proc/PID/status` (proc(5)).
Functions take about 0.1 ms, do not wait, and may be called from any thread.
"""

from __future__ import annotations

import os
import re
import signal


def _mask(*names: str) -> int:
    numbers = (getattr(signal, name, None) for name in names)
    return sum(1 << number - 1 for number in numbers if number is not None)


_HARMLESS = _mask("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
"""Those that end no program unless it wants to; see signal(7)."""
_TO_END = _mask("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM")
"""Those that ask a program to end; a program that handles them needs its call to return first."""
_FIELD = re.compile(rb"^(SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt):\s*([0-9a-f]+)$", re.MULTILINE)


def ends_a_call(pid: int) -> bool:
    """Whether a signal is pending for the thread `pid` that ends its program, or asks it to end.

    True where this cannot be known: without Linux's /proc, or for a process of another container (`pid` 0).
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # of another pid namespace
            return True
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            return ending(file.read(8192))
    except OSError:
        return True


def ending(status: bytes) -> bool:
    """The same, from the text of `/proc/PID/status`."""
    fields = {name: int(mask, 16) for name, mask in _FIELD.findall(status)}
    if len(fields) != 5:
        return True
    pending = (fields[b"SigPnd"] | fields[b"ShdPnd"]) & ~fields[b"SigBlk"] & ~fields[b"SigIgn"]
    return bool(pending & (_TO_END | ~(fields[b"SigCgt"] | _HARMLESS)))
