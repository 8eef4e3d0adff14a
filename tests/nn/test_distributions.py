"""Functions that round alike wherever an element stands in its tensor."""

import pytest
import torch

from o2okit.nn.distributions import EDGE, atanh, logit, sigmoid, softplus

X = torch.randn(2_000, generator=torch.Generator().manual_seed(0))
CASES = [
    (atanh, torch.atanh, X.tanh() * EDGE),
    (sigmoid, torch.sigmoid, 3 * X),
    (logit, torch.logit, X.sigmoid()),
    (softplus, torch.nn.functional.softplus, 3 * X),
]


@pytest.mark.parametrize(("ours", "theirs", "x"), CASES)
def test_values_are_pytorchs_in_double_precision(ours, theirs, x):
    assert torch.allclose(ours(x).double(), theirs(x.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs", "x"), CASES)
def test_an_element_rounds_alike_in_every_tensor(ours, theirs, x):
    whole = ours(x)
    for start in range(0, 1_900, 13):
        for n in (1, 3, 7, 13, 24):
            assert torch.equal(ours(x[start : start + n].clone()), whole[start : start + n])


def test_borders():
    edge = torch.tensor([EDGE, -EDGE])
    assert torch.allclose(atanh(edge), torch.atanh(edge.double()).float(), atol=1e-2)
    certain = logit(torch.tensor([0.0, 1.0])).requires_grad_()
    weight = sigmoid(certain)
    assert weight.tolist() == [0, 1]
    assert torch.autograd.grad(weight.sum(), certain)[0].tolist() == [0, 0]
