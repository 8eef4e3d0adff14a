import copy

import pytest
import torch
from torch import nn

from o2okit.errors import UserError
from o2okit.nn import Adam, StackedMLP
from o2okit.nn.adam import pieces

SEEDS = (4, 0, 7)


def torch_twin(stack: StackedMLP, run: int) -> nn.Sequential:
    """The same network of one run, made of PyTorch's own layers."""
    layers: list[nn.Module] = []
    for parts in stack.layer_views(stack.flat):
        weight, *vectors = (part[run].T.squeeze(-1).clone() for part in parts)
        made = [nn.Linear(*weight.T.shape)]
        with torch.no_grad():
            made[0].weight.copy_(weight)
            made[0].bias.copy_(vectors[0])
            if len(vectors) == 3:
                made.append(nn.LayerNorm(len(vectors[0])))
                made[1].weight.copy_(vectors[1])
                made[1].bias.copy_(vectors[2])
        layers += [*made, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer norm"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_forward_and_adam_agree_with_one_pytorch_network_per_run(one_hot, layer_norm):
    stack = StackedMLP(SEEDS, (9, 32, 16, 5), one_hot=one_hot, layer_norm=layer_norm, name="test")
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
@pytest.mark.parametrize(
    "kind",
    [{"one_hot": False}, {"one_hot": True}, {"one_hot": False, "layer_norm": True}],
    ids=["values", "indices", "layer norm"],
)
def test_a_run_has_the_same_bits_in_every_cohort(runs, kind):
    one_hot = kind["one_hot"]

    def trained(seeds):
        # Wide enough for the products of one run to take another path than those of several.
        stack = StackedMLP(seeds, (9, 256, 256, 3), name="q", **kind)
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


@pytest.mark.parametrize("split", [False, True])
def test_adam_is_pytorchs_to_the_last_bit(split, monkeypatch):
    """Whole, as on a processor, and in pieces, as on a GPU."""
    ours, theirs = (StackedMLP((0, 1), (5, 30, 2), name="n") for _ in range(2))
    if split:
        monkeypatch.setattr("o2okit.nn.adam.LEAST", 32)
        monkeypatch.setattr(Adam, "_pieces", staticmethod(pieces))
        parts = pieces([ours.flat, theirs.flat[:100]])
        assert max(len(part) for part in parts) == 32
        assert torch.equal(torch.cat(parts), torch.cat([ours.flat, theirs.flat[:100]]))
        assert [part.data_ptr() for part in parts][:2] == [
            ours.flat.data_ptr(),
            ours.flat[32:].data_ptr(),
        ]
    adam, rng = Adam([ours], lr=3e-3), torch.Generator().manual_seed(0)
    oracle = torch.optim.Adam([theirs.flat], lr=3e-3, fused=True)
    for step in range(20):
        if step == 10:
            adam.lr = oracle.param_groups[0]["lr"] = 1e-4
        theirs.flat.grad = torch.randn(ours.flat.shape, generator=rng)
        adam.apply([theirs.flat.grad])
        oracle.step()
        assert torch.equal(ours.flat, theirs.flat)
    assert adam.state()["steps"].tolist() == [20, 20]


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


# --- ensembles, large batches, bfloat16 ---------------------------------------------------------
def plain(stack, x, run, member):
    """The same by single products."""
    h = x
    layers = stack.layer_views(stack.flat.detach())
    for number, (weight, bias) in enumerate(layers):
        index = run * (stack.members or 1) + member
        h = h @ weight[index] + bias[index]
        h = torch.relu(h) if number < len(layers) - 1 else h
    return h


def test_members_are_networks_of_their_own():
    stack = StackedMLP(SEEDS, (9, 8, 8, 2), members=2, name="q")
    x = torch.randn(3, 6, 9)
    out = stack(x)
    assert out.shape == (3, 2, 6, 2)
    for run in range(3):
        for member in range(2):
            assert torch.allclose(out[run, member], plain(stack, x[run], run, member), atol=1e-6)
            alone = stack(x, only=member)
            assert torch.allclose(alone[run], out[run, member], atol=1e-6)
    own = stack(torch.stack([x, 2 * x], dim=1))
    assert torch.allclose(own[:, 0], out[:, 0], atol=1e-6)
    assert torch.allclose(own[1, 1], plain(stack, 2 * x[1], 1, 1), atol=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer norm"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_of_several_parts_has_the_gradients_of_autograd(frozen, layer_norm):
    """600 rows pass in three parts."""
    stack = StackedMLP(SEEDS, (9, 8, 8, 1), members=2, layer_norm=layer_norm, name="q")
    if layer_norm:  # gains and shifts that are not 1 and 0
        with torch.no_grad():
            stack.flat += 0.1 * torch.randn(len(stack.flat))
    x = torch.randn(3, 600, 9, requires_grad=True)
    wanted = [x] if frozen else [x, stack.flat]
    ours = torch.autograd.grad(stack(x, frozen=frozen).square().sum(), wanted)
    reference = stack.flat.detach().clone().requires_grad_()
    layers = stack.layer_views(reference)  # detached: rebuilt from slices that keep the graph
    flat = [part for layer in layers for part in layer]
    parts = iter(reference.split([*(part.numel() for part in flat), stack.padding]))
    h = x[:, None].expand(-1, 2, -1, -1).reshape(6, 600, 9)
    for number, layer in enumerate(layers):
        weight, bias, *norm = (next(parts).view(part.shape) for part in layer)
        h = torch.baddbmm(bias, h, weight)
        if norm:
            h = torch.nn.functional.layer_norm(h, h.shape[-1:]) * norm[0] + norm[1]
        h = torch.relu(h) if number < len(layers) - 1 else h
    theirs = torch.autograd.grad(h.square().sum(), [x] if frozen else [x, reference])
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_second_backward_pass_is_refused():
    stack = StackedMLP(SEEDS, (9, 8, 2), name="q")
    loss = stack(torch.randn(3, 6, 9)).sum()
    torch.autograd.grad(loss, stack.flat, retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        torch.autograd.grad(loss, stack.flat)


@pytest.mark.parametrize(
    ("mode", "many", "rough"),
    [("0", True, False), ("1", False, False), ("1", True, True), ("all", False, True)],
)
@pytest.mark.parametrize("sizes", [(23, 256, 256, 1), (17, 256, 256, 256, 20), (5, 256, 2)])
def test_bfloat16_rounds_products_between_hidden_layers_alone(
    sizes, mode, many, rough, monkeypatch
):
    """Relative error of output and gradient: about 2^-8 per product; without hidden products none."""

    def results(mode):
        monkeypatch.setenv("O2OKIT_BFLOAT16", mode)
        stack = StackedMLP((0,), sizes, members=2, name="q")
        out = stack(torch.linspace(-2, 2, 1500 * sizes[0]).view(1, 1500, sizes[0]), many=many)
        return out, torch.autograd.grad(out.square().mean(), stack.flat)[0]

    for exact, ours in zip(results("0"), results(mode), strict=True):
        assert ours.dtype == torch.float32
        error = ((ours - exact).norm() / exact.norm()).item()
        if rough and len(sizes) > 3:
            assert 0 < error < 0.02
        else:
            assert error < 1e-6  # the parts of a batch are others


@pytest.mark.parametrize("sizes", [(23, 256, 256, 1), (17, 256, 256, 12)])
def test_bfloat16_gives_a_run_the_same_bits_in_every_cohort(sizes, monkeypatch):
    monkeypatch.setenv("O2OKIT_BFLOAT16", "all")
    x = torch.randn(3, 256, sizes[0], generator=torch.Generator().manual_seed(0))

    def results(seeds, x):
        stack = StackedMLP(seeds, sizes, members=2, name="q")
        out = stack(x)
        return out, stack.pack(
            torch.autograd.grad(out.square().mean((1, 2, 3)).sum(), stack.flat)[0]
        )

    for together, alone in zip(results((0, 1, 2), x), results((1,), x[1:2]), strict=True):
        assert (together[1] == alone[0]).all()


def test_a_misspelt_precision_is_refused(monkeypatch):
    monkeypatch.setenv("O2OKIT_BFLOAT16", "yes")
    with pytest.raises(UserError, match="must be one of auto, 0, 1, all; got 'yes'"):
        StackedMLP((0,), (2, 2, 2), name="q")


@pytest.mark.parametrize("width", [1, 2, 6, 12, 13])
def test_narrow_outputs(width):
    """Computed transposed up to a width; an output of one column is two equal rows."""
    stack = StackedMLP(SEEDS, (9, 16, width), members=2, name="q")
    x = torch.randn(3, 5, 9)
    out = stack(x)
    assert out.shape == (3, 2, 5, width)
    assert out.is_contiguous()
    for run, member in ((0, 0), (2, 1)):
        assert torch.allclose(out[run, member], plain(stack, x[run], run, member), atol=1e-6)


@pytest.mark.parametrize("initialiser", ["orthogonal", "xavier"])
def test_initialisers(initialiser):
    stack = StackedMLP(
        (0, 1), (64, 64, 4), name="q", initialiser=initialiser, gains=(2.0, 0.01), members=2
    )
    first, bias = stack.weights[0], stack.weights[1]
    assert (bias == 0).all()
    if initialiser == "orthogonal":
        product = first @ first.mT
        assert torch.allclose(product, 4 * torch.eye(64).expand_as(product), atol=1e-4)
    else:
        assert first.abs().max() <= 2 * (6 / 128) ** 0.5
    assert stack.weights[2].abs().max() < 0.02
    assert (first[0] != first[1]).any()
    with pytest.raises(UserError, match="Allowed: uniform, orthogonal, xavier"):
        StackedMLP((0,), (2, 2, 2), name="q", initialiser="ortogonal")
