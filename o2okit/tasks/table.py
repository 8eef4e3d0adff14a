"""Every task in one table (specs/tasks.md 1). Simulators are imported when an environment is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module

from gymnasium.vector import VectorEnv

from o2okit.errors import UserError
from o2okit.tasks import maze
from o2okit.tasks.antmaze_maps import MAZES
from o2okit.tasks.keys import Key
from o2okit.tasks.task import Task

SOLVER = "D4RL's data and scores come from MuJoCo 1.50 or 2.x, whose contacts differ from today's"


def _lazily(
    module: str, cls: str, extra: str = "data", **fixed: object
) -> Callable[..., VectorEnv]:
    """Makes ``cls(keys, **fixed)`` of a module imported only then; ``extra`` installs what it needs."""

    def vector(keys: Sequence[Key], **options: object) -> VectorEnv:
        try:
            return getattr(import_module(f"o2okit.tasks.{module}"), cls)(keys, **fixed | options)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the task's environment needs {error.name!r}, which is not installed. "
                f"Install it with: pip install 'o2okit[{extra}]'"
            ) from error

    return vector


# --- maze -----------------------------------------------------------------------------------------
TOY_MAZE = Task(
    name="toy-maze",
    vector=lambda keys: maze.ToyMazeVector(len(keys)),
    obs_size=maze.GEOMETRY.n_cells,
    act_size=4,
    discrete=True,
    horizon=maze.HORIZON,
    outcomes=maze.OUTCOMES,
    family="maze",
    environment="toy-maze",
    success="either goal is reached; the left one is nearer",
    note="The paper shows its maze as an image only; the layout is ours.",
)

# --- locomotion -----------------------------------------------------------------------------------
ROBOTS = {  # class, observations, actions, scores that count as 0 and 100, what else to note
    "halfcheetah": ("HalfCheetah", 17, 6, (-280.178953, 12135.0), ""),
    "hopper": ("Hopper", 11, 3, (-20.272305, 3234.3), "; a random policy scores about 1"),
    "walker2d": ("Walker2d", 17, 6, (1.629008, 4592.3), ""),
    "ant": (
        *("Ant", 111, 8, (-325.6, 3879.7)),
        "; the last 84 observations are 0, as in D4RL's files; a random policy scores about 7",
    ),
}
PADDING = 84  # ant's contact forces, 0 in D4RL's files (D4RL#143)
QUALITIES = ("random", "medium", "medium-replay", "medium-expert", "expert")


def _locomotion() -> Iterator[Task]:
    for robot, (cls, obs, act, reference, note) in ROBOTS.items():
        common = {
            "vector": _lazily("locomotion", cls, horizon=1000),
            "obs_size": obs,
            "act_size": act,
            "padding": PADDING if robot == "ant" else 0,
            "horizon": 1000,
            "family": "locomotion",
            "environment": robot,
            "reference": reference,
            "note": f"{SOLVER}{note}.",
        }
        yield Task(robot, **common)  # no dataset: training from scratch
        for quality in QUALITIES:
            file = f"gym_mujoco_v2/{robot}_{quality.replace('-', '_')}-v2.hdf5"
            yield Task(f"{robot}-{quality}-v2", quality=quality, dataset_file=file, **common)
    yield Task(
        name="ant-controller",
        vector=_lazily("ant_controller", "AntController", horizon=1000),
        obs_size=29,
        act_size=8,
        horizon=1000,
        family="locomotion",
        environment="ant-controller",
        note="Ours, to train who collects the kit's AntMaze data; D4RL has no scores for it.",
    )


def without_padding(task: Task) -> Task:
    """Ant's task with 27 observations instead of 111; others have no padding and stay as they are."""
    if not task.padding:
        return task
    vector = _lazily("locomotion", "Ant", horizon=task.horizon, padding=0)
    return replace(task, vector=vector, obs_size=task.obs_size - task.padding, padding=0)


# --- antmaze --------------------------------------------------------------------------------------
ANT_DATA = {  # maze, quality; in the file's name: maze, whether starts, whether goals differ
    "umaze": ("antmaze-umaze", "fixed", "u-maze", False, False),
    "umaze-diverse": ("antmaze-umaze", "diverse", "u-maze", True, True),
    "medium-play": ("antmaze-medium", "play", "big-maze", True, False),
    "medium-diverse": ("antmaze-medium", "diverse", "big-maze", True, True),
    "large-play": ("antmaze-large", "play", "hardest-maze", True, False),
    "large-diverse": ("antmaze-large", "diverse", "hardest-maze", True, True),
}
ANT_VERSIONS = {  # folder, end of the file's name, a goal per episode, note
    "v0": (
        *("ant_maze_new", "", False),
        "One goal per seed, so scores of few seeds vary widely, and the file's time-outs are out "
        "of step with its episodes (D4RL#77); v2 has neither trait.",
    ),
    "v2": (
        *("ant_maze_v2", "_fixed", True),
        "A goal per episode, whereas v0 evaluates one per seed; v0's rows with mended time-outs.",
    ),
}


