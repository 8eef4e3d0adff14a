import copy

import pytest
import torch
from torch import nn

from o2okit.nn import Adam, StackedMLP

SEEDS = (4, 0, 7)


def torch_twin(stack: StackedMLP, run: int) -> nn.Sequential:
    """The same network of one run, made of PyTorch's own layers."""
    layers: list[nn.Module] = []
    for number in range(0, len(stack.weights), 2):
        weight, bias = stack.weights[number][run], stack.weights[number + 1][run]
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias[0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("one_hot", [False, True])
def test_forward_and_adam_agree_with_one_pytorch_network_per_run(one_hot):
    stack = StackedMLP(SEEDS, (9, 32, 16, 5), one_hot=one_hot, name="test")
    twins = [torch_twin(stack, run) for run in range(3)]
    adam = Adam([stack], lr=1e-2)
    optimisers = [torch.optim.Adam(twin.parameters(), lr=1e-2) for twin in twins]
    torch.manual_seed(0)
    for _ in range(5):
        x = torch.randint(0, 9, (3, 20)) if one_hot else torch.randn(3, 20, 9)
        wanted = torch.randn(3, 20, 5)
        out = stack(x)
        # A second evaluation in one loss: the gradients of both must add up.
        adam.step((out - wanted).square().mean((1, 2)) + stack(x.flip(1)[:, :7]).mean((1, 2)))
        for run, (twin, optimiser) in enumerate(zip(twins, optimisers, strict=True)):
            own = nn.functional.one_hot(x[run], 9).float() if one_hot else x[run]
            single = twin(own)
            torch.testing.assert_close(out[run], single, atol=1e-5, rtol=1e-5)
            optimiser.zero_grad()
            ((single - wanted[run]).square().mean() + twin(own.flip(0)[:7]).mean()).backward()
            optimiser.step()
    for run, twin in enumerate(twins):
        for ours, theirs in zip(
            torch_twin(stack, run).parameters(), twin.parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_initial_parameters_depend_on_the_seed_and_the_name_alone():
    three = StackedMLP(SEEDS, (9, 8, 2), name="q")
    one = StackedMLP((0,), (9, 8, 2), name="q")
    other = StackedMLP((0,), (9, 8, 2), name="v")
    for a, b, c in zip(three.weights, one.weights, other.weights, strict=True):
        assert (a[1] == b[0]).all()
        assert (b != c).any()
    bound = 9**-0.5
    assert three.weights[0].abs().max() <= bound
    assert three.weights[0].std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_no_gradient_crosses_the_run_axis():
    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    loss = stack(torch.randn(3, 6, 9)).square().mean((1, 2))
    (flat,) = torch.autograd.grad(loss[1], stack.flat)
    for gradient in stack.views(flat):
        assert (gradient[[0, 2]] == 0).all()
        assert (gradient[1] != 0).any()


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")  # a product with one row differs only with several
@pytest.mark.parametrize("runs", [1, 2, 5, 11])
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_run_has_the_same_bits_in_every_cohort(runs, one_hot):
    def trained(seeds):
        # Wide enough for the products of one run to take another path than those of several.
        stack = StackedMLP(seeds, (9, 256, 256, 3), one_hot=one_hot, name="q")
        adam = Adam([stack], lr=1e-2)
        rng = torch.Generator().manual_seed(0)
        for _ in range(30):
            x = (
                torch.randint(0, 9, (1, 64), generator=rng)
                if one_hot
                else torch.randn(1, 64, 9, generator=rng)
            )
            x = x.expand(len(seeds), *x.shape[1:])
            adam.step(stack(x).square().mean((1, 2)) - stack(x[:, :1]).mean((1, 2)))
        return stack.pack(stack.flat)[0]

    assert (trained((3,)) == trained((3, *range(10, 10 + runs - 1)))).all()
    assert (trained((3,)) != trained((4,))).any()


def test_a_single_row_gives_what_it_gives_among_others():
    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    x = torch.randn(3, 5, 9)
    torch.testing.assert_close(stack(x[:, 2:3]), stack(x)[:, 2:3])


def test_a_copy_is_frozen_and_independent():
    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    target, x = stack.copy(), torch.randn(3, 5, 9)
    before = target(x)
    assert not before.requires_grad
    Adam([stack], lr=0.1).step(stack(x).square().mean((1, 2)))
    assert (target(x) == before).all()
    assert (stack(x) != before).any()
    target.copy_from(stack)
    assert (target(x) == stack(x)).all()


def test_pack_and_unpack_are_inverse_and_keep_runs_apart():
    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    packed = stack.pack(stack.flat)
    assert packed.shape == (3, 9 * 8 + 8 + 8 * 2 + 2)
    assert (
        packed[1]
        == StackedMLP((0,), (9, 8, 2), name="q").pack(StackedMLP((0,), (9, 8, 2), name="q").flat)[0]
    ).all()
    other = StackedMLP((1, 2, 3), (9, 8, 2), name="q")
    other.unpack(packed, other.flat)
    assert (other.flat == stack.flat).all()


def test_adam_state_continues_exactly():
    def step(stack, adam, rng):
        adam.step(stack(torch.randn(3, 8, 9, generator=rng)).square().mean((1, 2)))

    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    adam, rng = Adam([stack], lr=1e-2), torch.Generator().manual_seed(1)
    for _ in range(3):
        step(stack, adam, rng)
    twin = StackedMLP(SEEDS, (9, 8, 2), name="q")
    resumed, same_rng = Adam([twin], lr=1e-2), torch.Generator()
    twin.unpack(stack.pack(stack.flat), twin.flat)
    resumed.load_state(copy.deepcopy(adam.state()))
    same_rng.set_state(rng.get_state())
    for _ in range(3):
        step(stack, adam, rng)
        step(twin, resumed, same_rng)
    assert (stack.flat == twin.flat).all()
