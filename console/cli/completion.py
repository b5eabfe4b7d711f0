"""`headgate completion`."""

from __future__ import annotations

import click

from console.cli import exit_codes
from console.cli.stdout import print_text


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that completes `headgate` in SHELL.

    bash: eval "$(headgate completion bash)" in ~/.bashrc, zsh the same in ~/.zshrc,
    fish: headgate completion fish > ~/.config/fish/completions/headgate.fish
    """
    from click.shell_completion import get_completion_class

    from console.cli.main import COMPLETE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    print_text(kind(cli, {}, "headgate", COMPLETE).source().rstrip("\n"))
    return exit_codes.OK
