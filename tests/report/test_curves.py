import numpy as np
import pytest

from o2okit.errors import UserError
from o2okit.report.curves import CURVES, cumulative_regret, curve_statistic

STEPS = np.arange(0, 2_100, 100)
SCORES = np.arange(21.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("final", 20.0), ("last-10", 15.5), ("late", 19.5), ("best", 20.0), ("area", 10.0)],
)
def test_statistics_of_a_straight_curve(name, value):
    assert curve_statistic(name, SCORES, STEPS) == pytest.approx(value)


def test_a_short_and_a_falling_curve():
    assert {name: curve_statistic(name, [7.0], [0]) for name in CURVES} == dict.fromkeys(
        CURVES, 7.0
    )
    assert curve_statistic("best", [3.0, 9.0, 1.0], [0, 1, 2]) == 9.0
    assert curve_statistic("area", [0.0, 10.0, 10.0], [0, 1, 4]) == pytest.approx(35 / 4)
    assert curve_statistic("last-10", [1.0, 3.0], [0, 1]) == 3.0, "the first is untrained"
    assert curve_statistic("last-10", [1.0], [0]) == 1.0
    assert curve_statistic("late", range(11), range(11)) == 10.0, "one of ten trained ones"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("finl", [1.0], [0]), "Allowed: final, last-10"),
        (("final", [], []), "at least one"),
        (("final", [1.0, 2.0], [0]), "one score per step"),
        (("area", [1.0, 2.0], [1, 1]), "must rise"),
    ],
)
def test_wrong_curves_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        curve_statistic(*arguments)


def test_regret():
    """specs/samg.md 6."""
    assert cumulative_regret([0, 1, 1, 0, 1]) == pytest.approx(0.4)
    with pytest.raises(UserError, match="at least one training episode"):
        cumulative_regret([])
