"""A share as a bar. Drawn, not a background colour: browsers leave those out of print."""

from __future__ import annotations


def bar_svg(share: float, of: float = 1.0) -> str:
    """A bar for a share in [0, of], with no words: the number stands beside it."""
    part = min(max(share / of if of > 0 else 0.0, 0.0), 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/>'
        f'<rect class="part" width="{100 * part:.1f}" height="8"/></svg>'
    )
