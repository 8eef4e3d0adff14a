"""The estimators against specs/qcse.md 6: values by hand, by brute force, and known entropies."""

import numpy as np
import pytest
import torch
from scipy.special import digamma

from o2okit import native
from o2okit.errors import UserError
from o2okit.methods.neighbours import (
    SOURCE,
    conditional_bonus,
    distinct,
    kth_smallest,
    moments,
    neighbours,
    standardised,
    state_bonus,
    state_entropy,
    up_to_kth,
)
from o2okit.methods.qcse import VCSE_CODE

A = ([[0], [1], [3], [7], [8]], [0, 2, 1, 5, 4.5])
B = ([[0, 0], [1, 0], [0, 2], [3, 3], [4, 3], [3, 5]], [0, 0.5, 3, 1, 6, 5])

CODE_IN_C = native.compiled(SOURCE)
IN = ["torch", pytest.param("c", marks=pytest.mark.skipif(CODE_IN_C is None, reason="no compiler"))]


@pytest.fixture(params=IN, autouse=True)
def way(request, monkeypatch):
    """Everything holds in PyTorch and in C."""
    code = CODE_IN_C if request.param == "c" else None
    monkeypatch.setattr(native, "compiled", lambda source: code)


def estimate(states, condition, k, *, default=False, count_self=False, **how):
    """ε, n, b of a set against itself; ``default``: LayerNorm of the condition, states by d_s."""
    s, q = torch.tensor(states).float()[None], torch.tensor(condition).float()[None]
    d, n = s.shape[-1], s.shape[1]
    everyone = torch.ones(1, n, dtype=torch.bool)
    if default:
        q, s = standardised(q, everyone), s / d
    itself = torch.arange(n)[None]
    found = neighbours(s, q, everyone, itself, up_to_kth(torch.tensor([k])), **how)
    bonus = conditional_bonus(found, d, count_self=count_self)
    return [each[0].tolist() for each in (found.radius, found.count, bonus)]


