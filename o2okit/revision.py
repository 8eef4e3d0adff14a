"""Which code is running."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str | None:
    """The commit of the code, with ``+`` when the tree is changed; ``None`` outside a checkout."""
    package = Path(__file__).parent
    try:
        run = ["git", "-C", str(package)]
        head = subprocess.run(
            [*run, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*run, "status", "--porcelain", "--", str(package)], capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.strip() else "")
