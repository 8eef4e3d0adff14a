import torch
from torch import nn

from o2okit.nn import Adam, StackedConvNet, discrete_network

SEEDS = (4, 0, 7)
IMAGE = (2, 12, 10)
LAYERS = ((6, 4, 2), (5, 3, 1))


def network(seeds=SEEDS):
    return StackedConvNet(seeds, IMAGE, (7, 3), name="test", convolutions=LAYERS)


def torch_twin(stack, run) -> nn.Sequential:
    """The same network of one run, made of PyTorch's own convolutions; its channels come last as ours."""
    weights, layers = iter(stack.weights), []
    for filters, size, stride in LAYERS:
        weight, bias = next(weights)[run], next(weights)[run]
        layer = nn.Conv2d(len(weight) // size**2, filters, size, stride)
        own = weight.view(size, size, -1, filters).permute(3, 2, 0, 1)
        layers += [with_parameters(layer, own, bias), nn.ReLU()]
    layers += [ChannelsLast(), nn.Flatten()]
    for weight, bias in zip(weights, weights, strict=True):
        linear = nn.Linear(*weight[run].shape)
        layers += [with_parameters(linear, weight[run].T, bias[run]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ChannelsLast(nn.Module):
    def forward(self, images):
        return images.permute(0, 2, 3, 1)


def with_parameters(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias[0])
    return layer


def images(*shape):
    return torch.randint(0, 256, (*shape, *IMAGE), dtype=torch.uint8)


def test_forward_and_adam_agree_with_one_pytorch_network_per_run():
    torch.manual_seed(0)
    stack = network()
    twins = [torch_twin(stack, run) for run in range(3)]
    adam = Adam([stack], lr=1e-2)
    optimisers = [torch.optim.Adam(twin.parameters(), lr=1e-2) for twin in twins]
    for _ in range(4):
        x, wanted = images(3, 9), torch.randn(3, 9, 3)
        out = stack(x)
        adam.step((out - wanted).square().mean((1, 2)))
        for run, (twin, optimiser) in enumerate(zip(twins, optimisers, strict=True)):
            single = twin(x[run].float() / 255)
            torch.testing.assert_close(out[run], single, atol=1e-5, rtol=1e-4)
            optimiser.zero_grad()
            (single - wanted[run]).square().mean().backward()
            optimiser.step()
    for run, twin in enumerate(twins):
        changed = torch_twin(stack, run).parameters()
        for ours, theirs in zip(changed, twin.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_a_run_has_the_same_bits_alone_and_among_others():
    torch.manual_seed(1)
    among, alone = network(), network(SEEDS[1:2])
    optimisers = Adam([among], lr=1e-2), Adam([alone], lr=1e-2)
    for batch in (1, 5, 32):
        x = images(3, batch)
        outs = among(x), alone(x[1:2])
        assert (outs[0][1] == outs[1][0]).all()
        for adam, out in zip(optimisers, outs, strict=True):
            adam.step(out.square().mean((1, 2)))
    assert (among.pack(among.flat)[1] == alone.pack(alone.flat)[0]).all()


def test_copies_are_their_own_and_seeds_decide():
    stack = network()
    twin = stack.copy()
    x = images(3, 4)
    assert (twin(x) == stack(x)).all()
    Adam([stack], lr=1e-2).step(stack(x).square().mean((1, 2)))
    assert (twin(x) != stack(x)).any()
    twin.copy_from(stack)
    assert (twin(x) == stack(x)).all()
    same = network((0, 0, 1)).weights[0]
    assert (same[0] == same[1]).all()
    assert (same[0] != same[2]).any()


def test_what_is_observed_decides_the_kind_of_network():
    games = discrete_network(SEEDS, 100, (4, 84, 84), (512, 6), name="q")
    assert [tuple(shape) for shape in games.shapes[::2]] == [
        *((8 * 8 * 4, 32), (4 * 4 * 32, 64), (3 * 3 * 64, 64)),
        *((7 * 7 * 64, 512), (512, 6)),
    ], "Mnih et al., 2015"
    assert discrete_network(SEEDS, 100, (), (8, 6), name="q").sizes == (100, 8, 6)
