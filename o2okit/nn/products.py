"""A whole network as one node of the graph.

PyTorch's own graph of the same products needs a node, a copy and several small kernels per layer. Here the
gradient of all parameters goes straight into one tensor, and the hidden layers' memory is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_per_run(x: Tensor) -> Tensor:
    """Mean of ``[R, ...]`` over all but the run axis, ``[R]``: the same bits for one run and for several.

    For values that enter an update; the mean of a loss only scales its gradient.
    """
    rows = x.flatten(1)
    return (rows.expand(2, -1) if len(rows) == 1 else rows).mean(1)[: len(x)]


class Products(torch.autograd.Function):
    """Layers of ``relu(x W + b)``, the last without ReLU.

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
            x, layers = x.bfloat16(), [(w.bfloat16(), b.bfloat16()) for w, b in layers]
        size = (layers[0][0].shape[0], x.shape[1])
        h, hidden = x, []
        for number, (weight, bias) in enumerate(layers):
            if number:
                hidden.append(h.relu_())
            last = number == len(layers) - 1  # the caller keeps the output
            into = None if last else _take(*size, weight.shape[-1], like=weight)
            if number == 0 and network.one_hot:
                x = x + network.first_row
                rows = F.embedding(x, weight.view(-1, weight.shape[-1]))
                h = torch.add(rows, bias, out=into)
            elif weight.shape[-1] == 1:
                h = torch.baddbmm(bias, h, _twice(weight))[..., :1]
            else:
                h = torch.baddbmm(bias, h, weight, out=into)
        if any(ctx.needs_input_grad):
            ctx.network, ctx.layers = network, layers
            ctx.save_for_backward(x, flat, *hidden)
        else:
            _give(hidden)
        return h.float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Gradients of ``x`` and ``flat``, each where it is wanted."""
        network, layers, (x, flat, *hidden) = ctx.network, ctx.layers, ctx.saved_tensors
        wants_x, wants_flat, *_ = ctx.needs_input_grad
        gradient = torch.empty_like(flat) if wants_flat else None
        if wants_flat:
            gradient[flat.numel() - network.padding :] = 0.0
            gradients = network.layer_views(gradient)
        grad = grad.to(layers[0][0].dtype).contiguous()
        used = []
        for number in range(len(layers) - 1, -1, -1):
            weight = layers[number][0]
            below = hidden[number - 1] if number else x
            if wants_flat:
                into, bias_into = gradients[number]
                # Summed as several would be: a lone sum takes another path and rounds differently.
                rows = grad.expand(2, -1, -1) if grad.shape[0] == 1 else grad
                sums = rows.sum(1, keepdim=True, dtype=torch.float32)
                bias_into.copy_(sums[: grad.shape[0]])
                if number == 0 and network.one_hot:
                    rows = torch.ops.aten.embedding_dense_backward(
                        grad, x, weight.shape[0] * weight.shape[1], -1, False
                    )
                    into.copy_(rows.view_as(into))
                elif weight.shape[-1] == 1:
                    into.copy_(torch.bmm(below.mT, _twice(grad))[..., :1])
                elif grad.dtype == into.dtype:
                    torch.bmm(below.mT, grad, out=into)
                else:
                    into.copy_(torch.bmm(below.mT, grad))
            if number:
                product = torch.mul if weight.shape[-1] == 1 else torch.bmm
                grad = product(grad, weight.mT, out=_take(*below.shape, like=weight))
                torch.ops.aten.threshold_backward.grad_input(grad, below, 0, grad_input=grad)
                used.append(grad)
            elif wants_x:
                grad = torch.bmm(grad, weight.mT)
        _give(hidden + used)
        return grad.float() if wants_x else None, gradient, None, None, None


def _twice(column: Tensor) -> Tensor:
    """``[N, k, 1]`` as ``[N, k, 2]``: a product with a vector takes another path for one network than for
    several, and rounds differently; a product with a matrix does not.
    """
    return column.expand(-1, -1, 2).contiguous()


_free: dict[tuple, list[Tensor]] = {}


def _take(*shape: int, like: Tensor) -> Tensor:
    """A buffer that nothing else uses.

    The allocator gives large blocks back to the system and gets them again, page by page, at every update.
    """
    free = _free.get((shape, like.dtype, like.device))
    return free.pop() if free else torch.empty(shape, dtype=like.dtype, device=like.device)


def _give(buffers: Sequence[Tensor]) -> None:
    """Returns buffers that ``_take`` gave."""
    for buffer in buffers:
        key = (tuple(buffer.shape), buffer.dtype, buffer.device)
        _free.setdefault(key, []).append(buffer)
