"""Recorded work against the same work done eagerly."""

import pytest
import torch

from o2okit.training import capture
from o2okit.training.cohort import Cohort, evaluate


def assert_same(eager, recorded, device):
    """Networks, targets, optimisers: all that an agent or a cohort holds; on a CPU the same bits."""
    assert eager.keys() == recorded.keys()
    close = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-4, "atol": 1e-6}
    for key, value in eager.items():
        assert recorded[key].shape == value.shape, key
        assert torch.allclose(recorded[key], value, **close, equal_nan=True), key


def recorded_equals_eager(specs, device, monkeypatch, steps=30):
    """Fine-tunes recorded and eager. The method's part of an update is recorded, too, and so is acting."""
    states, scores = {}, {}
    for flag in ("0", "1"):
        monkeypatch.setenv(capture.FLAG, flag)
        cohort = Cohort(specs, device)
        cohort.begin()
        while cohort.step < steps:
            cohort.advance()
        states[flag] = cohort.state()
        seeds = [spec.seed for spec in specs]
        rows = evaluate(cohort.method, cohort.task, seeds, 2, "test", most=8)
        scores[flag] = [row["return"] for row in rows]
        assert isinstance(cohort.update, capture.CapturedUpdate) == (flag == "1")
    assert cohort.update.kinds.recorded
    assert_same(states["0"], states["1"], device)
    assert scores["1"] == pytest.approx(scores["0"], rel=0 if device == "cpu" else 1e-2)
