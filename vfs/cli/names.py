"""Names that a shell can complete, and those of profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vfs.base.profiles import profile_names

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Completable(click.types.StringParamType):
    """A text that the shell can complete. It is not converted."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = (name for name in self.known(ctx, incomplete) if name.startswith(incomplete))
        # a shell shows a name as it is, and takes a line for each
        return [CompletionItem(name) for name in names if name.isprintable()]

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        """Names to choose from."""
        raise NotImplementedError


class ProfileName(Completable):
    """The name of a saved server."""

    name = "name"

    def known(self, ctx: click.Context, incomplete: str) -> list[str]:
        return profile_names()
