"""The three amounts of work.

A profile changes how much is run. ``laptop`` also makes CQL smaller in ``qcse`` and lets bonuses begin
earlier, since its runs are short: departures with numbers in ``papers/*/entries.py``.
"""

from __future__ import annotations

import os

from o2okit.errors import unknown

PROFILES = ("smoke", "laptop", "paper")
"""``smoke``: does it execute; ``laptop``: real learning on two cores; ``paper``: the paper's own."""


def check_profile(profile: object) -> str:
    """Returns ``profile``. Raises ``UserError`` for anything that is not a profile's name."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    return str(profile)


def default_profile() -> str:
    """``O2OKIT_PROFILE`` where it is set, else ``laptop``. Raises ``UserError`` if it is wrong."""
    return check_profile(os.environ.get("O2OKIT_PROFILE", "laptop"))
