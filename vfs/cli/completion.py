"""`artisync completion`: the script by which a shell completes our commands, options and experiments."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class

from vfs.cli import logs

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
    local IFS=$'\\n' response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o plusdirs ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$(printf %%q "$value")")
                [[ $value != */ ]] || compopt -o nospace
                ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(name="completion")
@click.argument("shell", type=click.Choice(sorted(INSTALL)))
@logs.verbose_option
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes artisync; its end says where it goes.

    Experiments are completed from what was last seen of the server, without asking it.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "artisync", VARIABLE).source()
    steps = "".join(f"#   {line}\n" for line in INSTALL[shell].splitlines())
    click.echo(f"{script.rstrip()}\n\n# To have it in every new shell:\n{steps}", nl=False)
