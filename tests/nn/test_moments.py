"""Running moments against those of all values at once."""

import pytest
import torch

from o2okit.nn import RunningMoments


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_batches_of_any_size_add_up(shape):
    rng, moments, seen = torch.Generator().manual_seed(0), RunningMoments(4, shape), []
    for size in (1, 7, 300, 2):
        values = torch.randn(4, size, *shape, generator=rng) * 3 + 1000
        moments.add(values)
        seen.append(values.double())
    everything = torch.cat(seen, dim=1)
    assert torch.allclose(moments.mean.double(), everything.mean(1), rtol=1e-6)
    assert torch.allclose(moments.std.double(), everything.std(1, unbiased=False), rtol=1e-6)


def test_nothing_seen_and_one_value():
    moments = RunningMoments(2, (3,))
    assert (moments.mean == 0).all()
    assert (moments.std == 0).all()
    moments.add(torch.full((2, 1, 3), 7.0))
    assert (moments.mean == 7).all()
    assert (moments.std == 0).all()


def test_the_state_is_run_by_run_and_continues():
    one, both = RunningMoments(1), RunningMoments(2)
    values = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    both.add(values)
    one.load_state({key: value[1:] for key, value in both.state().items()})
    one.add(values[1:])
    both.add(values)
    assert torch.equal(one.std[0], both.std[1])


@pytest.mark.parametrize("shape", [(), (11,)])
def test_a_run_has_the_same_bits_alone_and_among_others(shape):
    rng = torch.Generator().manual_seed(0)
    for _ in range(100):  # a sum in another order differs now and then only
        three, one = RunningMoments(3, shape), RunningMoments(1, shape)
        for _ in range(3):
            values = torch.randn(3, 16, *shape, generator=rng) ** 4
            three.add(values)
            one.add(values[1:2].clone())
        assert torch.equal(three.moments[:, 1], one.moments[:, 0])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_values_that_do_not_count(shape):
    """Each run has its own; one has none in a batch."""
    rng, moments, seen = torch.Generator().manual_seed(0), RunningMoments(3, shape), [[], [], []]
    for size in (7, 30, 2):
        values = torch.randn(3, size, *shape, generator=rng) * 3 + 10
        counts = torch.rand(3, size, generator=rng) < 0.5
        counts[1] &= size != 7
        moments.add(values, counts)
        for run in range(3):
            seen[run].append(values[run][counts[run]].double())
    for run, parts in enumerate(seen):
        everything = torch.cat(parts)
        assert torch.allclose(moments.mean[run].double(), everything.mean(0), rtol=1e-5)
        assert torch.allclose(
            moments.std[run].double(), everything.std(0, unbiased=False), rtol=1e-5
        )
