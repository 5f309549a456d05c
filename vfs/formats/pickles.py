"""Reads a pickle without running it: what it would call becomes a `Made`, what it would import a `Symbol`.

Nothing is imported, called or looked up by name, so no pickle can do harm; opcodes and what they make are
counted (`Limits`), so none can take much memory or time. Source: CPython's Lib/pickletools.py, which describes every opcode.
"""

from __future__ import annotations

import pickletools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TypeAlias, cast

from vfs.formats.api import Misfit
from vfs.formats.limits import LONGEST_NAME, Limits, TooLarge

MOST_BYTES = 32 << 20
LONGEST_ARGUMENT = 12 << 20
"""Bytes of one text or number; decoded, it may take four times as many."""
CHUNK = 256 << 10
MOST_ATTRIBUTES = 100
"""Of one object; many objects may share a large state, and each would be looked through."""


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """Something that would be imported."""

    name: str


@dataclass(slots=True, eq=False)
class Made:
    """What calling `name` with `args` would make; `state` is what would be set on it, `pairs` what would be
    put in.
    """

    name: str
    args: tuple[Symbolic, ...] = ()
    state: Symbolic = None
    pairs: list[tuple[Symbolic, Symbolic]] = field(default_factory=list)
    elements: list[Symbolic] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Mapping:
    """A dict; its pairs in order, since keys need not be hashable here."""

    pairs: list[tuple[Symbolic, Symbolic]] = field(default_factory=list)

    def get(self, key: str) -> Symbolic:
        """The last value of `key`, or None; for the attributes of an object: only `MOST_ATTRIBUTES` pairs are looked at."""
        last = islice(reversed(self.pairs), MOST_ATTRIBUTES)
        return next((value for k, value in last if isinstance(k, str) and k == key), None)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A persistent id: something that lies outside the pickle."""

    id: Symbolic


Plain: TypeAlias = bool | int | float | str | bytes | None
Symbolic: TypeAlias = (
    "Plain | list[Symbolic] | tuple[Symbolic, ...] | Mapping | Made | Symbol | Reference | object"
)
"""What a pickle is made of here. `object` is for what `rebuild` makes."""

Rebuild: TypeAlias = Callable[[Made], object]
"""May turn a call whose arguments are there into something that says more, or return it as it is."""

_MARK = object()


class Stream:
    """A file to read forward, as pickletools wants it, from `read(offset, length)`; never more than `end`."""

    def __init__(self, read: Callable[[int, int], bytes], start: int, end: int) -> None:
        self._read = read
        self._start = start
        self._end = min(end, start + MOST_BYTES)
        self._buffer = b""
        self._at = 0

    def tell(self) -> int:
        """The offset in the file of the next byte."""
        return self._start + self._at

    def read(self, length: int) -> bytes:
        """The next `length` bytes, fewer at the end. Raises TooLarge."""
        at = self._at
        if 0 <= length <= len(self._buffer) - at:
            self._at = at + length
            return self._buffer[at : at + length]
        if length > LONGEST_ARGUMENT:
            raise TooLarge(f"it holds a value of {length} bytes")
        if length < 0 or not self._fill(length):
            length = max(0, min(length, len(self._buffer) - self._at))
        self._at += length
        return self._buffer[self._at - length : self._at]

    def readline(self) -> bytes:
        """The bytes up to, and with, the next newline."""
        wanted = CHUNK
        more = self._fill(1)
        while (found := self._buffer.find(b"\n", self._at)) < 0 and more:
            more = self._fill(wanted)
            if wanted > LONGEST_ARGUMENT:
                raise TooLarge("it holds a line of millions of bytes")
            wanted *= 2
        return self.read(found + 1 - self._at if found >= 0 else len(self._buffer) - self._at)

    def _fill(self, length: int) -> bool:
        """Have `length` bytes in the buffer, or all that there are; whether they are that many."""
        missing = self._at + length - len(self._buffer)
        if missing > 0:
            self._start += self._at
            self._buffer = self._buffer[self._at :]
            self._at = 0
            offset = self._start + len(self._buffer)
            self._buffer += self._read(offset, max(0, min(max(missing, CHUNK), self._end - offset)))
        return len(self._buffer) - self._at >= length


def load(stream: Stream, rebuild: Rebuild, limits: Limits) -> Symbolic:
    """What the next pickle of `stream` is made of. Raises Misfit if it is none or is cut short, TooLarge."""
    machine = _Machine(rebuild, limits)
    try:
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", stream)):
            if opcode.name == "STOP":
                return machine.pop()
            limits.take(_COSTS.get(opcode.name, SLOT), 3)
            machine.step(opcode.name, argument)
    except Misfit:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as e:
        raise Misfit(f"the pickle cannot be read: {str(e)[:200]}") from None
    raise Misfit("the pickle does not end")


SLOT = 16
"""Bytes of memory that an opcode may leave behind: a place on the stack, and its share of what grows ahead."""
_COSTS = {
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET", "LIST", "FROZENSET"), 100),
    **dict.fromkeys(("EMPTY_DICT", "DICT"), 200),
    **dict.fromkeys(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), 100),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD"), 400),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL", "BINPERSID"), 200),
    **dict.fromkeys(("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"), 150),
    **dict.fromkeys(("SETITEM", "SETITEMS"), 100),
}
"""Bytes of memory by opcode, for one thing; what comes in numbers is counted where it is made."""

_CONSTANTS: dict[str, Symbolic] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Strings, numbers and bytes: the opcode's argument is the value.
_LITERAL = re.compile(r"(SHORT_)?(BIN)?(INT|LONG|FLOAT|STRING|UNICODE|BYTES)[1248]?|BYTEARRAY8")
_LITERALS = frozenset(opcode.name for opcode in pickletools.opcodes if _LITERAL.fullmatch(opcode.name))
_IGNORED = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))


class _Machine:
    """The stack and the memo of pickle's machine, over symbolic objects."""

    def __init__(self, rebuild: Rebuild, limits: Limits) -> None:
        self.limits = limits
        self.stack: list[Symbolic] = []
        self.memo: dict[int, Symbolic] = {}
        self.rebuild = rebuild
        self._steps: dict[str, Callable[[], object]] = {
            "MARK": lambda: self.stack.append(_MARK),
            "POP": self.stack.pop,
            "POP_MARK": self._marked,
            "DUP": lambda: self.stack.append(self.stack[-1]),
            "EMPTY_LIST": lambda: self.stack.append([]),
            "EMPTY_SET": lambda: self.stack.append([]),
            "EMPTY_DICT": lambda: self.stack.append(Mapping()),
            "LIST": lambda: self.stack.append(self._marked()),
            "FROZENSET": lambda: self.stack.append(self._marked()),
            "TUPLE": lambda: self.stack.append(tuple(self._marked())),
            "TUPLE1": lambda: self._tuple(1),
            "TUPLE2": lambda: self._tuple(2),
            "TUPLE3": lambda: self._tuple(3),
            "DICT": lambda: self.stack.append(Mapping(_paired(self._marked()))),
            "APPEND": lambda: self._append([self.pop()]),
            "APPENDS": lambda: self._append(self._marked()),
            "ADDITEMS": lambda: self._append(self._marked()),
            "SETITEM": lambda: self._set([self.stack.pop(-2), self.pop()]),
            "SETITEMS": lambda: self._set(self._marked()),
            "MEMOIZE": lambda: self.memo.__setitem__(len(self.memo), self.stack[-1]),
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "NEWOBJ_EX": self._call_with_words,
            "BUILD": self._build,
            "BINPERSID": lambda: self.stack.append(Reference(self.pop())),
            "NEXT_BUFFER": lambda: self.stack.append(b""),
        }

    def step(self, name: str, argument: object) -> None:
        """Carry out one opcode."""
        if (does := self._steps.get(name)) is not None:
            does()
        elif name in _LITERALS:
            if not (isinstance(argument, int) and -(1 << 64) < argument < 1 << 64):
                self.limits.take(sys.getsizeof(argument))
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET") and isinstance(argument, int):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_symbol(str(argument).replace(" ", ".", 1)))
        elif name not in _IGNORED:  # those of Python 2, and extension codes
            raise Misfit(f"unknown opcode {name}")

    def pop(self) -> Symbolic:
        """The topmost value. Raises Misfit if it is a mark."""
        if self.stack[-1] is _MARK:
            raise Misfit("a mark where a value should be")
        return self.stack.pop()

    def _marked(self) -> list[Symbolic]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise Misfit("no mark")
        self.limits.take(16 * (len(self.stack) - at), steps=(len(self.stack) - at) // 8)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _tuple(self, length: int) -> None:
        values = tuple(self.stack[-length:])
        if len(values) < length or any(value is _MARK for value in values):
            raise Misfit("too few values for a tuple")
        self.stack[-length:] = [values]

    def _append(self, values: Sequence[Symbolic]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):
            target.elements.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise Misfit("appends to what is no list")

    def _set(self, values: Sequence[Symbolic]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Mapping | Made):
            raise Misfit("sets items of what is no dict")
        self.limits.take(40 * len(values))
        target.pairs.extend(_paired(values))

    def _stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Misfit("a global without a name")
        if len(module) > LONGEST_NAME:
            raise Misfit(f"a name of {len(module)} characters")
        self.stack.append(_symbol(f"{module}.{name[: LONGEST_NAME + 1]}"))

    def _call(self) -> None:
        args, what = self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise Misfit("calls with what is no tuple")
        self.stack.append(self._made(what, args))

    def _call_with_words(self) -> None:
        words, args, what = self.pop(), self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise Misfit("calls with what is no tuple")
        made = self._made(what, args)
        if isinstance(made, Made) and isinstance(words, Mapping):
            self.limits.take(8 * len(words.pairs), steps=len(words.pairs) // 8)
            made.pairs.extend(words.pairs)
        self.stack.append(made)

    def _made(self, what: Symbolic, args: tuple[Symbolic, ...]) -> object:
        name = what.name if isinstance(what, Symbol | Made) else type(what).__name__
        if name in (
            "collections.OrderedDict",
            "collections.defaultdict",
            "builtins.dict",
            "__builtin__.dict",
        ):
            # Old protocols give the pairs as a list; the first argument of a defaultdict is its factory.
            listed = args[-1] if args and isinstance(args[-1], list) else []
            self.limits.take(80 * len(listed), steps=len(listed))
            return Mapping([(p[0], p[1]) for p in listed if isinstance(p, tuple | list) and len(p) == 2])
        return self.rebuild(Made(name, args))

    def _build(self) -> None:
        state, target = self.pop(), self.pop()
        if isinstance(target, Made):
            target.state = state
            self.stack.append(self.rebuild(target))
        else:
            self.stack.append(target)


def _symbol(name: str) -> Symbol:
    if len(name) > LONGEST_NAME:
        raise Misfit(f"a name of {len(name)} characters")
    return Symbol(name)


def _paired(values: Sequence[Symbolic]) -> list[tuple[Symbolic, Symbolic]]:
    if len(values) % 2:
        raise Misfit("a key without a value")
    return list(zip(values[::2], values[1::2], strict=True))
