"""A whole network as one node of the graph.

PyTorch's own graph of the same products needs a node, a copy and several small kernels per layer. Here the
gradient of all parameters goes straight into one tensor, and the hidden layers' memory is used again.

Large batches (CQL's) pass through the network in parts that fit into the processor's cache.

With ``half`` the products between hidden layers, nearly all of the work, run in bfloat16. The first layer,
which sees observations, and the last, whose output is a value or an action, stay in float32.

A layer is a weight ``[N, in, out]``, a bias ``[N, 1, out]`` and, where it has a LayerNorm before its ReLU,
that one's gain and shift, ``[N, 1, out]`` each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of a part. In float32 256 are best (AVX2; all at once take 1.1 times as long); in bfloat16, which has
# half the bytes, 1,024 (AVX512-BF16; 256 take 1.1 times as long).
ROWS = {False: 256, True: 1024}
# Outputs up to this width are computed transposed: a product that yields a few columns takes several times as
# long as one that yields as few rows (MKL; at width 16 no longer).
NARROW = 12
EPSILON = 1e-5  # added to a LayerNorm's variance, as PyTorch's

Layers = list[tuple[Tensor, ...]]


def mean_per_run(x: Tensor) -> Tensor:
    """Mean of ``[R, ...]`` over all but the run axis, ``[R]``: the same bits for one run and for several.

    For values that enter an update; the mean of a loss only scales its gradient.
    """
    return never_alone(x.flatten(1)).mean(1)[: len(x)]


def never_alone(rows: Tensor) -> Tensor:
    """``[N, ...]``, one as two equal ones: PyTorch sums a lone row in another order than one of several."""
    return rows.expand(2, *rows.shape[1:]) if len(rows) == 1 else rows


class Products(torch.autograd.Function):
    """Layers of ``relu(norm(x W + b))``, most networks without norm, the last layer without ReLU.

    The backward pass can be taken once: it gives the hidden layers' memory back.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, flat: Tensor, network: Any, only: int | None, half: bool
    ) -> Tensor:
        """``x`` ``[N, B, in]`` (or indices ``[N, B]``) -> ``[N, B, out]`` for ``N`` stacked networks.

        ``flat`` holds the parameters; it is an argument so that it gets its gradient.
        """
        layers = network.layers(only)
        if half:
            hidden = [(w.bfloat16(), b.bfloat16()) for w, b in layers[1:-1]]
            layers = [layers[0], *hidden, *layers[max(1, len(layers) - 1) :]]
        if network.one_hot:
            x = x + network.first_row
        rows = x.shape[1] if x.device.type == "cuda" else ROWS[half]
        keep = any(ctx.needs_input_grad)
        outputs, hidden = [], []
        for part in _parts(x, rows):
            output, kept = _upwards(part, layers, network.one_hot)
            outputs.append(output)
            if keep:
                hidden += kept
            else:
                _give(kept)
        if keep:
            ctx.network, ctx.layers, ctx.rows = network, layers, rows
            ctx.save_for_backward(x, flat, *hidden)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Gradients of ``x`` and ``flat``, each where it is wanted."""
        network, layers, (x, flat, *hidden) = ctx.network, ctx.layers, ctx.saved_tensors
        if layers is None:
            raise RuntimeError("a network's backward pass can be taken once: evaluate it again")
        wants_x, wants_flat, *_ = ctx.needs_input_grad
        gradient, gradients = None, None
        if wants_flat:
            gradient = torch.empty_like(flat)
            gradient[flat.numel() - network.padding :].zero_()
            gradients = network.layer_views(gradient)
        grad = grad.contiguous()
        # A product with a transposed bfloat16 matrix makes a copy of it first: once, not for every part.
        half = torch.bfloat16
        layers = [(w.mT.contiguous().mT if w.dtype == half else w, *rest) for w, *rest in layers]
        parts, to_x = list(zip(_parts(x, ctx.rows), _parts(grad, ctx.rows), strict=True)), []
        each = len(hidden) // len(parts)
        for number, (below, above) in enumerate(parts):
            kept = hidden[number * each : (number + 1) * each]
            to_x.append(
                _downwards(
                    above, below, kept, layers, gradients, number > 0, network.one_hot, wants_x
                )
            )
        ctx.layers = None
        _give(hidden)
        if wants_x:
            to_x = to_x[0] if len(to_x) == 1 else torch.cat(to_x, dim=1)
        return to_x if wants_x else None, gradient, None, None, None


def _parts(x: Tensor, rows: int) -> Sequence[Tensor]:
    """``[N, B, ...]`` in parts of at most ``rows`` rows."""
    return (x,) if x.shape[1] <= rows else x.split(rows, dim=1)


def _upwards(x: Tensor, layers: Layers, one_hot: bool) -> tuple[Tensor, list[Tensor]]:
    """(output, what ``_downwards`` needs) of some rows.

    Of each hidden layer that is its activations, as the next layer's product takes them, after what its
    LayerNorm needs, if it has one.
    """
    size, h, kept = (layers[0][0].shape[0], x.shape[1]), x, []
    for number, (weight, bias, *norm) in enumerate(layers):
        if number:
            before, h = h, _as(weight, h.relu_())
            kept.append(h)
            if h is not before:
                _give([before])
        width = weight.shape[-1]
        last = number == len(layers) - 1  # the caller keeps the output
        into = None if last else _take(*size, width, like=weight)
        if number == 0 and one_hot:
            h = torch.add(F.embedding(x, weight.view(-1, width)), bias, out=into)
        elif last and width <= NARROW:
            h = torch.baddbmm(bias.mT, _rows(weight), h.mT)[:, :width].mT.contiguous()
        else:
            h = torch.baddbmm(bias, h, weight, out=into)
        if norm:
            kept += _normalise(h, *norm)
    return h, kept


def _normalise(h: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm in place; (the values before gain and shift, 1/σ ``[N, B, 1]``)."""
    width = [h.shape[-1]]
    normal, scale = _take(*h.shape, like=h), _take(*h.shape[:-1], 1, like=h)
    mean = _take(*h.shape[:-1], 1, like=h)
    torch.ops.aten.native_layer_norm.out(
        h, width, None, None, EPSILON, out0=normal, out1=mean, out2=scale
    )
    _give([mean])
    torch.addcmul(shift, normal, gain, out=h)
    return normal, scale


