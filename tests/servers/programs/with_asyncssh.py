"""asyncssh's server: PORT HOST_KEY AUTHORIZED_KEYS. Runs on its own, without the project."""

import asyncio
import sys

import asyncssh


async def main(port: str, host_key: str, authorized_keys: str) -> None:
    await asyncssh.listen(
        "127.0.0.1",
        int(port),
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        sftp_factory=True,
    )
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
