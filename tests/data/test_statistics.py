import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from scipy import stats

from o2okit.data import figure, statistics
from o2okit.data.rows import checked_rows
from o2okit.data.statistics import (
    compare,
    describe,
    nearest_published,
    published,
    state_distance,
)
from o2okit.errors import UserError

TASK = "hopper-medium-v2"


def rows(rewards, terminals=(), timeouts=(), observations=None, act=1):
    n = len(rewards)
    if observations is None:
        observations = np.arange(2.0 * n).reshape(n, 2)
    values = {
        "observations": observations,
        "actions": np.zeros((n, act)),
        "rewards": np.asarray(rewards, dtype=float),
        "terminals": np.isin(np.arange(n), terminals),
        "timeouts": np.isin(np.arange(n), timeouts),
    }
    return checked_rows("x", values)


# --- by hand --------------------------------------------------------------------------------------
def test_counts_returns_and_moments_by_hand():
    found = describe(rows([1, 2, 3, -4, 5, 6, 7], terminals=[1], timeouts=[4]), TASK)
    assert (found.transitions, found.terminals, found.timeouts) == (7, 1, 1)
    assert found.returns.tolist() == [3, 4], "whole episodes, time-out rows included"
    assert found.lengths.tolist() == [2, 3]
    assert (found.episodes, found.unfinished) == (2, 2)
    assert (found.reward_min, found.reward_max) == (-4, 7)
    assert found.state_mean.tolist() == [6, 7]
    assert found.state_std.tolist() == [4, 4]
    values = [found.value(name) for name in statistics.QUANTITIES]
    assert values == [7, 3.5, 0.5, 3, 4]


def test_an_episode_that_never_ends_is_described_all_the_same():
    found = describe(rows([1, 2, 3]), TASK)
    assert (found.returns.tolist(), found.unfinished) == ([6], 3)


def test_sums_do_not_lose_digits_in_long_episodes():
    found = describe(rows(np.full(1_000_000, 0.1), timeouts=[999_999]), TASK)
    assert found.returns[0] == pytest.approx(1e6 * float(np.float32(0.1)), rel=1e-9)


# --- beside the published -------------------------------------------------------------------------
def with_return(value, task=TASK):
    return describe(rows([value, 0.0], timeouts=[1]), task)


@pytest.mark.parametrize(
    ("task", "value", "score"),
    [
        ("halfcheetah-medium-v2", 4770.335, 40.6802),
        (TASK, 1422.0562, 44.3170),
        ("walker2d-medium-v2", 2852.0884, 62.0924),
        ("ant-medium-v2", 3000, 79.0812),
        ("pen-cloned-v1", 1000, 30.3209),
        ("halfcheetah-random-v2", -288.79712, -0.0694),
    ],
)
def test_scores_are_those_of_the_spec(task, value, score):
    assert with_return(value, task).score() == pytest.approx(score, abs=1e-3)


def test_the_published_stands_beside_the_measured():
    table = compare(with_return(1522.0562))
    assert table.loc["return_mean", "published"] == pytest.approx(1422.0562, abs=1e-3)
    assert table.loc["return_mean", "difference"] == pytest.approx(100, abs=1e-2)
    assert table.loc["score", "published"] == pytest.approx(44.3170, abs=1e-3)
    assert table.loc["transitions", "difference"] == 2 - 1_000_000
    assert pd.isna(compare(with_return(1.0, "hopper-expert-v2")).loc["transitions", "published"])
    assert list(table.index) == [*statistics.QUANTITIES, "score"]


def test_where_nothing_is_published_only_the_measured_stands():
    table = compare(with_return(1.0, "antmaze-umaze-v2"))
    assert table["published"].isna().all()
    assert "score" not in table.index, "its returns are those of segments"
    assert "score" not in compare(with_return(-3, "pen-binary-v0")).index


def test_the_file_of_published_values_is_the_shipped_one():
    assert len(published()) == 314
    mine = published()[published()["task"] == TASK]
    assert (mine["quantity"] == "state_mean").sum() == 11


# --- distance of states ---------------------------------------------------------------------------
def moments(task, name):
    mine = published()[(published()["task"] == task) & (published()["quantity"] == name)]
    return mine.sort_values("index")["value"].to_numpy()


def like_published(task):
    found = with_return(1.0, task)
    mean, std = (moments(task, name) for name in ("state_mean", "state_std"))
    return dataclasses.replace(found, state_mean=mean, state_std=std)


@pytest.mark.parametrize(
    "task", [TASK, "walker2d-medium-replay-v2", "halfcheetah-medium-expert-v2"]
)
def test_equal_moments_have_no_distance(task):
    distance = state_distance(like_published(task))
    assert distance.mean_shift == pytest.approx(0)
    assert distance.spread == pytest.approx(1)


