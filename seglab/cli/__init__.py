"""The `seglab` command: a thin door to what a run folder can give."""

from seglab.cli.command import FAILED, FAULTY, Command
from seglab.cli.entry import CLOSED, COMMANDS, EXIT_CODES, INTERRUPTED, main, parser

__all__ = ["CLOSED", "COMMANDS", "EXIT_CODES", "FAILED", "FAULTY", "INTERRUPTED", "Command", "main", "parser"]
