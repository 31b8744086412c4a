"""`python -m lit_transformer` lists the commands, and `python -m lit_transformer COMMAND ...` runs one."""

import sys
from collections.abc import Sequence
from importlib import import_module

from lit_transformer import __version__
from lit_transformer.cli.commands import COMMANDS
from lit_transformer.cli.frame import user_errors_to_exit
from lit_transformer.cli.suggestions import did_you_mean
from lit_transformer.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    command, *options = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in COMMANDS:
        # The console script takes what this function returns for an exit status.
        import_module(f"lit_transformer.{command}").main(options)
        return
    with user_errors_to_exit():
        if command in ("-h", "--help"):
            print("usage: python -m lit_transformer COMMAND [OPTIONS]\n\nCommands:")
            for name, summary in COMMANDS.items():
                print(f"  {name:10} {summary}")
            print("\nThe options of a command: python -m lit_transformer COMMAND --help")
        elif command == "--version":
            print(f"lit-transformer {__version__}")
        else:
            raise UserError(f"there is no command {command!r}{did_you_mean(command, COMMANDS)} (all commands: --help)")


if __name__ == "__main__":
    main()
