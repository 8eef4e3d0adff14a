"""Whether an algorithm keeps what is promised of a run: it is its seed, and an interruption changes nothing.

    o2okit.check("clipped", "td3+bc")

The same short runs are trained in company, alone, and interrupted to go on in other company; every network,
optimiser, buffer and score must then be the same to the last bit, and so they must be where updates are
recorded and where they are not. The tests do this with all that is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from o2okit.backbones import BACKBONES
from o2okit.errors import UserError, known, whole
from o2okit.hyper import given
from o2okit.methods import METHODS
from o2okit.tasks import task as find_task
from o2okit.training import protocol
from o2okit.training.capture import CapturedUpdate, eagerly
from o2okit.training.cohort import Cohort
from o2okit.training.obtain import stand_in
from o2okit.training.spec import RunSpec, refusal

SEEDS = (4, 1, 7)
OFFLINE_STEPS = 5
SCALARS = 64  # parameters: what has no more (a temperature, a scale) begins with equal values
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": 16, "members": 2}
HOSTS = ("td3+bc", "iql", "cql", "cql-discrete")  # of a method, where none is named
CAUSES = {
    "alone": "Alone and among others a run is not the same: something is taken over all runs. The first axis "
    "is the runs' (o2okit.nn.mean_per_run is each one's mean), and random numbers come from self.draws",
    "resumed": "A run that was interrupted does not end as it would have: what it remembers from one step to "
    "the next must be an attribute that is a network or an optimiser of o2okit.nn, or a tensor [R, ...] "
    "named in saved_tensors",
    "eager": "With updates and actions that are recorded and replayed a run is not what it is without. What "
    "changes must be in tensors that are changed in place, or in parts that are replaced as attributes of "
    "the agent, not in numbers of Python's; O2OKIT_RECORD=0 turns recording off",
    "seeds": "Runs with different seeds have learnt the same: networks are made from the seeds, and random "
    "numbers come from self.draws",
    "finite": "Something is not finite",
}


def check(
    name: str,
    backbone: str | None = None,
    *,
    steps: int = 60,
    hyper: Mapping[str, Any] | None = None,
    method_hyper: Mapping[str, Any] | None = None,
) -> None:
    """Tries a method or a backbone out: three runs of some steps on hopper, or in the toy maze.

    Networks have two layers of 16 and minibatches 16 rows; nothing is stored. What a method does later than
    after ``steps`` is not seen: give it a short beginning (``method_hyper``), or more steps.

    Args:
        name: of the method or the backbone.
        backbone: with which a method is tried; default: a usual one that it is defined for.
        steps: of the fine-tuning, at least 3.
        hyper, method_hyper: hyper-parameters of the backbone and the method.

    Raises:
        UserError: a name or a value is wrong, or a promise is broken: the message says which.
    """
    known("method or backbone", name, [*METHODS, *BACKBONES])
    steps = whole("steps", steps, 3)  # with fewer the interruption would be at the end
    method = name if name in METHODS else "naive"
    if method == name:
        backbone = _host(name) if backbone is None else backbone
    elif backbone is not None:
        raise UserError(f"{name!r} is a backbone; it is tried by itself, without {backbone!r}.")
    tried = f"{name} with {method if backbone is None else backbone}"
    runs = _runs(method, name if backbone is None else backbone, steps, hyper, method_hyper)
    found = examine([run.start for run in runs], eager=True) if method != name else []
    if found := found or examine(runs, eager=True):
        raise UserError("\n".join([f"{tried}:", *found]))
    print(
        f"{tried}: {len(runs)} runs of {steps} steps are the same to the last bit alone, among others and "
        "interrupted, recorded or not"
    )
    if method == name != "naive" and not _changes_anything(runs):
        print(
            f"In these {steps} steps {name} changed nothing of what is learnt without it. If it begins "
            "later, give it more steps, or a shorter beginning; data and rewards are small here: other "
            "hyper-parameters (method_hyper) may show an effect."
        )


def _changes_anything(runs: Sequence[RunSpec]) -> bool:
    """Whether agents end elsewhere than with plain fine-tuning."""
    plain = [replace(run, method="naive", method_hyper={}) for run in runs]
    with_it, without = (_agents(_trained(each)) for each in (runs, plain))
    return not all(_same(with_it[key], without[key]) for key in without)


def _host(method: str) -> str:
    for backbone in dict.fromkeys((*HOSTS, *BACKBONES)):
        if not refusal(method, backbone):
            return backbone
    raise UserError(f"method {method!r} is defined for none of the backbones here.")


def _runs(
    method: str,
    backbone: str,
    steps: int,
    hyper: Mapping[str, Any] | None,
    method_hyper: Mapping[str, Any] | None,
) -> list[RunSpec]:
    agent = BACKBONES[known("backbone", backbone, BACKBONES)]
    where = find_task("toy-maze" if agent.discrete else "hopper")
    small = {f.name: SMALL[f.name] for f in fields(agent.Hyperparameters) if f.name in SMALL}
    evaluated = {"eval_every": max(steps // 3, 1), "eval_episodes": 2}
    return [
        protocol.online(
            RunSpec(
                *(where.name, backbone, "offline", OFFLINE_STEPS, seed),
                hyper=small | given(hyper),
                dataset=stand_in(where, 2_000),
                **evaluated,
            ),
            method,
            steps,
            method_hyper=method_hyper,
            learning_starts=min(10, steps // 4),
            **evaluated,
        )
        for seed in SEEDS
    ]


def examine(
    specs: Sequence[RunSpec], interrupted_at: int | None = None, *, eager: bool = False
) -> list[str]:
    """Which promises three runs of a cohort break, a sentence for each; none where all is well.

    Args:
        specs: offline runs, or online ones with or without starts; seeds differ.
        interrupted_at: the step; default: a little after half of them.
        eager: whether to train once more without recordings, where there are any.
    """
    if interrupted_at is None:
        interrupted_at = specs[0].steps * 5 // 9 + 1
    starts = _starts(specs)
    among = _trained(specs, starts)
    found = list(_unlike(among))
    found += _differences("alone", _trained(specs[1:2], starts[1:2]), 0, among, 1)
    if found:
        return found  # in other company nothing would be the same, either
    if eager and isinstance(among.update, CapturedUpdate):
        with eagerly():
            plain = _trained(specs, starts)
        differ = [_differences("eager", plain, run, among, run) for run in range(len(specs))]
        if found := next(filter(None, differ), []):
            return found  # after an interruption recordings are other ones
    part = _states(_trained(specs, starts, interrupted_at))
    goes_on = [2, 1]
    resumed = Cohort([specs[run] for run in goes_on])
    resumed.load_state([part[run] for run in goes_on], interrupted_at)
    _advanced(resumed, specs[0].steps)
    differ = [_differences("resumed", resumed, at, among, run) for at, run in enumerate(goes_on)]
    return next(filter(None, differ), [])


def _starts(specs: Sequence[RunSpec]) -> list[dict[str, Tensor]]:
    """The agents that runs continue with, trained for the purpose."""
    before = [spec.start for spec in specs if spec.start]
    return _states(_trained(before)) if before else []


def _trained(
    specs: Sequence[RunSpec],
    starts: Sequence[Mapping[str, Tensor]] | None = None,
    steps: int | None = None,
) -> Cohort:
    cohort = Cohort(specs)
    cohort.begin(_starts(specs) if starts is None else starts)
    cohort.evaluate()
    return _advanced(cohort, specs[0].steps if steps is None else steps)


def _advanced(cohort: Cohort, steps: int) -> Cohort:
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % cohort.specs[0].eval_every == 0:
            cohort.evaluate()
    return cohort


def _states(cohort: Cohort) -> list[dict[str, Tensor]]:
    state = cohort.state()
    return [{k: v[run].clone() for k, v in state.items()} for run in range(cohort.runs)]


def _differences(what: str, one: Cohort, run: int, other: Cohort, same: int) -> list[str]:
    """The sentence about two runs that should be equal, where they are not."""
    ours, theirs = one.state(), other.state()
    keys = sorted(ours.keys() ^ theirs.keys())
    keys += [k for k in ours.keys() & theirs.keys() if not _same(ours[k][run], theirs[k][same])]
    for table, mine in one.rows[run].items():  # of a resumed run, those since then
        whole = other.rows[same][table]
        if repr(mine) != repr(whole[len(whole) - len(mine) :]):  # NaN is NaN
            keys.append(f"the table of {table}")
    return [f"{CAUSES[what]}. It differs in {_few(keys)}."] if keys else []


def _unlike(cohort: Cohort) -> Iterator[str]:
    """What one can see of a cohort by itself: runs that are copies of each other, and what is not finite."""
    networks = [each for each in _agents(cohort).values() if each.shape[1] > SCALARS]
    if any(_same(each[0], each[1]) for each in networks):
        yield f"{CAUSES['seeds']}."
    state = {key: each for key, each in cohort.state().items() if key.startswith("agent/")}
    if bad := [key for key, each in state.items() if not each.isfinite().all()]:
        yield f"{CAUSES['finite']}: {_few(bad)}."
    elif cohort.diverged.any():
        yield f"{CAUSES['finite']}: a metric of the last update."


def _agents(cohort: Cohort) -> dict[str, Tensor]:
    """The parameters of the networks, ``[R, n]`` each."""
    state = cohort.agent.state()
    return {key: value for key, value in state.items() if key.endswith("parameters")}


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit; what is not known as yet is NaN in both."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _few(names: Sequence[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
