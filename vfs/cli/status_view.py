"""How `artisync status` shows what mounts answer. rich is imported when something is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vfs.base.printable import printable
from vfs.cli.console import count, duration, rate, size, wrap

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"online": "bold green", "connecting": "bold yellow", "offline": "bold red"}
_BAR = 20
_WIDTH = 67
"""Columns of a terminal of 80, without the label and the space between two words."""
_LABEL = 11
_FETCHES = 10
"""How many fetches in flight are listed for one mount."""


Row = tuple[str, Sequence[str]]
"""A label, and the parts beside it, in as many lines as they need."""


def render(mounts: Sequence[Mapping[str, Any]], width: int = 80) -> Text:
    """A block of lines for each mount, on a terminal of that many columns."""
    from rich.text import Text

    if not mounts:
        return Text("Nothing is mounted.")
    return Text("\n\n").join(_block(mount, width) for mount in mounts)


def _block(mount: Mapping[str, Any], width: int) -> Text:
    from rich.text import Text

    state = printable(str(mount.get("state", "?")))
    head = Text.assemble(
        (printable(str(mount["mountpoint"])), "bold"), "  ", (state, _STYLES.get(state, "bold red"))
    )
    if "error" in mount:
        return Text("\n").join([head, *_lines(_problem(mount["error"], width), width)])
    head.append(f" for {duration(mount.get('since_seconds', 0))}")
    rows: list[Row] = [_problem(mount["problem"], width)] if mount.get("problem") else []
    rows += [
        *_server(mount),
        _mounted(mount),
        _cache(mount.get("cache", {})),
        _remote(mount.get("remote", {})),
        *_use(mount),
    ]
    if mount.get("log"):
        rows.append(("log", [str(mount["log"])]))
    fetches = mount.get("fetches", [])
    rows += [("fetching", [_fetch(fetch)]) for fetch in fetches[:_FETCHES]]
    if len(fetches) > _FETCHES:
        rows.append(("", [f"and {len(fetches) - _FETCHES} more"]))
    return Text("\n").join([head, *(line for row in rows for line in _lines(row, width))])


def _problem(text: object, width: int) -> Row:
    return "problem", wrap(printable(str(text)), width - _LABEL)


def _lines(row: Row, width: int) -> list[Text]:
    from rich.text import Text

    label, parts = row
    lines: list[str] = []
    for part in map(printable, parts):
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and len(longer) <= width - _LABEL:
            lines[-1] = longer
        else:
            lines.append(part)
    shown = []
    for number, line in enumerate(lines):
        title = "" if number else f"  {label}"
        if _LABEL + len(line) > width >= len(line) + 2:  # a path, which is not to be broken
            shown += [Text(title)] * (not number) + [Text(line.rjust(min(_LABEL + len(line), width)))]
        else:
            shown.append(Text(f"{title:<{_LABEL}}{line}"))
    return shown


def _server(mount: Mapping[str, Any]) -> list[Row]:
    """The address and the root, in a line of their own where both are too long for one."""
    address, root = str(mount.get("address", "?")), str(mount.get("root", ""))
    if len(address) + len(root) < _WIDTH:
        return [("server", [f"{address}  {root}"])]
    return [("server", [address]), ("root", [root])]


def _mounted(mount: Mapping[str, Any]) -> Row:
    profile = mount.get("profile")
    parts = [
        f"profile {profile}" if profile else "no profile",
        str(mount.get("transport", "?")),
        *(["by NFS"] if mount.get("via") == "nfs" else []),
        f"process {mount.get('pid', '?')}",
        f"up {duration(mount.get('uptime_seconds', 0))}",
    ]
    return "mount", parts


def _cache(cache: Mapping[str, Any]) -> Row:
    used = cache.get("disk_bytes", 0)
    parts = [f"{size(used)} of {size(cache.get('limit', 0))}"]
    asked = cache.get("hits", 0) + cache.get("misses", 0)
    if asked:
        parts.append(f"{cache.get('hits', 0) / asked:.0%} hits")
    if queued := cache.get("queue_bytes", 0):
        parts.append(f"{size(queued)} to be written")
    if cache.get("problem"):
        parts.append(f"not caching: {cache['problem']}")
    parts.append(str(cache.get("directory", "")))
    return "cache", parts


def _remote(remote: Mapping[str, Any]) -> Row:
    parts = [
        f"{size(remote.get('bytes_received', 0))} in {count(remote.get('requests', 0), 'request')}",
        count(remote.get("connections", 0), "connection"),
    ]
    if remote.get("rtt_ms"):
        parts.append(f"{remote['rtt_ms']:.1f} ms round trip")
    if remote.get("rate_bytes_per_s"):
        parts.append(rate(remote["rate_bytes_per_s"]))
    return "received", parts


def _use(mount: Mapping[str, Any]) -> list[Row]:
    """How much was fetched, and how much of it programs read."""
    fetched, used = (mount.get("bytes", {}).get(key, 0) for key in ("fetched", "used"))
    parts = ["metered"] if mount.get("metered") else []
    if fetched or used:
        parts.append(f"{size(fetched)} of files fetched, {size(used)} read by programs")
    if fetched and used:
        parts.append(f"{fetched / used:.2f} bytes fetched per byte read")
    return [("traffic", parts)] if parts else []


def _fetch(fetch: Mapping[str, Any]) -> str:
    """The progress of a fetch if the mount reports it, else the bytes in flight."""
    path = str(fetch.get("path", "?"))
    whole, done = fetch.get("size"), fetch.get("done")
    if not whole or done is None:
        return f"{path}  {size(fetch.get('bytes', 0))} under way"
    share = min(1.0, done / whole)
    filled = round(share * _BAR)
    text = f"{path}  {'━' * filled}{'╌' * (_BAR - filled)} {share:4.0%} of {size(whole)}"
    return f"{text}  {rate(fetch['rate'])}" if fetch.get("rate") else text
