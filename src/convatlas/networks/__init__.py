"""The networks: one file a paper, oldest first.

A new architecture is one file here and one line in `FAMILIES`; every command and every test walks this tuple.
"""

from convatlas.networks import lenet

FAMILIES = (lenet.FAMILY,)