def test_shift_is_in_published_deviations_and_spread_is_a_ratio():
    found = like_published(TASK)
    mean, std = found.state_mean.copy(), found.state_std.copy()
    mean[4] -= 3 * std[4]
    distance = state_distance(dataclasses.replace(found, state_mean=mean, state_std=2 * std))
    assert distance.mean_shift == pytest.approx(3 / 11)
    assert distance.largest_shift == (4, pytest.approx(3))
    assert distance.spread == pytest.approx(2)
    assert distance.ratio == pytest.approx(np.full(11, 2))
    assert distance.frechet == pytest.approx(np.sqrt((9 + 11) / 11))


def test_the_frechet_distance_is_that_between_quantiles():
    """In one dimension 2-Wasserstein is the L2 distance of the quantile functions."""
    levels = (np.arange(200_000) + 0.5) / 200_000
    ours, theirs = stats.norm(1.3, 0.4).ppf(levels), stats.norm(-0.2, 0.9).ppf(levels)
    by_quantiles = np.sqrt(np.mean((ours - theirs) ** 2)) / 0.9  # in their standard deviations
    moments = [np.array([value]) for value in (1.3, 0.4, -0.2, 0.9)]
    found = statistics.distance(*moments[:2], tuple(moments[2:]))
    assert found.frechet == pytest.approx(by_quantiles, rel=1e-3)


def test_the_nearest_of_d4rls_datasets_is_a_yardstick():
    name, least = nearest_published(TASK)
    assert name == "hopper-medium-expert-v2"
    found = {
        other: state_distance(dataclasses.replace(like_published(other), task=TASK)).frechet
        for other in (name, "hopper-medium-replay-v2")
    }
    assert least == pytest.approx(found[name])
    assert 0 < least < found["hopper-medium-replay-v2"]
    assert nearest_published("ant-medium-v2") is None
    assert nearest_published("antmaze-umaze-v2") is None


def test_dimensions_are_compared_by_their_number():
    """Ten and more: sorted as text, 10 would come before 2."""
    index = published()[(published()["task"] == TASK) & (published()["quantity"] == "state_mean")]
    assert sorted(index["index"]) == list(range(11))
    found = like_published(TASK)
    swapped = found.state_mean.copy()
    swapped[[2, 10]] = swapped[[10, 2]]
    distance = state_distance(dataclasses.replace(found, state_mean=swapped))
    assert set(np.flatnonzero(distance.shift > 1e-9)) == {2, 10}


def test_a_state_that_never_changes_has_a_finite_distance():
    found = like_published(TASK)
    distance = state_distance(dataclasses.replace(found, state_std=np.zeros(11)))
    assert distance.spread == pytest.approx(1e-12)


def test_no_published_moments_and_other_dimensions():
    assert state_distance(with_return(1.0, "ant-medium-v2")) is None
    with pytest.raises(UserError, match=r"have 2 dimensions, the published ones of hopper.* 11"):
        state_distance(with_return(1.0))


# --- the picture ----------------------------------------------------------------------------------
def test_principal_components_find_the_direction_of_the_data():
    draw = np.random.default_rng(0)
    along = draw.normal(size=500)
    states = np.stack([along, -2 * along, np.full(500, 7.0), 0.01 * draw.normal(size=500)], axis=1)
    projected, shares = figure.principal_components(states)
    assert abs(np.corrcoef(projected[:, 0], along)[0, 1]) > 0.99
    assert shares == pytest.approx([2 / 3, 1 / 3], abs=0.05)
    assert projected.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    projected, shares = figure.principal_components(np.full((5, 1), 3.0))
    assert (projected == 0).all()
    assert (shares == 0).all()


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_picture_is_drawn(tmp_path, ending):
    data = rows(np.ones(50), timeouts=[9, 19, 29])
    path = tmp_path / "new" / f"x.{ending}"
    assert figure.draw(data, describe(data, TASK), "source: kit: somewhere", path) == path
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(start)
    if ending == "png":
        pixels = image.imread(path)
        assert pixels.shape[:2] == (600, 1800)
        assert pixels[..., :3].std() > 0.05, "not blank"
    if ending == "svg":
        assert "return of an episode" in path.read_text()
        assert "source: kit: somewhere" in path.read_text()
    assert len(list(path.parent.iterdir())) == 1


def test_a_picture_of_equal_episodes_is_drawn(tmp_path):
    data = rows(np.ones(4), timeouts=[3])
    assert figure.draw(data, describe(data, TASK), "", tmp_path / "x.png").stat().st_size > 1000


def test_a_picture_of_another_kind_is_refused(tmp_path):
    data = rows(np.ones(4))
    with pytest.raises(UserError, match=r"\.png, \.pdf, \.svg; got 'x.bmp'"):
        figure.draw(data, describe(data, TASK), "", tmp_path / "x.bmp")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not write"):
        figure.draw(data, describe(data, TASK), "", tmp_path / "file" / "x.png")
