"""One attempt to connect, on a thread of its own, since SSH's set-up blocks.

Called on the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from vfs.base.errors import (
    ArtisyncError,
    ConnectError,
    HungUp,
    LinkLost,
    NoAnswer,
    NoSftp,
    NoThread,
    ProtocolViolation,
)
from vfs.remote.sftp.connection import Connection
from vfs.remote.ssh.transport import Dialer, Transport

log = logging.getLogger(__name__)


async def dial(dialer: Dialer, timeout: float, lost: Callable[[Connection], None]) -> Connection:
    """A connection that has shaken hands, within `timeout` seconds for each half; `lost` as for `Connection`.

    Raises ConnectError.
    """
    transport = await _in_thread(lambda: dialer.dial(timeout))
    connection = Connection(transport, lost)
    try:
        async with asyncio.timeout(timeout):
            await connection.start()
        if not connection.alive:
            raise LinkLost("the server closed the connection")
    except TimeoutError as error:
        connection.close()
        raise NoAnswer("the server does not answer the SFTP greeting") from error
    except LinkLost as error:
        connection.close()
        kind = NoSftp if isinstance(error, ProtocolViolation) else HungUp
        raise kind(str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _in_thread(work: Callable[[], Transport]) -> Transport:
    """The result of blocking `work`, on a thread that nobody waits for at exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Transport] = loop.create_future()

    def deliver(outcome: Transport | ArtisyncError) -> None:
        if not isinstance(outcome, ArtisyncError):
            if future.done():
                loop.run_in_executor(None, outcome.close)
            else:
                future.set_result(outcome)
        elif not future.done():
            future.set_exception(outcome)

    def run() -> None:
        outcome: Transport | ArtisyncError
        try:
            outcome = work()
        except ArtisyncError as error:
            outcome = error
        except Exception as error:
            if NoThread.caused(error):  # SSH needs threads of its own
                outcome = NoThread(str(error))
            else:
                if not isinstance(error, OSError):
                    log.exception("connecting failed")
                outcome = ConnectError(str(error))
        try:
            loop.call_soon_threadsafe(deliver, outcome)
        except RuntimeError:  # the loop has ended
            if not isinstance(outcome, ArtisyncError):
                outcome.close()

    try:
        threading.Thread(target=run, name="connector", daemon=True).start()
    except RuntimeError as error:
        raise NoThread(str(error)) from error
    return await future
