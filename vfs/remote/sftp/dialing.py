"""One attempt to connect, on a thread of its own, since SSH's set-up blocks.

Called on the event loop's thread; there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future

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
from vfs.base.timeouts import on_a_thread
from vfs.remote.sftp.connection import Connection
from vfs.remote.ssh.transport import Dialer, Transport

log = logging.getLogger(__name__)


async def dial(dialer: Dialer, timeout: float, lost: Callable[[Connection], None]) -> Connection:
    """A connection that has shaken hands, within `timeout` seconds for each half; `lost` as for `Connection`.

    Raises ConnectError.
    """
    connection = Connection(await _dialled(dialer, timeout), lost)
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


async def _dialled(dialer: Dialer, timeout: float) -> Transport:
    try:
        future = on_a_thread(lambda: dialer.dial(timeout), name="connector")
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_unwanted)
            raise
        finally:
            del future  # its error refers to this frame
    except ArtisyncError:
        raise
    except OSError as error:
        raise ConnectError(str(error)) from error
    except Exception as error:
        if NoThread.caused(error):  # SSH needs threads of its own, too
            raise NoThread(str(error)) from error
        log.exception("connecting failed")
        raise ConnectError(str(error)) from error


def _unwanted(future: Future[Transport]) -> None:
    if future.exception() is None:
        future.result().close()
