"""o2okit: replications of offline-to-online reinforcement learning papers."""

__version__ = "0.1.0"
