"""What a person can mend.

A mistake of the person at the keyboard is a `UserError`: one line that says what was wrong and what to do.
The command prints it and exits with status 2. Anything else that is raised is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake with a mend: the message is one line, complete without its traceback."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of `known`, with the nearest names first."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    some = f"{', '.join(known[:10])}{' and more' if len(known) > 10 else ''}"
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {some}"
    return UserError(f"there is no {kind} {name!r}; {hint}")
