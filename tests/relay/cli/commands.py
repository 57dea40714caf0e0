"""Every command of the operator's, as its parser has it."""

import argparse
from collections.abc import Iterator

from relay.cli_parser import build_parser


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, with its own parser."""
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for group in groups:
        for word, inner in group.choices.items():
            yield from commands(inner, f"{name} {word}".strip())
    if not groups:
        yield name, parser


COMMANDS = dict(commands(build_parser()))
