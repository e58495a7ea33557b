"""`python -m convatlas`, and so `torchrun -m convatlas`: the command."""

from convatlas.cli import main

main()
