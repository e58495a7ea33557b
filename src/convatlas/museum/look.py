"""Colors and fonts of the museum, and of the documentation, which has the same look."""

from __future__ import annotations

from convatlas.draw.outlines import COLORS, PAGE

COLORS_OF_PAGES: dict[str, tuple[str, str]] = {
    **PAGE,
    **dict(COLORS.items()),
    "link": ("#0b5cad", "#86c5ff"),
    "yes": ("#0a6b4f", "#5fd0a8"),
    "no": ("#a83a24", "#f0907a"),
    "partly": ("#7a5a00", "#e0bd5a"),
}
"""On a light and on a dark page: those of the drawings, links, and verdicts."""
FONTS = {
    "serif": '"Iowan Old Style", "Palatino Linotype", Palatino, Georgia, "DejaVu Serif", "Noto Serif", serif',
    "sans": 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial, '
    "sans-serif",
}
"""Of the system: none is loaded."""