def _antmaze() -> Iterator[Task]:
    for version, (folder, end, goal_per_reset, note) in ANT_VERSIONS.items():
        for name, (environment, quality, shape, starts, goals) in ANT_DATA.items():
            known = MAZES[environment]
            file = f"Ant_maze_{shape}_noisy_multistart_{starts}_multigoal_{goals}_sparse{end}.hdf5"
            yield Task(
                name=f"antmaze-{name}-{version}",
                vector=_lazily(
                    "antmaze",
                    "AntMaze",
                    maze=known,
                    horizon=known.horizon,
                    goal_per_reset=goal_per_reset,
                ),
                obs_size=29,
                act_size=8,
                horizon=known.horizon,
                outcomes=("none", "goal"),
                family="antmaze",
                environment=environment,
                quality=quality,
                reference=(0.0, 1.0),
                dataset_file=f"{folder}/{file}",
                sparse=True,
                success="the ant comes within 0.5 m of the goal",
                note=note,
            )


# --- adroit ---------------------------------------------------------------------------------------
HANDS = {  # class, observations, actions, horizon, scores that count as 0 and 100, success
    "pen": (
        *("Pen", 45, 24, 100, (96.262799, 3076.8331017826877)),
        "the pen is within 7.5 cm of the target and nearly parallel to it (cosine above 0.95)",
    ),
    "door": (
        *("Door", 39, 28, 200, (-56.512833, 2880.5693087298737)),
        "the door is open (hinge at 1.35 rad or more)",
    ),
    "relocate": (
        *("Relocate", 39, 30, 200, (-6.425911, 4233.877797728884)),
        "the ball is within 10 cm of the target",
    ),
}
PRACTISED = "pen"  # the one that is learnt without demonstrations (specs/tasks.md 6)


def _adroit() -> Iterator[Task]:
    for hand, (cls, obs, act, horizon, reference, success) in HANDS.items():
        common = {
            "obs_size": obs,
            "act_size": act,
            "horizon": horizon,
            "family": "adroit",
            "environment": hand,
            "success": success,
        }
        # Success does not end an episode, so that there are no outcomes.
        dense = {
            "vector": _lazily("adroit", cls, horizon=horizon),
            "reference": reference,
            **common,
        }
        yield Task(hand, note=f"{SOLVER}.", **dense)  # no dataset: training from scratch
        for quality in ("expert", "cloned"):
            yield Task(
                f"{hand}-{quality}-v1",
                quality=quality,
                dataset_file=f"hand_dapg_v1/{hand}-{quality}-v1.hdf5",
                note=f"{SOLVER}; the data descend from human demonstrations: the kit can't build them.",
                **dense,
            )
        if hand == PRACTISED:
            yield Task(
                f"{hand}-mixed",
                quality="mixed",
                kit_only=True,
                note="The kit's own data, of policies trained on the dense reward from first to best: no "
                "demonstrations as in D4RL's.",
                **dense,
            )
        yield Task(
            f"{hand}-binary-v0",
            _lazily("adroit", cls, horizon=horizon, binary=True),
            quality="binary",
            outcomes=("none", "success"),
            reference=(0.0, 1.0),
            scored="success",
            sparse=True,
            note="Its data (mj_envs' .npy files) descend from human demonstrations and can't be "
            f"built; train on {hand}-cloned-v1 instead"
            + (f" (or the kit's {hand}-mixed)" if hand == PRACTISED else "")
            + " and say so.",
            **common,
        )


# --- atari ----------------------------------------------------------------------------------------
GAMES = {  # ale-py's name, actions, points that count as 0 (random) and 100 (human): Wang et al., 2016
    "asterix": ("asterix", 9, (210.0, 8503.3)),
    "beam-rider": ("beam_rider", 9, (363.9, 16926.5)),
    "breakout": ("breakout", 4, (1.7, 30.5)),
    "enduro": ("enduro", 9, (0.0, 860.5)),
    "freeway": ("freeway", 3, (0.0, 29.6)),
    "ms-pacman": ("ms_pacman", 9, (307.3, 6951.6)),
    "pong": ("pong", 6, (-20.7, 14.6)),
    "qbert": ("qbert", 6, (163.9, 13455.0)),
    "seaquest": ("seaquest", 18, (68.4, 42054.7)),
    "space-invaders": ("space_invaders", 6, (148.0, 1668.7)),
}
HALF_AN_HOUR = 27_000  # steps of four frames


def _atari() -> Iterator[Task]:
    for name, (game, actions, reference) in GAMES.items():
        yield Task(
            f"atari-{name}",
            _lazily("atari", "Atari", extra="atari", game=game, horizon=HALF_AN_HOUR),
            obs_size=4 * 84 * 84,
            act_size=actions,
            horizon=HALF_AN_HOUR,
            discrete=True,
            image=(4, 84, 84),
            reward_clip=1.0,
            family="atari",
            environment=f"atari-{name}",
            reference=reference,
            note="Sticky actions; a score of 100 is a human's. The paper doesn't name its games.",
        )


TASKS: dict[str, Task] = {
    task.name: task for task in (TOY_MAZE, *_locomotion(), *_antmaze(), *_adroit(), *_atari())
}
