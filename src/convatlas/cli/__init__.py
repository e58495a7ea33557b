"""The command: one file for each group of verbs. Nothing here loads torch before a verb needs it."""

from convatlas.cli.signals import end_on_signal


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its status."""
    # Before everything else is loaded, which takes long enough for a Ctrl-C.
    end_on_signal(silently=False)
    from convatlas.cli.app import run_command

    run_command()
