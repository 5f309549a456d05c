"""Text from elsewhere (names, a server's words) as it may be shown on a terminal or in a log. Pure."""

from __future__ import annotations

import codecs

ERRORS = "artisync"
"""For `errors=` of a text stream: characters that its encoding lacks are written in ASCII."""

_IN_ASCII = {"…": "...", "·": "-", "–": "-", "→": "->", "✓": "+", "✗": "x", "×": "x", "━": "#", "╌": "-"}
"""What artisync itself writes besides ASCII."""


def printable(text: str) -> str:
    """The text on one line, with escapes for what drives a terminal or hides: control characters, line breaks, marks of
    direction, what has no width, and bytes that are no UTF-8."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode shows it
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code <= 0xFF:  # which is no such byte
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode("ascii")


def _encoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or _escaped(c) for c in lacking), error.end


codecs.register_error(ERRORS, _encoded)
