"""Small files that are read whole: the index beside Hugging Face's shards, the metadata of a distributed
checkpoint.
"""

from __future__ import annotations

import re

from vfs.formats.api import Format, Range, Steps, want

SMALL = 4 << 20


def advise(size: int) -> Steps[None]:
    """All of it, if it is small."""
    if size <= SMALL:
        yield from want([Range(0, size)])


FORMAT = Format(
    names=re.compile(rb"(^\.metadata|\.json|\.ya?ml)$", re.IGNORECASE),
    advise=advise,
)
