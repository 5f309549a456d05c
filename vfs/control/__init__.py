"""The control socket of a live mount, and the register of live mounts.

    sockets.py    where the sockets are
    server.py     the half that answers, in the mount's process
    client.py     the half that asks
    register.py   which mounts are live

One line of JSON asks (`{"verb": "status", "args": {}}`), lines of JSON answer: any number of `{"item": …}` and at the
end `{"ok": true, "result": …}` or `{"error": {"class": …, "text": …}}`. An item's "data" are bytes: as many as its line says
(`{"item": …, "bytes": 7}`) follow it. The socket (0600) lies in a directory of the
user's own (0700) and serves that user, and root, only.
"""

from typing import Any

Json = dict[str, Any]
"""One line's object."""
