"""``python -m keyless``: the command, where its script is not on the path."""

from keyless.cli import program

program()
