"""The `microkit` program, and what a plugin needs to add commands to it."""

from .loading import CommandError, load_app
from .program import CommandLine, main

__all__ = ["CommandError", "CommandLine", "load_app", "main"]
