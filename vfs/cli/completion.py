"""`artisync completion`: the script by which a shell completes our commands, options and experiments."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class

from vfs.cli import cli, logs
from vfs.cli.options import Command

VARIABLE = "_ARTISYNC_COMPLETE"
"""Set by the scripts when they ask for completions."""

INSTALL = {
    "bash": "mkdir -p ~/.local/share/bash-completion/completions\n"
    "artisync completion bash > ~/.local/share/bash-completion/completions/artisync",
    "zsh": "mkdir -p ~/.zfunc\n"
    "artisync completion zsh > ~/.zfunc/_artisync\n"
    "and in ~/.zshrc, before compinit:  fpath+=~/.zfunc",
    "fish": "mkdir -p ~/.config/fish/completions\n"
    "artisync completion fish > ~/.config/fish/completions/artisync.fish",
}


@add_completion_class
class Bash(BashComplete):
    """click's, but names are quoted, a path can go on after a slash, and local directories come besides names."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response type value typed=${COMP_WORDS[COMP_CWORD]}
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o plusdirs ;;
            file) compopt -o default ;;
            plain)
                [[ $value != */ ]] || compopt -o nospace
                case $typed in  # within an open quote only that quote's own characters need an escape
                    \\"*) value=$(printf %%s "$value" | sed 's/[\\"$`\\\\]/\\\\&/g') ;;
                    \\'*) value=${value//\\'/\\'\\\\\\'\\'} ;;
                    *) printf -v value %%q "$value" ;;
                esac
                COMPREPLY+=("$value")
                ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(name="completion", cls=Command)
@click.argument("shell", type=click.Choice(sorted(INSTALL)))
@logs.verbose_option
def command(shell: str) -> None:
    """Print the completion script for a shell.

    The comment at its end says where to save it. Experiments and paths are completed from the last listing of the server.
    """
    click.echo(script(shell), nl=False)


def script(shell: str) -> str:
    """The script, for one of INSTALL."""
    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(cli, {}, "artisync", VARIABLE).source()
    steps = "".join(f"#   {line}\n" for line in INSTALL[shell].splitlines())
    return f"{source.rstrip()}\n\n# To have it in every new shell:\n{steps}"
