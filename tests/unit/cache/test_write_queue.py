"""The queue before the disk: what waits for it ends with it, and not before it is done."""

from __future__ import annotations

import threading
import time

from vfs.cache.write_queue import WriteQueue


def test_a_flush_that_a_disk_holds_up_ends_when_the_cache_is_closed() -> None:
    """A process waits for its threads when it ends: an unmounted one is still running until then."""
    queue = WriteQueue()
    queue.set_record("key", b"value")  # nothing takes it: the disk hangs
    outcome: list[bool] = []
    flushing = threading.Thread(target=lambda: outcome.append(queue.flush(60)), daemon=True)
    flushing.start()
    queue.end(time.monotonic() + 0.1)
    flushing.join(10)
    assert outcome == [False]


def test_a_lineage_that_could_not_be_deleted_waits_until_it_can() -> None:
    queue, lineage = WriteQueue(), bytes(16)
    queue.drop(lineage)
    queue.done(queue.take(), records=False)
    assert queue.dropped(lineage)
    queue.done(queue.take(), records=True)
    assert not queue.dropped(lineage)