def _normalise_backward(
    grad: Tensor,
    normal: Tensor,
    scale: Tensor,
    gain: Tensor,
    gradients: Sequence[Tensor],
    add: bool,
) -> Tensor:
    """The gradient of a LayerNorm's input, in place of ``grad``; its parameters' as in ``_downwards``."""
    if gradients:
        _store(gradients, (_sum_of_rows(grad * normal), _sum_of_rows(grad)), add)
    grad.mul_(gain)
    # g - mean(g) - z mean(g z), times 1/σ
    along = (grad * normal).mean(-1, keepdim=True)
    grad.sub_(grad.mean(-1, keepdim=True)).addcmul_(normal, along, value=-1)
    return grad.mul_(scale)


def _store(targets: Sequence[Tensor], values: Sequence[Tensor | None], add: bool) -> None:
    """Writes gradients to their places, or adds them there."""
    for target, value in zip(targets, values, strict=True):
        if value is not None:
            target.add_(value) if add else target.copy_(value)


def _downwards(
    grad: Tensor,
    x: Tensor,
    kept: list[Tensor],
    layers: Layers,
    gradients: Layers | None,
    add: bool,
    one_hot: bool,
    wants_x: bool,
) -> Tensor | None:
    """The gradient of some rows' input; the parameters' is written to ``gradients`` or added there."""
    used, kept = [], list(kept)
    for number in range(len(layers) - 1, -1, -1):
        weight, below = layers[number][0], kept.pop() if number else x
        if grad.dtype != weight.dtype:
            grad = _as(weight, grad)
            used.append(grad)
        if gradients is not None:
            into, bias_into, *_ = gradients[number]
            if number == 0 and one_hot:
                count = weight.shape[0] * weight.shape[1]
                product = torch.ops.aten.embedding_dense_backward(grad, below, count, -1, False)
                product = product.view_as(into)
            elif number == len(layers) - 1 and weight.shape[-1] <= NARROW:
                product = torch.bmm(_rows(grad), below)[:, : weight.shape[-1]].mT
            elif grad.dtype == into.dtype:
                torch.baddbmm(into, below.mT, grad, beta=float(add), out=into)
                product = None
            else:
                product = torch.bmm(below.mT, grad)
            _store((into, bias_into), (product, _sum_of_rows(grad)), add)
        if number:
            product = torch.mul if weight.shape[-1] == 1 else torch.bmm
            grad = product(grad, weight.mT, out=_take(*below.shape, like=weight))
            torch.ops.aten.threshold_backward.grad_input(grad, below, 0, grad_input=grad)
            used.append(grad)
            if norm := layers[number - 1][2:]:
                scale, normal = kept.pop(), kept.pop()
                into = gradients[number - 1][2:] if gradients is not None else ()
                grad = _normalise_backward(grad, normal, scale, norm[0], into, add)
        else:
            grad = torch.bmm(grad, weight.mT) if wants_x else None
    _give(used)
    return grad


