"""A mount by NFS needs neither libfuse nor mfusepy: here neither can be loaded, and files are served all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[3]

SERVES = """
import ctypes, ctypes.util, sys

class NoMfusepy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mfusepy":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoMfusepy())
ctypes.util.find_library = lambda name: None

import asyncio, struct
import vfs.commands.mount
from tests.lab.memory_stack import ROOT, MemoryStack
from tests.lab.nfs_client import NfsClient, marked
from vfs.frontends.nfs.export import Export
from vfs.frontends.nfs.mounted import NfsMount

async def main():
    stack = MemoryStack()
    stack.old(ROOT + b"/f", b"hello")
    await stack.tree.start()
    export = Export(stack.service, everybody=True, privileged=False)
    await export.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", export.port)

    async def send(record):
        writer.write(marked(record))
        (size,) = struct.unpack(">I", await reader.readexactly(4))
        return await reader.readexactly(size & 0x7FFFFFFF)

    client = NfsClient(send)
    root = await client.mount(export.path(10.0).encode())
    handle, _ = await client.lookup(root, b"f")
    data, _ = await client.read(handle, 0, 100)
    print(data.decode())
    writer.close()
    export.close()
    await stack.aclose()

asyncio.run(main())
assert "mfusepy" not in sys.modules
try:
    import vfs.frontends.fuse.library
except ModuleNotFoundError:
    print("no libfuse")
"""


def test_files_are_served_by_nfs_where_libfuse_cannot_be_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVES], cwd=HERE, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("hello\nno libfuse\n", "")
