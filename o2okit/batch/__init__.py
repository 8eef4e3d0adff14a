"""Executing notebooks without a person: papermill on this machine."""
