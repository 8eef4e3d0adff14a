"""A replay does what the work does: in place, in fresh memory, through views, with autograd."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from o2okit.errors import UserError
from o2okit.training.recording import EAGER, Graph, Recorder


def linear(x, weight):
    """A step of gradient descent, in place; the loss."""
    loss = (x @ weight).relu().square().mean()
    (gradient,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        weight.sub_(gradient, alpha=0.1)
    return loss.detach()


WORK = {
    "fresh": lambda x: x * 2 + 1,
    "view": lambda x: x[1:].T,
    "view that is written to": lambda x: x.clone()[:, 1].mul_(3),
    "copy": lambda x: x.clone().add_(1),
    "transposed copy": lambda x: x.T.contiguous(),
    "precision": lambda x: x.bfloat16().float() + x.double().sum(),
    "zeros that are written to": lambda x: torch.zeros_like(x).scatter_add_(1, (x > 0).long(), x),
    "ones": lambda x: torch.ones_like(x) - x,
    "empty": lambda x: torch.empty(3, 4).copy_(x),
    "several results": lambda x: x.sort(dim=1),
    "out": lambda x: torch.mul(x, x, out=torch.empty(3, 4)),
    "list": lambda x: torch.split_with_sizes_copy(x, [1, 3], dim=1),
    "constants": lambda x: (torch.ones(3, 4).tril() + 1) * x + torch.arange(4),
    "a constant that is written to": lambda x: torch.ones(3, 4).tril().add_(x),
    "index": lambda x: x[(x[:, 0] > 0).long()],
    "choice": lambda x: torch.where(x > 0, x, 0.0).amax(1),
    "norm": lambda x: torch.nn.functional.layer_norm(x, (4,)),
    "fixed number": lambda x: x + torch.tensor(2.0),
    "a loss whose variant gives something else": lambda x: torch.stack(
        [F.binary_cross_entropy(x.sigmoid(), torch.full_like(x, 0.3))]
    ),
    "losses whose variants change a shape": lambda x: torch.stack(
        [loss(x, x.flip(0)) for loss in (F.mse_loss, F.huber_loss, F.smooth_l1_loss)]
    ),
}


def numbers(step):
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("name", WORK)
def test_a_replay_gives_the_same_bits(name):
    work, recorder, x = WORK[name], Recorder("cpu"), torch.empty(3, 4)
    for step in range(EAGER + 4):
        x.copy_(numbers(step))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results = recorder(None, lambda: work(x))
        for found, expected in zip(results, work(x), strict=True):
            assert torch.equal(found, expected)
    assert len(recorder.recorded) == 1


def test_autograd_and_changes_in_place_are_replayed_and_the_work_is_not_called_again():
    calls, recorder, x = [], Recorder("cpu"), torch.empty(3, 4)
    weight, other = (numbers(9)[:, :2].T.repeat(2, 1).requires_grad_() for _ in range(2))

    def work():
        calls.append(None)
        return linear(x, weight)

    losses = []
    for step in range(EAGER + 5):
        x.copy_(numbers(step))
        loss = recorder(None, work)
        assert torch.equal(loss, linear(x, other))
        assert not loss.requires_grad
        losses.append(loss.item())
    assert torch.equal(weight, other)
    assert len(set(losses)) == EAGER + 5
    assert len(calls) == EAGER + 1


def test_a_result_that_is_changed_afterwards_is_made_again():
    recorder = Recorder("cpu")
    for _ in range(EAGER + 3):
        found = recorder(None, lambda: torch.ones(2) + 1)
        assert found.tolist() == [2, 2]
        found.add_(1)


def test_there_is_a_recording_for_each_branch():
    recorder, x = Recorder("cpu"), torch.tensor(1.0)
    for step in range(12):
        double = step % 2 == 0
        found = recorder(double, lambda by=2 if double else 3: x * by)
        assert found == (2 if double else 3)
    assert recorder.recorded.keys() == {True, False}


@pytest.mark.parametrize(
    ("work", "named"),
    [
        (lambda x: x * x.sum().item(), "aten::_local_scalar_dense"),
        (lambda x: x if (x > 0).all() else -x, "aten::"),
        (lambda x: x[x > 0], "aten::index"),
        (lambda x: x.nonzero(), "aten::nonzero"),
        (lambda x: x + torch.randn(3, 4), "aten::randn"),
        (lambda x: x.normal_(), "aten::normal_"),
        (lambda x: x.to_sparse() @ x.T, "sparse"),
    ],
)
def test_work_that_depends_on_numbers_or_luck_is_refused_and_says_what_to_do(work, named):
    recorder, x = Recorder("cpu"), numbers(0)
    for _ in range(EAGER):
        recorder(None, lambda: work(x))
    with pytest.raises(UserError, match=f"{named}.*tensors that stay.*O2OKIT_RECORD=0"):
        recorder(None, lambda: work(x))
    assert not recorder.recorded


def test_an_error_of_the_work_itself_stays_what_it_is():
    recorder, x = Recorder("cpu"), numbers(0)
    for _ in range(EAGER):
        recorder(None, lambda: x)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        recorder(None, lambda: x @ x)


def test_a_gpus_refusal_says_what_to_do(monkeypatch):
    class Nothing:
        def __init__(self, *arguments, **named):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *error):
            pass

    for name in ("Stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(Graph, "eager", lambda self, work: "eager")
    recorder = Recorder("cuda")

    def fails():
        raise RuntimeError("operation not permitted when stream is capturing")

    assert [recorder("branch", fails) for _ in range(EAGER)] == ["eager"] * EAGER
    with pytest.raises(UserError, match=r"not permitted.*tensors that stay.*set O2OKIT_RECORD=0"):
        recorder("branch", fails)
    assert not recorder.recorded
