"""The command. Nothing here loads torch before a verb needs it."""

from convatlas.cli.app import main as main
