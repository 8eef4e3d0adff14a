"""Work on fixed memory, recorded once and replayed: a CUDA graph on a GPU, a list of operations on a CPU.

A GPU takes ten times as long to launch the many small kernels of an update as to run them; on a CPU a fifth
of an update of one run is Python and autograd. A replay does the same operations in the same order on the
same memory, so that on a CPU it gives the same bits.

What is recorded has to do the same work each time: what changes from one time to the next has to be in
tensors that are changed in place, not in Python's numbers or branches. What NumPy does to a tensor's memory
on the way is seen by nobody: it has to be an operation of PyTorch's (``torch.library``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from o2okit.errors import UserError
from o2okit.native import PREPARED
from o2okit.nn.products import recorded_buffers

FLAG = "O2OKIT_RECORD"
EAGER = 3  # times that work is done before it is recorded
# Operations whose work, or the shape of whose result, depends on what tensors hold or on a generator.
VARIES = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
}
MASKS = (torch.bool, torch.uint8)
COPIES = (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default)
EMPTY = ("aten::empty", "aten::new_empty")  # give memory and write nothing
# What they make depends on the shape alone of what they are given.
BY_SHAPE = {
    f"aten::{name}"
    for name in ("ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full")
}
T = TypeVar("T")


class Recorder:
    """Does work that reads and writes fixed memory: some times as it is, then recorded, then replayed.

    What is done the first times is not recorded: it makes what is made once (the moments of Adam, the
    libraries' workspaces).

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._way = Graph(device) if torch.device(device).type == "cuda" else Calls()
        self._done: dict[Hashable, int] = {}
        self.recorded: dict[Hashable, tuple[Callable[[], None], Any]] = {}

    def __call__(self, branch: Hashable, work: Callable[[], T]) -> T:
        """What ``work`` returns; the next call overwrites it. Equal ``branch``: the same work.

        Raises:
            UserError: the work can't be recorded.
        """
        if branch in self.recorded:
            replay, result = self.recorded[branch]
            replay()
            return result
        done = self._done.get(branch, 0)
        if done < EAGER:
            self._done[branch] = done + 1
            return self._way.eager(work)
        self.recorded[branch] = self._way.record(work)
        return self.recorded[branch][1]


def refused(why: object) -> UserError:
    """Says what to do about work that can't be recorded."""
    return UserError(
        f"this work can't be recorded ({why}). A backbone or a method of your own may read numbers from "
        "tensors, decide by them or draw random ones in an update; use tensors that stay and the draws "
        f"that are given, or set {FLAG}=0."
    )


class Graph:
    """Records work as a CUDA graph."""

    def __init__(self, device: torch.device | str) -> None:
        self.stream = torch.cuda.Stream(device)

    def eager(self, work: Callable[[], T]) -> T:
        """On a stream of its own, as what precedes a capture must be."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """(what replays it, its result); the work is done."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):  # nothing runs yet
                result = work()
        except RuntimeError as error:
            raise refused(error) from error
        graph.replay()
        return graph.replay, result


class Calls:
    """Records work as the operations that it calls.

    Every result keeps its memory, and a replay writes there again. So an operation becomes the variant of
    it that is told where to write; views stay what they are and need no call.
    """

    def eager(self, work: Callable[[], T]) -> T:
        """As it is."""
        return work()

    def record(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """(what replays it, its result); the work is done."""
        with recorded_buffers(), _Notes() as notes:
            result = work()
        calls = notes.calls(result)

        @torch.no_grad()
        def replay() -> None:
            for call in calls:
                call()

        return replay, result


class _Call(NamedTuple):
    """What does an operation again; the memory that it depends on, and that it alone writes to."""

    again: Callable[[], Any]
    reads: set[int]
    makes: set[int]


class _Notes(TorchDispatchMode):
    """Notes the operations that are called under it; autograd's are among them."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []
        self._changed: set[int] = set()  # memory that an operation changes in place

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler for it, which takes seconds."""
        return False

    def calls(self, result: Any) -> list[Callable[[], Any]]:
        """What has to be done again for ``result``.

        What is made of nothing else than constants stays as it is, unless somebody may change it.
        """
        changed = self._changed | set(map(_memory, _tensors(result)))
        calls, constant = [], set()
        for call in self._calls:
            if call.makes and call.reads <= constant and changed.isdisjoint(call.makes):
                constant |= call.makes
            else:
                calls.append(call.again)
        return calls

    def __torch_dispatch__(
        self, operation: OpOverload, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if _varies(operation, given):
            raise refused(f"{operation.name()} is among its operations")
        result = operation(*args, **kwargs)
        results, reads = _tensors(result), set(map(_memory, given))
        new = [_memory(x) not in reads for x in results]
        makes = set(map(_memory, results)) - reads
        # Memory alone is kept: with autograd's graph the tensors would hold all of it.
        args, kwargs, results = tree_map_only(Tensor, Tensor.detach, (args, kwargs, results))
        name, in_place = operation.name(), operation._schema.is_mutable
        if in_place:
            self._changed |= reads
        if makes and not name.startswith(EMPTY):
            again = _writing(operation, args, kwargs, results, new)
            self._calls.append(_Call(again, set() if name in BY_SHAPE else reads, makes))
        elif in_place:
            if operation in PREPARED:
                again = PREPARED[operation](*args, **kwargs)
            else:
                again = partial(operation, *args, **kwargs)
            self._calls.append(_Call(again, reads, makes))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _memory(x: Tensor) -> int:
    """Equal for tensors that share memory."""
    if x.layout is not torch.strided:
        raise refused("a sparse tensor is among its tensors")
    return x.untyped_storage()._cdata


def _varies(operation: OpOverload, given: Sequence[Tensor]) -> bool:
    """Whether an operation does other work with other numbers, or draws its own."""
    if operation is torch.ops.aten.index.Tensor:  # by numbers it does not
        return any(x.dtype in MASKS for x in given[1:])
    return not VARIES.isdisjoint(operation.tags)


def _writing(
    operation: OpOverload,
    args: tuple,
    kwargs: dict[str, Any],
    results: Sequence[Tensor],
    new: Sequence[bool],
) -> Callable[[], Any]:
    """Does an operation again and has it write its ``new`` results where they were."""
    if operation in COPIES:
        return partial(torch.ops.aten.copy_.default, results[0], args[0])
    variant, names = _variant(operation)
    if variant is not None and all(new) and len(names) == len(results):
        return partial(variant, *args, **kwargs, **dict(zip(names, results, strict=True)))

    def again() -> None:
        done = _tensors(operation(*args, **kwargs))
        for place, value, is_new in zip(results, done, new, strict=True):
            if is_new:
                place.copy_(value)

    return again


@cache
def _variant(operation: OpOverload) -> tuple[OpOverload | None, list[str]]:
    """The variant that is told where to write, and what it calls these places.

    Those of losses with a ``reduction`` are no use: one (of ``binary_cross_entropy``) gives something else,
    others change the shape of the place, with a warning each time.
    """
    wanted = [(x.name, str(x.type)) for x in operation._schema.arguments]
    if "reduction" in dict(wanted):
        return None, []
    for name in operation.overloadpacket.overloads():
        variant = getattr(operation.overloadpacket, name)
        arguments = variant._schema.arguments
        places = [x.name for x in arguments if x.is_out]
        if places and [(x.name, str(x.type)) for x in arguments if not x.is_out] == wanted:
            return variant, places
    return None, []