CODE = {key: VCSE_CODE[key] for key in ("self_inclusive", "count_self")}
CASES = {
    "A raw, k=1": (
        A,
        {"k": 1},
        [2, 2, 2, 1, 1],
        [1, 1, 2, 1, 1],
        [1.809081, 1.809081, 2.309081, 1.115937, 1.115937],
    ),
    "A raw, k=2": (
        A,
        {"k": 2},
        [3, 2, 3, 4, 5],
        [2, 1, 2, 2, 4],
        [2.714545, 1.809081, 2.714545, 3.002227, 3.808704],
    ),
    "A count_self": (
        A,
        {"k": 1, "count_self": True},
        [2, 2, 2, 1, 1],
        [1, 1, 2, 1, 1],
        [2.309081, 2.309081, 2.642415, 1.615937, 1.615937],
    ),
    "A as SAC's code, k=2": (
        A,
        {"k": 2, **CODE},
        [2, 2, 2, 1, 1],
        [1, 1, 2, 1, 1],
        [2.309081, 2.309081, 2.642415, 1.615937, 1.615937],
    ),
    "A marginal": (
        A,
        {"k": 1, "joint": False},
        [1, 1, 2, 1, 1],
        [0, 0, 2, 1, 1],
        [0.115937, 0.115937, 2.309081, 1.115937, 1.115937],
    ),
    "A default, k=1": (
        A,
        {"k": 1, "default": True},
        [1.025977, 1.025977, 2, 1, 1],
        [1, 1, 3, 1, 1],
        [1.141582, 1.141582, 2.642415, 1.115937, 1.115937],
    ),
    "B raw, k=1": (
        B,
        {"k": 1},
        [1, 1, 2.5, 3.162278, 2.236068, 2.236068],
        [1, 2, 2, 3, 1, 2],
        [0.904544, 1.154544, 2.070832, 2.472500, 1.709261, 1.959261],
    ),
    "B raw, k=2": (
        B,
        {"k": 2},
        [3, 2.5, 3, 3.605551, 4.123106, 4],
        [2, 2, 3, 3, 2, 2],
        [2.253153, 2.070832, 2.419820, 2.603682, 2.571147, 2.540835],
    ),
    "B default, k=1": (
        B,
        {"k": 1, "default": True},
        [0.5, 0.5, 1.118034, 1.581139, 1.118034, 1.118034],
        [2, 2, 3, 3, 1, 2],
        [0.461402, 0.461402, 1.432782, 1.779355, 1.016116, 1.266116],
    ),
    "B default, k=2": (
        B,
        {"k": 2, "default": True},
        [1.31541, 1.118034, 1.31541, 1.75388, 2.061553, 1.75388],
        [2, 3, 3, 3, 2, 2],
        [1.428692, 1.432782, 1.595358, 1.883039, 1.878001, 1.716373],
    ),
    "B vcse_code, k=2": (
        B,
        {"k": 2, "default": True, **CODE},
        [0.5, 0.5, 1.118034, 1.581139, 1.118034, 1.118034],
        [2, 2, 3, 3, 1, 2],
        [0.628069, 0.628069, 1.557782, 1.904355, 1.266116, 1.432782],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_check_values(case):
    data, how, radius, count, bonus = CASES[case]
    ours = estimate(*data, **how)
    assert ours[0] == pytest.approx(radius, abs=2e-6)
    assert ours[1] == count  # without the row itself; count_self adds it in the bonus
    assert ours[2] == pytest.approx(bonus, abs=2e-6)


def test_copies_and_scale():
    """Four copies; a constant condition; and a common factor, which adds its logarithm."""
    copies = estimate([[1, 2]] * 4, [3] * 4, 1)
    assert copies[2] == pytest.approx([-11.801533] * 4, abs=1e-5)
    assert estimate([[0], [1], [2], [4]], [0] * 4, 1)[2] == pytest.approx(
        [1.949270] * 3 + [2.642415], abs=2e-6
    )
    states, condition = B
    scaled = estimate((7 * np.array(states)).tolist(), [7 * q for q in condition], 1)[2]
    assert scaled == pytest.approx(np.array(estimate(*B, 1)[2]) + np.log(7), abs=2e-5)


def test_the_squashed_bonus_and_the_layer_norm():
    bonus = np.tanh(estimate(*B, 1, default=True)[2])
    assert bonus == pytest.approx(
        [0.431226, 0.431226, 0.892235, 0.944626, 0.768280, 0.852741], abs=2e-6
    )
    q = torch.tensor([A[1]])
    assert standardised(q, torch.ones(1, 5, dtype=torch.bool))[0].tolist() == pytest.approx(
        [-1.282471, -0.256494, -0.769483, 1.282471, 1.025977], abs=2e-6
    )


@pytest.mark.parametrize(("correlation", "entropy"), [(0.0, 1.426), (0.6, 1.202), (0.9, 0.590)])
def test_entropy_of_gaussians(correlation, entropy):
    """h(S|Q) = -ψ(k) + mean(b) without the 1e-5, d_s = 1; exact ½ log(2πe (1 - ρ²))."""
    rng = np.random.default_rng(0)
    s, noise = rng.standard_normal((2, 2000))
    q = correlation * s + np.sqrt(1 - correlation**2) * noise
    bonus = np.array(estimate(s[:, None].tolist(), q.tolist(), 3)[2])
    exact = 0.5 * np.log(2 * np.pi * np.e * (1 - correlation**2))
    assert -digamma(3) + bonus.mean() == pytest.approx(exact, abs=0.05)
    assert entropy == pytest.approx(exact, abs=0.01)


def test_state_entropy_bonus():
    s = torch.tensor([B[0]]).float()
    everyone, itself = torch.ones(1, 6, dtype=torch.bool), torch.arange(6)[None]
    bonus = state_bonus(s, everyone, itself, up_to_kth(torch.tensor([1])))
    ours = [0.693147, 0.693147, 1.098612, 0.693147, 0.693147, 1.098612]
    assert bonus[0].tolist() == pytest.approx(ours, abs=2e-6)


def test_only_what_counts_is_a_neighbour_and_k_is_each_runs_own():
    distances = torch.tensor([[[1.0, 2, 3, 4]], [[4.0, 3, 2, 1]], [[5.0, 5, 5, 5]]])
    distances[1, 0, 3] = distances[2] = torch.inf
    found = kth_smallest(distances, up_to_kth(torch.tensor([2, 3, 1])))
    assert found[:, 0].tolist() == [2, 4, 0]  # none counts: 0
    # Fewer than k count: the farthest of them.
    found = kth_smallest(distances, up_to_kth(torch.tensor([3, 4, 4])))
    assert found[:2, 0].tolist() == [3, 4]


def test_against_brute_force_with_a_mask():
    rng = np.random.default_rng(1)
    s, q = rng.standard_normal((2, 12, 3)), rng.standard_normal((2, 12))
    there = rng.random((2, 12)) < 0.7
    S, Q, T = torch.tensor(s).float(), torch.tensor(q).float(), torch.tensor(there)
    up_to = up_to_kth(torch.tensor([2, 4]))
    given = (S, Q, T, torch.arange(12).expand(2, 12), up_to)
    found, marginal = neighbours(*given), neighbours(*given, joint=False)
    bonus = conditional_bonus(found, 3)
    mean, std = moments(S, T)
    for run, kth in enumerate((2, 4)):
        for i in range(12):
            js = [j for j in range(12) if j != i and there[run, j]]
            ds = {j: np.linalg.norm(s[run, i] - s[run, j]) for j in js}
            dq = {j: abs(q[run, i] - q[run, j]) for j in js}
            ranked = sorted(js, key=lambda j: max(ds[j], dq[j]))
            j = ranked[kth - 1]
            radius = max(ds[j], dq[j])
            n = sum(dq[other] < radius for other in js)
            assert found.radius[run, i].item() == pytest.approx(radius, rel=1e-5)
            assert bool(found.by_condition[run, i]) == (dq[j] >= ds[j])
            kth_q, kth_s = (sorted(d.values())[kth - 1] for d in (dq, ds))
            assert bool(marginal.by_condition[run, i]) == (kth_q >= kth_s)
            expected = digamma(n + 1) / 3 + np.log(2 * radius + 1e-5)
            assert bonus[run, i].item() == pytest.approx(expected, abs=1e-5)
        assert mean[run, 0].tolist() == pytest.approx(s[run][there[run]].mean(0), abs=1e-6)
        assert std[run, 0].tolist() == pytest.approx(s[run][there[run]].std(0), abs=1e-6)


def test_copies_of_a_row_are_one_neighbour_and_none_of_themselves():
    """Rows 5, 5, 7, 5, 9; the first is not there, so that the second stands for the copies."""
    places = torch.tensor([[5, 5, 7, 5, 9]])
    there = torch.tensor([[False, True, True, True, False]])
    counts, first = distinct(places, there)
    assert counts.tolist() == [[False, True, True, False, False]]
    assert first.tolist() == [[1, 1, 2, 1, -1]]
    s, q = torch.tensor([[[0.0], [0.0], [3.0], [0.0], [5.0]]]), torch.zeros(1, 5)
    found = neighbours(s, q, counts, first, up_to_kth(torch.tensor([1])))
    # The copies see 7 alone, 7 sees the copies, and 9 sees both.
    assert found.radius.tolist() == [[3, 3, 3, 3, 2]]
    assert found.count.tolist() == [[1, 1, 1, 1, 2]]


def test_other_numbers_than_c_has_are_pytorchs():
    """Float32 ends at 3e38; and gradients flow through PyTorch."""
    s = torch.tensor([[[1e100], [3e100], [7e100]]], dtype=torch.float64)
    q, there, itself = torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), torch.arange(3)[None]
    near = up_to_kth(torch.tensor([1]))
    found = neighbours(s, q, there, itself, near)
    assert found.radius.tolist() == [pytest.approx([2e100, 2e100, 4e100])]
    found = neighbours(torch.zeros(1, 3, 1), s[..., 0], there, itself, near)
    assert found.radius.tolist() == [pytest.approx([2e100, 2e100, 4e100])]
    q = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
    standardised(q, there)[0, 0].backward()
    assert q.grad.abs().sum() > 0


@pytest.mark.parametrize("way", IN[1:], indirect=True)
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("queries", [7, 40])
def test_c_and_torch_agree(joint, inclusive, queries, monkeypatch):
    """Runs with k of their own, more than there are among them, copies, rows that are not there, NaN."""
    rng = torch.Generator().manual_seed(queries)
    states = torch.randn(3, 40, 5, generator=rng)
    values = torch.randn(3, 40, generator=rng)
    places = torch.randint(0, 60, (3, 40), generator=rng)
    there = torch.rand(3, 40, generator=rng) < 0.8
    there[2, 3:] = False
    states[1, 4], values[1, 9], states[0, 2, 0] = torch.nan, torch.nan, torch.inf
    found = {}
    for name, code in (("torch", None), ("c", CODE_IN_C)):
        monkeypatch.setattr(native, "compiled", lambda source, code=code: code)
        counts, first = distinct(places, there)
        near = neighbours(
            *(states, values, counts, first[:, :queries], up_to_kth(torch.tensor([1, 20, 5]))),
            unit=3.0,
            joint=joint,
            self_inclusive=inclusive,
        )
        scaled = standardised(values.nan_to_num(), counts)
        found[name] = [counts, first, near.count, near.by_condition, near.radius, scaled]
    for ours, theirs in zip(*found.values(), strict=True):
        if ours.dtype.is_floating_point:
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)  # of one value, by 316
        else:
            assert torch.equal(ours, theirs)
    assert found["c"][1].min() == -1
    assert len(found["c"][2].unique()) > 2


