"""Names that a shell completes, and those of profiles among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vfs.base.profiles import profile_names

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those of the names that begin with what was typed."""
    from click.shell_completion import CompletionItem

    # a shell shows names unescaped, and reads one from each line
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name.isprintable()]


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a saved server."""
    return beginning(profile_names(), incomplete)
