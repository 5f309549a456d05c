"""The garbage collector's long rounds: what survived one is not looked through again.

A full collection stops every thread, for longer the more names the tree has: 170 ms for 200,000. So the objects that survive one
are frozen. Nodes of the tree and connections are in no cycles once they are gone, so that freezing keeps none of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONG = 0.01
"""Seconds of processor time; a collection that takes longer is long."""
_FULL = 2


@contextmanager
def short_rounds() -> Iterator[None]:
    """Freeze all present objects; inside the block, also those that survive a long full collection."""
    began = 0.0

    def freeze(phase: str, info: dict[str, Any]) -> None:
        nonlocal began
        if info["generation"] != _FULL:
            return
        if phase == "start":
            began = time.thread_time()
        elif time.thread_time() - began > LONG:
            gc.freeze()

    gc.freeze()
    gc.callbacks.append(freeze)
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
