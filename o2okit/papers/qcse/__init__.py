"""QCSE: Q Conditioned State Entropy Exploration."""
