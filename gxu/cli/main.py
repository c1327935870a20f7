"""Parses the command line and runs one command.

A command is a module in this folder with `HELP` (one line), `add_arguments(parser)` and `run(args) -> exit status`. It
imports what is heavy inside `run`, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from gxu.cli.errors import UsageError

COMMANDS = ("demo", "doctor", "bench", "conformance", "new")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gxu", description="A PyTorch device with torch.compile by Triton.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"gxu.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv` (default: the process's arguments). Returns 0, 1 if a check failed, 2 if the request was wrong."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except UsageError as error:
        print(f"gxu: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` closed the pipe: nothing is left to say, and the flush at exit must not say it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