def test_state_entropy():
    for states, k, entropy, radius in (
        (A[0], 1, 2.441215, 0.138629),
        (B[0], 1, 3.398587, 0.231049),
        (B[0], 2, 3.778399, 0.767528),
    ):
        expected = pytest.approx((entropy, radius), abs=1e-6)
        assert state_entropy(np.array(states, float), k) == expected
    with pytest.raises(UserError, match="needs more than 5 states; there are 5"):
        state_entropy(np.zeros((5, 2)), 5)


@pytest.mark.parametrize(("k", "less"), [(1, 0.577), (3, 0.176), (5, 0.103)])
def test_state_entropy_reads_too_low_for_few_neighbours(k, less):
    """specs/qcse.md 6: by log k - ψ(k)."""
    states = np.random.default_rng(0).standard_normal((5000, 3))
    exact = 1.5 * np.log(2 * np.pi * np.e)
    assert np.log(k) - digamma(k) == pytest.approx(less, abs=5e-4)
    assert exact - state_entropy(states, k).entropy == pytest.approx(less, abs=0.05)


@pytest.mark.parametrize("spread", [1, 100])
def test_the_saturation_warning(spread):
    """Gaussian states of 17 dimensions, M = 128, k = 25: unscaled, the squashed bonus is a constant."""
    rng = np.random.default_rng(0)
    states, q = rng.standard_normal((128, 17)), spread * rng.standard_normal(128)
    raw = np.tanh(estimate(states.tolist(), q.tolist(), 25)[2])
    assert raw.mean() > 0.985
    assert raw.std() < 0.003
    scaled = np.tanh(estimate(states.tolist(), q.tolist(), 25, default=True)[2])
    assert scaled.mean() == pytest.approx(0.08, abs=0.1)
    assert scaled.std() == pytest.approx(0.29, abs=0.1)


def test_of_many_dimensions_the_scaled_states_say_nothing():
    """The same with Ant's 111: every ε is a distance in Q, so that n = k - 1."""
    rng = np.random.default_rng(0)
    states, q = rng.standard_normal((128, 111)), rng.standard_normal(128)
    radius, count, _ = estimate(states.tolist(), q.tolist(), 25, default=True)
    z = (q - q.mean()) / np.sqrt(q.var() + 1e-5)
    distances = np.sort(np.abs(z[:, None] - z), axis=1)
    assert radius == pytest.approx(distances[:, 25], abs=1e-5)  # the first is the row itself
    assert count == [24] * 128
