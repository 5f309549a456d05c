"""How much memory a process may hold, and where: every bound on what grows with the bytes that are read.

What a mount holds at once while it reads as fast as it can, all bounds reached, is `PEAK` bytes at most; a test adds it up.
What grows with something else has a bound of its own beside the code that holds it:

    names, and their nodes      files/forgetting.py     100,000 names that nobody refers to, 0.9 kB each
    blocks that the disk has    cache/ledger.py         50,000, 0.3 kB each
    a listing on its way        remote/sftp/listing.py  250,000 names, while it comes
    a format's hints            formats/advisor.py      20,000 ranges per open file
    a look into a file          formats/limits.py       `LOOK` bytes, while it lasts
    an open file of fsspec      frontends/fsspec        128 KiB, and 4 MiB in a read

All in bytes. Constants only.
"""

from __future__ import annotations

MIB = 1 << 20

PEAK = 300_000_000
"""What a mount may take in all."""

PROCESS = 60 * MIB
"""The interpreter, libraries, threads and the database: 54 MiB in a mount that has read nothing."""

BLOCKS = 64 * MIB
"""Blocks in memory, least recently used first out."""
QUEUE = 60 * MIB
"""Blocks that wait to be written to the disk: above this no further fetch begins."""
QUEUE_MOST = QUEUE * 3 // 2
"""The same and the fetches in flight: above this a block is given to its readers, and not kept on the disk."""
IN_FLIGHT = 48 * MIB
"""Reads sent to the server and not answered."""
BUFFERS = BLOCKS + QUEUE_MOST + IN_FLIGHT
"""All buffers of blocks, those in use and those that are kept for use again."""
SPARE = 32 * MIB
"""Buffers kept for use again."""
REPLIES = 16 * MIB
"""Replies that the client of an NFS mount has not taken; each keeps its blocks."""

LOOK = 96 * MIB
"""What `inspect` makes of one file's bytes. A process that inspects holds few blocks."""
