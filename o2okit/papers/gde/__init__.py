"""Guided Decoupled Exploration: one module per section."""
