"""A root of a server as an NFS export, in a process of its own that mounts nothing: for clients that bring their own mount.

As a program: writes the port, and a new path of the export for each line that it reads; ends with its input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.sshd import Sshd
from vfs.base.settings import resolve
from vfs.frontends.nfs.export import Export
from vfs.stack import open_stack


class Exported:
    """`with Exported(sshd, root, place) as exported:`; `privileged` and the others as for `Export`.

    `port`: that of a relay in front of the SSH server.
    """

    def __init__(
        self,
        sshd: Sshd,
        root: Path,
        place: Path,
        *,
        port: int | None = None,
        timeout: float = 30.0,
        **options: Any,
    ) -> None:
        # The user's own known_hosts may know another key at this port.
        options_of_ssh = (("UserKnownHostsFile", str(place / "no_known_hosts")),)
        address = dataclasses.replace(sshd.address, options=options_of_ssh, port=port or sshd.port)
        given = {
            "ssh": address.line(),
            "remote_root": str(root),
            "cache_dir": str(place / "cache"),
            "accept_new_host_key": True,
            "ttl": "1s",
            "timeout": f"{timeout}s",
        }
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(place / "config")}
        self._words = [sys.executable, "-m", "tests.lab.nfs_exported", json.dumps({**given, "more": options})]

    def __enter__(self) -> Exported:
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=self._environment,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    @property
    def pid(self) -> int:
        return self._process.pid

    def path(self) -> str:
        """A path that can be mounted once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        return self._process.stdout.readline().strip()

    def url(self, name: str, path: str | None = None) -> str:
        """For libnfs: a name below the root, by this path or a new one."""
        where = f"nfs://127.0.0.1{path or self.path()}/{name}"
        return f"{where}?version=3&nfsport={self.port}&mountport={self.port}"


async def _main(given: dict[str, Any]) -> None:
    options = {"everybody": True, "privileged": False, **given.pop("more")}
    settings = resolve(given)
    async with open_stack(settings) as stack:
        export = Export(stack.files, **options)
        await export.start()
        print(export.port, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(export.path(60.0), flush=True)
        export.close()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