def _as(weight: Tensor, x: Tensor) -> Tensor:
    """``x`` in the precision of a layer's product: itself, or a copy in a buffer."""
    return x if x.dtype == weight.dtype else _take(*x.shape, like=weight).copy_(x)


def _sum_of_rows(grad: Tensor) -> Tensor:
    """``[N, B, k]`` -> ``[N, 1, k]``, one summed as several would be."""
    return never_alone(grad).sum(1, keepdim=True, dtype=torch.float32)[: grad.shape[0]]


def _rows(columns: Tensor) -> Tensor:
    """``[N, k, n]`` as ``[N, n, k]``, one column as two equal rows: a product with a vector takes another
    path for one network than for several, and rounds differently; a product with a matrix does not.
    """
    rows = columns.mT
    return (rows.expand(-1, 2, -1) if rows.shape[1] == 1 else rows).contiguous()


Buffers = dict[tuple, list[Tensor]]
_free: Buffers = {}
_recorded: Buffers = {}


def _take(*shape: int, like: Tensor) -> Tensor:
    """A buffer that nothing else uses until it is given back.

    The allocator gives large blocks back to the system and gets them again, page by page, at every update.
    """
    if like.is_cuda:  # PyTorch's own allocator does this there
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    free = _free.get((shape, like.dtype, like.device))
    if free:
        return free.pop()
    with torch.inference_mode(False):  # others may take it later, who are in no such mode
        return torch.empty(shape, dtype=like.dtype, device=like.device)


def _give(buffers: Sequence[Tensor]) -> None:
    """Returns buffers that ``_take`` gave."""
    for buffer in buffers:
        if buffer.is_cuda:
            return
        key = (tuple(buffer.shape), buffer.dtype, buffer.device)
        _free.setdefault(key, []).append(buffer)


@contextmanager
def recorded_buffers() -> Iterator[None]:
    """Within it buffers are those of recordings, which share them with each other alone.

    A replay writes to its buffers whenever it is done, whoever may have taken them in the meantime.
    """
    global _free
    for key, buffers in _free.items():
        _recorded.setdefault(key, []).extend(buffers)
    _free = _recorded
    try:
        yield
    finally:
        _free = {}


def release_buffers() -> None:
    """Forgets all buffers: a cohort is trained, the next one has other shapes."""
    _free.clear()
    _recorded.clear()
