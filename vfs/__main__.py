"""The entry point of `artisync`, and of `python -m vfs`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line. Until its modules are loaded, Ctrl-C ends the process without a word."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # paramiko would load it for a part that is not used here, which takes as long as half of paramiko
    sys.modules["invoke"] = None  # type: ignore[assignment]
    from vfs import cli

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
