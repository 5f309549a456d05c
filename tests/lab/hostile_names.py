"""Names that a server may have in store for a terminal, and a look at whether one of them got there."""

from __future__ import annotations

import re
import unicodedata

FORGED = "FORGED"
"""A line that begins so was made by a name."""
NAMES = (
    b"exp\x1b]0;owned\x07",
    b"exp\x1b[2J\x1b[31m",
    b"exp\x9b31m",  # the C1 byte, which is no UTF-8
    "exp\x9b31m".encode(),
    "exp\x85NEL".encode(),
    f"exp\n{FORGED}".encode(),
    f"exp\r{FORGED}".encode(),
    f"exp\x0b{FORGED}\x0c{FORGED}".encode(),
    f"exp\u2028{FORGED}\u2029{FORGED}".encode(),
    b"exp\ttab",
    b"exp\x7f\x08\x08\x08",
    "exp\u202egpj.tp".encode(),
    "exp\u2066\u2069\u061c".encode(),
    "exp\u200b\u200d\ufeff\u00ad".encode(),
    b"exp\xff\xfe",
    "exp-é-語-🙂".encode(),
    b"exp[red]x[bold]",
    b"exp%s%n{0}",
)
WORDS = f"no\x1b]0;owned\x07\n{FORGED}\r{FORGED}\x9b"
"""What a server may say in its own words."""


def dangerous(said: bytes) -> str:
    """What of a command's output drives a terminal, turns or hides text, or was forged by a name; "" if nothing."""
    text = said.decode("utf-8", "surrogateescape")
    strange = {
        c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"
    }
    if strange:
        return f"{sorted(strange)!r} in {text!r}"
    return f"a forged line in {text!r}" if re.search(f"^{FORGED}", text, re.MULTILINE) else ""
