"""The commands of `svcdns` for operators, such as `svcdns check`, and their completion in shells.

The library click parses them. The server has CoreDNS's command line (`svcdns.cli.arguments`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

COMPLETION: Final = "_SVCDNS_COMPLETE"
"""The environment variable by which a shell asks for completions."""


_LAZY: Final = {
    "accelerate": ("svcdns.cli.accelerate", "accelerate"),
    "cache": ("svcdns.cli.cache", "cache"),
    "check": ("svcdns.cli.check", "check"),
    "explain": ("svcdns.cli.explain", "explain_command"),
    "interface": ("svcdns.cli.interface", "interface"),
    "probe": ("svcdns.cli.probe", "probe"),
    "query": ("svcdns.cli.query", "query"),
    "ready": ("svcdns.cli.ready", "ready"),
    "shadow": ("svcdns.cli.shadow", "shadow"),
    "top": ("svcdns.cli.top", "top"),
}
"""The module and the name of each command that is imported only when it is used."""


class _Group(click.Group):
    """A group of commands. For an unknown command, the error names the most similar one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *_LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of this name, and imports its module if that is necessary."""
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, name = _LAZY[cmd_name]
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Returns the command that the first argument names."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1, 0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help", "-help"], "max_content_width": 100},
    epilog="The server is started by `svcdns -conf Corefile`; `svcdns -help` has its flags. Further commands: "
    "`svcdns demo`, `svcdns conformance`.",
)
def svcdns() -> None:
    """Cluster DNS for Kubernetes: tools for operators."""


@svcdns.command(short_help="Print the completion for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Prints the script by which SHELL completes the commands and options of svcdns.

    \b
    Examples:
      bash:  echo 'eval "$(svcdns completion bash)"' >> ~/.bashrc
      zsh:   echo 'eval "$(svcdns completion zsh)"' >> ~/.zshrc
      fish:  svcdns completion fish > ~/.config/fish/completions/svcdns.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(svcdns, {}, "svcdns", COMPLETION).source())
    return 0


@svcdns.command(short_help="Print manual pages.")
@click.argument("command", required=False, default="")
@click.option("--write", "folder", metavar="FOLDER", help="Write the pages of all commands into this folder.")
def man(command: str, folder: str | None) -> int:
    """Prints the manual page of COMMAND, or of svcdns itself, in the format of man(7).

    \b
    Examples:
      svcdns man check | man -l -
      svcdns man --write ~/.local/share/man/man1
    """
    from svcdns.cli import manual

    if folder is not None:
        for path in manual.write(svcdns, folder):
            click.echo(path)
    else:
        click.echo(manual.page(svcdns, command), nl=False)
    return 0


def run(argv: Sequence[str]) -> int:
    """Runs the command that `argv` names, and returns the exit code."""
    try:
        code = svcdns.main(list(argv), "svcdns", complete_var=COMPLETION, standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as failure:
        failure.show()
        return 2
    return code if isinstance(code, int) else 0
