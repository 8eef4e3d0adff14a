"""One line to a result, in the real environment with a dataset built on the spot."""

import dataclasses
import json
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

import o2okit
from o2okit import experiment
from o2okit.backbones import BACKBONES
from o2okit.backbones.settings import TABLE, settings
from o2okit.data import d4rl, sources
from o2okit.data.returns import episode_returns
from o2okit.data.rows import Rows
from o2okit.data.statistics import published_values
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.result import Result
from o2okit.result import _told_apart as told_apart
from o2okit.tasks import FAMILIES, normalised_score, task
from o2okit.training import RunSpec, obtain, protocol

matplotlib.use("agg")
TASK = "hopper-random-v2"
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": 16}


@pytest.fixture(autouse=True)
def folders(tmp_path_factory, monkeypatch):
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("O2OKIT_RUNS", str(base / "experiment-runs"))
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(base / "experiment-data"))
    for name in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        monkeypatch.setenv(name, str(base / "none"))


def test_fine_tuning_pretrains_first_and_a_second_call_trains_nothing(capsys):
    result = o2okit.finetune(TASK, "iql", seeds=2, profile="smoke", hyper=SMALL)
    assert "kit dataset hopper-random-v2" in capsys.readouterr().out
    frame = result.frame
    assert len(frame) == 2 * (2 + 3)
    assert frame.groupby("phase")["step"].unique().map(list).to_dict() == {
        "offline": [0, 20],
        "online": [0, 25, 50],
    }
    assert np.allclose(frame["score"], normalised_score(TASK, frame["return"].to_numpy()))
    assert all(path.is_file() for path in result.checkpoints)
    assert len(result.checkpoints) == 4
    assert result.runs[0].spec.hyper["cosine_steps"] == 20
    online = [run.spec for run in result.runs if run.spec.phase == "online"]
    assert {spec.hyper["cosine_steps"] for spec in online} == {0}, "a constant rate (gde.md 2.4)"
    assert result.dataset.source == "kit"
    assert result.label() == (
        "data kit-hopper-random-v2-20000 (source: kit) · profile smoke, "
        "steps: 20 offline, 50 online · seeds 0-1"
    )
    o2okit.finetune(TASK, "iql", seeds=2, profile="smoke", hyper=SMALL)
    assert "steps/s" not in capsys.readouterr().out
    alone = o2okit.pretrain(TASK, "iql", seeds=[1], profile="smoke", hyper=SMALL)
    assert "steps/s" not in capsys.readouterr().out
    theirs = frame[(frame["phase"] == "offline") & (frame["seed"] == 1)]
    assert alone.frame["return"].tolist() == theirs["return"].tolist()


def test_summary_plot_and_files(tmp_path):
    result = o2okit.finetune(TASK, "td3+bc", seeds=2, profile="smoke", hyper=SMALL)
    summary = result.summary("best").set_index("phase")
    best = result.frame.groupby(["phase", "seed"])["score"].max().groupby("phase").mean()
    assert summary["score"].to_dict() == pytest.approx(best.to_dict())
    assert (summary["low"] <= summary["score"]).all()
    assert summary["seeds"].tolist() == [2, 2]
    with pytest.raises(UserError, match="unknown statistic"):
        result.summary("bset")
    ax = result.plot()
    offline, online = ax.lines[:2]
    assert [max(line.get_xdata()) for line in (offline, online)] == [20, 70]
    assert offline.get_color() == online.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["td3+bc", "data"]
    both = o2okit.finetune(TASK, "td3+bc", ["naive", "rnd"], seeds=2, profile="smoke", hyper=SMALL)
    *_, plain, rnd = both.plot().lines[:3]
    assert plain.get_color() == rnd.get_color()
    assert (plain.get_linestyle(), rnd.get_linestyle()) == ("-", "--")
    files = result.save(tmp_path, "cell")
    assert sorted(file.suffix for file in files) == [".csv", ".csv", ".json", ".pdf", ".png"]
    assert all(file.stat().st_size > 100 for file in files)


def test_each_algorithm_may_have_its_own_hyper_parameters():
    result = o2okit.finetune(
        TASK,
        ["iql", "td3+bc"],
        ["naive", "const"],
        seeds=1,
        profile="smoke",
        hyper={"iql": {**SMALL, "beta": 1.0}, "td3+bc": SMALL},
        method_hyper={"const": {"weight": 0.5}},
    )
    specs = [run.spec for run in result.runs]
    assert {spec.hyper["beta"] for spec in specs if spec.backbone == "iql"} == {1.0}
    assert {spec.hyper["hidden"] for spec in specs} == {(16, 16)}
    found = {spec.method: dict(spec.method_hyper) for spec in specs if spec.phase == "online"}
    assert found["naive"] == {}
    assert found["const"]["weight"] == 0.5
    (run,) = o2okit.scratch("hopper", seeds=1, profile="smoke", hyper={"sac": SMALL}).runs
    assert run.spec.hyper["batch_size"] == 16


def test_a_list_of_values_is_a_sweep_in_one_cohort(tmp_path):
    settings = {
        "hyper": {**SMALL, "alpha": [1.0, 2.5]},
        "method_hyper": {"const": {"weight": [0, 2]}},
    }
    result = o2okit.finetune(
        TASK, "td3+bc", ["naive", "const"], seeds=2, profile="smoke", **settings
    )
    specs = [run.spec for run in result.runs]
    assert len(specs) == 2 * 2 * (1 + 1 + 2)
    assert len({spec.cohort for spec in specs}) == 3
    summary = result.summary().set_index(["phase", "method", "setting"])
    assert summary["seeds"].unique().tolist() == [2]
    assert [key for key in summary.index if key[1] != "const"] == [
        ("offline", "", "alpha 1"),
        ("offline", "", "alpha 2.5"),
        ("online", "naive", "alpha 1"),
        ("online", "naive", "alpha 2.5"),
    ]
    assert [key[2] for key in summary.index if key[1] == "const"] == [
        f"alpha {alpha}, weight {weight}" for alpha in ("1", "2.5") for weight in ("0", "2")
    ]
    frame = result.frame
    one = frame[(frame["setting"] == "alpha 2.5") & (frame["phase"] == "online")]
    final = one[one["step"] == 50]["score"].mean()
    assert summary.loc[("online", "naive", "alpha 2.5"), "score"] == pytest.approx(final)
    labels = [text.get_text() for text in result.plot().get_legend().get_texts()]
    assert labels[0] == "td3+bc, alpha 1"
    assert "td3+bc + const, alpha 2.5, weight 0" in labels
    assert any("setting" in file.read_text() for file in result.save(tmp_path, "sweep")[2:4])


def test_what_fine_tuning_overrides_is_swept_all_the_same(tmp_path):
    """IQL's cosine ends with the pre-training: online the values are equal, the agents are not."""
    swept = {**SMALL, "cosine_steps": [0, 20]}
    result = o2okit.finetune(TASK, "iql", seeds=2, profile="smoke", hyper=swept)
    online = [run.spec for run in result.runs if run.spec.phase == "online"]
    assert {spec.hyper["cosine_steps"] for spec in online} == {0}
    summary = result.summary().set_index(["phase", "setting"])
    assert summary["seeds"].to_dict() == {
        (phase, f"cosine_steps {n}"): 2 for phase in ("offline", "online") for n in (0, 20)
    }
    assert len(result.compare("iql, cosine_steps 0")) == 1
    assert all(file.is_file() for file in result.save(str(tmp_path), "swept"))


def test_hyper_parameters_can_change_online():
    changes = {"cosine_steps": [0, 1_000]}  # constant, or further along the cosine (qcse.md E19)
    options = {"seeds": 2, "profile": "smoke", "hyper": {**SMALL, "cosine_steps": 20}}
    result = o2okit.finetune(TASK, "iql", online_hyper=changes, **options)
    offline, online = (
        [run.spec for run in result.runs if run.spec.phase == phase]
        for phase in ("offline", "online")
    )
    assert [spec.hyper["cosine_steps"] for spec in offline] == [20, 20]
    assert sorted(spec.hyper["cosine_steps"] for spec in online) == [0, 0, 1_000, 1_000]
    assert {spec.start.id for spec in online} == {spec.id for spec in offline}
    settings = result.frame.groupby("phase")["setting"].unique().map(list).to_dict()
    assert settings == {"offline": [""], "online": ["cosine_steps 0", "cosine_steps 1000"]}
    with pytest.raises(UserError, match=r"unknown hyper-parameter of IQL.*'calibrate'"):
        o2okit.finetune(TASK, "iql", online_hyper={"calibrate": False}, **options)


@pytest.mark.parametrize(
    ("backbone", "change"),
    [
        ("cql", {"alpha": [0.1, 1.0]}),
        ("iql", {"normalise": False}),
        ("cql-ensemble", {"members": 3}),
    ],
)
def test_what_an_agents_state_holds_cannot_change_online(backbone, change):
    with pytest.raises(UserError, match=f"{next(iter(change))} can't change when a run goes on"):
        o2okit.finetune(TASK, backbone, online_hyper=change, profile="smoke", hyper=SMALL)


def test_settings_that_look_alike_are_written_out():
    result = made_up({("iql", "qcse", 1.0): [1.0], ("iql", "qcse", 1.00000001): [2.0]})
    assert result.summary()["setting"].tolist() == ["k 1.0", "k 1.00000001"]


def test_a_setting_is_the_value_that_tells_runs_apart():
    def labels(*histories):
        return list(told_apart({str(n): each for n, each in enumerate(histories)}).values())

    assert labels((1.0, 1.0), (2.5, 2.5)) == ["1", "2.5"]
    assert labels((20, 0), (0, 0)) == ["20", "0"]
    assert labels((20, 0), (0, 0), (20, 5)) == ["20 then 0", "0 then 0", "20 then 5"]


def test_the_profile_scales_the_methods_of_both_papers_and_what_is_given_wins(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "train", lambda specs, **_: asked.extend(specs))
    monkeypatch.setattr(experiment, "Result", lambda *_: None)
    for method, given in (("qcse", {}), ("qcse", {"start": 30}), ("sung", {}), ("bp-iql", {})):
        backbone = "iql" if method == "bp-iql" else "td3+bc"
        o2okit.finetune(TASK, backbone, method, profile="smoke", seeds=1, method_hyper=given)
    of = [spec.method_hyper for spec in asked if spec.phase == "online"]
    assert [each.get("start") for each in of] == [20, 30, None, None]
    assert (of[2]["vae_updates"], of[3]["epochs"]) == (20, 1)
    with pytest.raises(UserError, match="begins with 60 transitions"):
        o2okit.finetune(
            TASK, "td3+bc", "qcse", profile="smoke", seeds=1, method_hyper={"start": 60}
        )


@pytest.mark.parametrize(
    ("backbone", "method"),
    [("td3+bc", "qcse"), ("iql", "gde"), ("cql", "sung"), ("iql", "bp-iql"), ("awac", "pex")],
)
def test_the_table_of_hyper_parameters_says_what_runs_take(monkeypatch, backbone, method):
    asked = []
    monkeypatch.setattr(experiment, "train", lambda specs, **_: asked.extend(specs))
    monkeypatch.setattr(experiment, "Result", lambda *_: None)
    o2okit.finetune(TASK, backbone, method, profile="smoke", seeds=1)
    offline, online = asked
    for name, taken in ((backbone, offline.hyper), (method, online.method_hyper)):
        table = o2okit.hyperparameters(name, TASK, profile="smoke")
        here = table[TASK].to_dict()
        scaled = {key: value for key, value in here.items() if value == "by the dataset"}
        assert here == taken | scaled
        assert list(scaled) == (["reward_scale"] if name == "iql" else [])
        assert (table["source"] + table["symbol"] != "").all()


def test_what_may_be_set_is_said_of_every_hyper_parameter():
    for name, cls in {**BACKBONES, **METHODS}.items():
        fields = dataclasses.fields(cls.Hyperparameters)
        table = o2okit.hyperparameters(name)
        assert list(table.index) == [field.name for field in fields]
        assert list(table["default"]) == [field.default for field in fields]
        assert list(table["per run"]) == [field.metadata["per_run"] for field in fields]
    allowed = o2okit.hyperparameters("qcse")["allowed"]
    assert allowed["squash"] == "True, False"
    assert allowed["reference"] == "minibatch, buffer"
    assert allowed["size"] == "whole >= 2"
    assert allowed["weight"] == "number >= 0"
    allowed = o2okit.hyperparameters("td3+bc")["allowed"]
    assert (allowed["discount"], allowed["reward_bias"]) == ("number 0 to 1", "number")
    assert allowed["hidden"] == "whole numbers >= 1"
    with pytest.raises(UserError, match="Did you mean 'td3\\+bc'"):
        o2okit.hyperparameters("td3bc")
    with pytest.raises(UserError, match="Did you mean"):
        o2okit.hyperparameters("iql", "hopper-medum-v2")


def made_up(scores, phase="online") -> Result:
    """A result with given final scores: (backbone, method, k) -> those of the seeds."""
    runs = []
    for (backbone, method, k), values in scores.items():
        for seed, score in enumerate(values):
            spec = SimpleNamespace(
                task=TASK,
                backbone=backbone,
                method=method,
                phase=phase,
                seed=seed,
                id=f"{backbone} {method} {k} {seed}",
                hyper={},
                method_hyper={} if k is None else {"k": k},
            )
            spec.lineage = lambda spec=spec: [spec]
            curve = pd.DataFrame({"step": [0, 10], "score": [0.0, score]})
            folder = SimpleNamespace(result=lambda: {"diverged": False})
            runs.append(SimpleNamespace(spec=spec, curve=lambda c=curve: c.copy(), folder=folder))
    return Result(runs, None, "laptop")


def test_methods_are_compared_seed_by_seed():
    result = made_up(
        {
            ("iql", "naive", None): [10.0, 50.0, 90.0],
            ("iql", "qcse", 5): [12.0, 53.0, 91.0],
            ("iql", "qcse", 9): [0.0, 60.0, 80.0],
            ("sac", "naive", None): [1.0, 2.0, 3.0],
            ("sac", "qcse", 5): [0.0, 1.0, 2.0],
        }
    )
    found = result.compare("naive").set_index("name")
    assert found["baseline"].tolist() == ["iql", "iql", "sac"]
    assert found["better"].to_dict() == {
        "iql + qcse, k 5": "supported",  # 1 to 3 points in every seed
        "iql + qcse, k 9": "undecided",
        "sac + qcse": "contradicted",
    }
    assert found.loc["iql + qcse, k 5", "difference"] == pytest.approx(2.0)
    assert found["reason"].str.contains("over 3 and 3 seeds").all()
    to_one = result.compare("iql + qcse, k 9").set_index("name")
    assert len(to_one) == 4
    assert to_one.loc["sac", "difference"] == pytest.approx(2.0 - 140 / 3)
    for baseline, message in (
        ("qcse", "'qcse' may be iql . qcse, k 5 or iql . qcse, k 9: name one"),
        ("qcs", "unknown result to compare with 'qcs'. Did you mean 'qcse'"),
        ("awac", "Allowed: iql, 'iql . qcse, k 5'"),
        (["iql"], r"unknown result to compare with \['iql'\]"),
    ):
        with pytest.raises(UserError, match=message):
            result.compare(baseline)
    with pytest.raises(UserError, match="nothing here but 'iql'"):
        made_up({("iql", "naive", None): [1.0]}).compare("iql")
    scores = {("iql", "", None): [1.0, 2.0, 1.5], ("bc", "", None): [3.0, 4.5, 3.2]}
    offline = made_up(scores, "offline")
    assert offline.compare("iql")["better"].tolist() == ["supported"]
    for wrong in (["final"], "regret"):
        with pytest.raises(UserError, match=r"unknown statistic|the regret is one of fine-tuning"):
            offline.summary(wrong)
        with pytest.raises(UserError, match=r"unknown statistic|the regret is one of fine-tuning"):
            offline.compare("iql", wrong)


def test_smoke_runs_are_no_comparison():
    result = o2okit.finetune(
        TASK, "td3+bc", ["naive", "const"], seeds=2, profile="smoke", hyper=SMALL
    )
    (row,) = result.compare("naive").to_dict("records")
    assert (row["name"], row["baseline"]) == ("td3+bc + const", "td3+bc")
    assert (row["better"], row["reason"]) == ("not run", "smoke results never enter a verdict")
    assert row["low"] <= row["difference"] <= row["high"], "to be looked at"


def test_layers_are_a_value_and_lists_of_them_a_sweep():
    wide = {**SMALL, "hidden": [[16, 16], [8, 8]]}
    result = o2okit.pretrain(TASK, "bc", seeds=1, profile="smoke", hyper=wide)
    assert [run.spec.hyper["hidden"] for run in result.runs] == [(16, 16), (8, 8)]
    assert result.summary()["setting"].tolist() == ["hidden (16, 16)", "hidden (8, 8)"]
    alike = o2okit.pretrain(
        TASK, "bc", seeds=1, profile="smoke", hyper={**SMALL, "hidden": [16, 16]}
    )
    assert [run.spec.id for run in alike.runs] == [result.runs[0].spec.id]
    assert "setting" not in alike.frame


def test_evaluations_as_often_as_asked_for():
    result = o2okit.finetune(TASK, "bc", seeds=1, profile="smoke", hyper=SMALL, eval_every=10)
    steps = result.frame.groupby("phase")["step"].unique().map(list).to_dict()
    assert steps == {"offline": [0, 10, 20], "online": [0, 10, 20, 30, 40, 50]}


@pytest.mark.parametrize("method", ["reiql", "rnd", "temperature"])
def test_what_gde_calls_oniql_learns_from_its_own_transitions(method):
    """specs/gde.md 2.9 and 3, also where nobody asks for it."""
    data = obtain.dataset(TASK, rows=2_000)
    start = RunSpec(TASK, "iql", "offline", 10, 0, dataset=data)
    assert protocol.online(start, method, 20).replay == "online"
    assert protocol.online(start, "naive", 20).replay == "mixed"


def test_replay_of_plain_fine_tuning():
    result = o2okit.finetune(TASK, "td3+bc", seeds=1, profile="smoke", hyper=SMALL, replay="online")
    assert result.runs[-1].spec.dataset is None
    assert BACKBONES["cal-ql"].replay == "half"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "hoper-random-v2"}, "Did you mean 'hopper-random-v2'"),
        ({"backbone": "iqll"}, "Did you mean 'iql'"),
        ({"backbone": []}, "backbone must be a name or a list of different ones"),
        ({"backbone": ["iql", "iql"]}, "backbone must be a name or a list of different ones"),
        ({"method": []}, "method must be a name or a list of different ones"),
        ({"method": "naif"}, "unknown method"),
        ({"profile": "smok"}, "Did you mean 'smoke'"),
        ({"seeds": 0}, "number of seeds"),
        ({"ant_obs": 27}, "27 for ant's tasks"),
        ({"eval_every": 0}, "eval_every must be"),
        ({"seeds": []}, "number of seeds"),
        ({"seeds": [0, 0]}, "list of different ones"),
        ({"steps": 0}, "steps must be"),
        ({"profile": ""}, "unknown profile ''"),
        ({"replay": ""}, "unknown replay ''"),
        ({"replay": []}, r"unknown replay \[\]"),
        ({"replay": 0}, "unknown replay 0"),
        ({"hyper": 0}, "are a dictionary .* got 0"),
        ({"hyper": []}, r"are a dictionary .* got \[\]"),
        ({"hyper": "x"}, "are a dictionary .* got 'x'"),
        ({"method_hyper": ""}, "are a dictionary .* got ''"),
        ({"hyper": {"hidden": 16}}, "a list of whole numbers, .* got 16"),
        ({"hyper": {"beta": 10**400}}, "beta must be finite"),
        ({"hyper": {"beta": [3, 3.0]}}, "beta: a sweep is a list of different values"),
        ({"task": [TASK]}, "unknown task"),
        ({"backbone": 5}, "backbone must be a name or a list of different ones; got 5"),
        ({"backbone": {"iql"}}, "backbone must be a name or a list"),
        ({"backbone": {"iql": 1}}, "backbone must be a name or a list"),
        ({"backbone": [["iql"]]}, r"unknown backbone \['iql'\]"),
        ({"method": 5}, "method must be a name or a list"),
        ({"method": "gde", "steps": "100"}, "steps must be a whole number >= 1; got '100'"),
        ({"source": 5}, "source must be a name or a path"),
        ({"seeds": np.array(3)}, r"number of seeds.* got array\(3\)"),
        ({"seeds": np.zeros((2, 2), int)}, "number of seeds"),
        ({"method": "qcse", "steps": 19}, "begins with 20 transitions"),
        (
            {"method": ["naive", "const"], "method_hyper": {"weight": 2}},
            r"'naive' has no hyper-parameter 'weight'.* say whose it is: .'const': .'weight': \.\.\.}}",
        ),
        ({"offline_steps": 0}, "^offline_steps must be a whole number >= 1"),
        ({"replay": "offline"}, "allowed: online, mixed, half"),
        ({"source": "kid"}, "kid"),
        ({"hyper": {"betta": 1.0}}, "Did you mean 'beta'"),
        (
            {"hyper": {"iqll": {"beta": 1.0}}},
            "name among the hyper-parameters 'iqll'. Did you mean",
        ),
        ({"method_hyper": {"naive": {}, "gde": {}}}, "unknown name .* 'gde'. Allowed: naive"),
        ({"hyper": {"iql": 3, "a": {}}}, "hyper-parameters of 'iql' are a dictionary; got 3"),
        ({"backbone": "dqn"}, "not made for the actions"),
        ({"task": "hopper"}, "hopper"),
        ({"task": "pen-binary-v0"}, "pen-cloned-v1"),
        ({"source": "d4rl"}, "no dataset of hopper-random-v2"),
        ({"task": "toy-maze", "backbone": "cql-discrete"}, r"come from o2okit\.data\.maze"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    given = {"task": TASK, "backbone": "iql", "profile": "smoke", **arguments}
    with pytest.raises(UserError, match=message):
        o2okit.finetune(given.pop("task"), given.pop("backbone"), **given)


def test_the_settings_table_names_what_exists():
    for (backbone, family, _), values in TABLE.items():
        assert family in FAMILIES
        numbers = {name: 1.0 if callable(value) else value for name, value in values.items()}
        complete(BACKBONES[backbone].Hyperparameters, numbers)
    data = obtain.dataset(TASK, rows=2_000)
    assert settings("iql", task("antmaze-umaze-v2"), data)["beta"] == 10.0
    assert settings("td3+bc", task("hopper-medium-v2"), data) == {}
    for backbone in ("cql", "cal-ql"):  # specs/qcse.md 3
        maze = settings(backbone, task("antmaze-large-diverse-v2"), data)
        assert maze == {"reward_scale": 10.0, "reward_bias": -5.0, "gap": 0.8}
        binary = {"reward_scale": 10.0, "reward_bias": 5.0, "weight": 1.0}
        wide = {"hidden": (512,) * 2, "critic_hidden": (512,) * 3}
        assert settings(backbone, task("pen-binary-v0"), data) == binary | wide
    assert settings("cql", task("pen-expert-v1"), data) == {}
    for name in ("pen-binary-v0", "pen-expert-v1"):  # specs/samg.md 2.6
        assert settings("awac", task(name), data) == {"temperature": 0.1}
    assert sources.SOURCES[0] == "auto"


def test_iql_scales_rewards_by_the_range_of_returns():
    data = obtain.dataset(TASK, rows=2_000)
    returns = episode_returns(data)

    def span(dataset):
        return 1000.0 / settings("iql", task(TASK), dataset)["reward_scale"]

    theirs = published_values(TASK)
    narrow, wide = returns.max() - returns.min(), theirs["return_max"] - theirs["return_min"]
    assert narrow < wide
    assert span(data) == pytest.approx(wide), "the kit's 2,000 rows are more alike than D4RL's"
    varied = dataclasses.replace(data, rewards=10 * data.rewards)
    assert span(varied) == pytest.approx(10 * narrow)
    own = dataclasses.replace(data, source="d4rl")
    assert span(own) == pytest.approx(narrow), "D4RL's own file is taken as it is"
    assert settings("iql", task(TASK), data, {"reward_scale": 2.0}) == {"reward_scale": 2.0}
    one = own.select(np.arange(3), "start")
    with pytest.raises(UserError, match="no range to scale rewards"):
        settings("iql", task(TASK), one)


def test_an_episode_that_the_data_break_off_is_not_a_part_of_their_mean():
    n = 6
    fields = {"observations": np.zeros((n, 11)), "actions": np.zeros((n, 3))}
    fields |= {"rewards": np.array([1.0, 2, 3, 90, 90, 90])}

    def score(terminals, timeouts):
        """Of a file's rows as they are read: the last gives no transition."""
        rows = Rows(
            **fields, terminals=np.isin(range(n), terminals), timeouts=np.isin(range(n), timeouts)
        )
        data = d4rl.transitions(rows, TASK, name="made up", source="kit")
        return Result([], data, "smoke").data_score

    def expected(*returns):
        return pytest.approx(float(normalised_score(TASK, np.mean(returns))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "task", TASK)
        assert score([2], []) == expected(6)
        assert score([2], [n - 1]) == expected(6, 180)
        assert score([2, n - 1], []) == expected(6, 180)
        assert score([], []) == expected(186)


def test_several_backbones_in_one_result(tmp_path):
    result = o2okit.pretrain(TASK, ["bc", "td3+bc"], seeds=2, profile="smoke", hyper=SMALL)
    summary = result.summary().set_index("backbone")
    assert list(summary.index) == ["bc", "td3+bc"]
    assert (summary["phase"] == "offline").all()
    alone = o2okit.pretrain(TASK, "td3+bc", seeds=2, profile="smoke", hyper=SMALL).summary()
    assert alone["score"][0] == summary.loc["td3+bc", "score"]
    assert result.dataset.provenance["unfinished"]
    mean = normalised_score(TASK, episode_returns(result.dataset)[:-1].mean())
    assert summary["data"].tolist() == pytest.approx([mean, mean])
    labels = [text.get_text() for text in result.plot().get_legend().get_texts()]
    assert labels == ["bc", "td3+bc", "data"]
    files = result.save(tmp_path, "offline")
    written = pd.read_csv(tmp_path / "offline.summary.csv")
    assert written["backbone"].tolist() == ["bc", "td3+bc"] * 2
    assert written["statistic"].tolist() == ["final"] * 2 + ["last-10"] * 2
    assert len(files) == 5


def test_from_scratch_one_run_serves_all_datasets_of_an_environment(tmp_path, capsys):
    small = {"seeds": 1, "profile": "smoke", "hyper": SMALL}
    result = o2okit.scratch("hopper-medium-v2", **small)
    assert [run.spec.task for run in result.runs] == ["hopper"]
    assert result.runs[0].spec.learning_starts == 20
    assert result.runs[0].agent().updates == 30
    with pytest.raises(UserError, match="first update comes after 20"):
        o2okit.scratch("hopper", steps=20, **small)
    assert result.label() == "no data, from scratch · profile smoke, steps: 50 online · seeds 0"
    assert result.summary()["phase"].tolist() == ["online"]
    capsys.readouterr()
    again = o2okit.scratch("hopper-random-v2", **small)
    assert "steps/s" not in capsys.readouterr().out
    assert again.frame.equals(result.frame)
    assert result.plot().get_xlabel() == "environment steps"
    files = result.save(tmp_path, "hopper.scratch")
    assert len(files) == 5
    record = json.loads(files[-1].read_text(), parse_constant=pytest.fail)
    assert [row["data"] for row in record["summary"]] == [None, None]
    assert o2okit.scratch("pen-cloned-v1", "td3", **small).task == "pen"
    assert o2okit.scratch("pen-binary-v0", "td3", **small).task == "pen-binary-v0"


def test_from_scratch_has_the_settings_of_the_task_and_needs_a_score(monkeypatch):
    small = {"seeds": 1, "profile": "smoke", "hyper": SMALL}
    (run,) = o2okit.scratch("antmaze-umaze-v2", "iql", **small).runs
    assert [run.spec.hyper[name] for name in ("expectile", "beta", "reward_bias")] == [0.9, 10, -1]
    (run,) = o2okit.scratch("hopper", "iql", **small).runs
    assert run.spec.hyper["reward_scale"] == 1.0, "that one is the dataset's"
    monkeypatch.setattr(experiment, "train", None)
    for name, backbone in (("ant-controller", "sac"), ("toy-maze", "dqn")):
        with pytest.raises(UserError, match="no reference scores"):
            o2okit.scratch(name, backbone, seeds=1, profile="smoke")


def test_mistakes_are_refused_before_a_dataset_is_built(monkeypatch):
    monkeypatch.setattr(obtain, "build_kit", None)
    task = "hopper-expert-v2"  # not built by any of these tests
    for wrong in (
        {"backbone": "iqll"},
        {"backbone": None},
        {"backbone": "dqn"},
        {"seeds": 0},
        {"seeds": [[0]]},
        {"seeds": [0.5]},
        {"method": "naif"},
        {"method": "gde", "backbone": "bc"},
        {"steps": "50"},
        {"device": "gpu"},
        {"hyper": {"critic_lr": float("inf")}},
        {"replay": "offline"},
    ):
        with pytest.raises(UserError):
            o2okit.finetune(task, **{"backbone": "iql", "profile": "smoke", **wrong})
    with pytest.raises(UserError):
        o2okit.pretrain(task, "iqll", profile="smoke")


def test_seeds_may_be_any_whole_numbers():
    assert experiment._seeds(np.arange(2), "smoke") == [0, 1]
    assert experiment._seeds(range(3, 5), "smoke") == [3, 4]
    assert experiment._seeds(np.int64(2), "smoke") == [0, 1]


def test_a_diverged_run_is_marked_wherever_it_is_shown(tmp_path, capsys):
    broken = {**SMALL, "critic_lr": 1e30, "actor_lr": 1e30}
    result = o2okit.pretrain(TASK, "td3+bc", seeds=1, profile="smoke", hyper=broken)
    assert result.diverged == [result.runs[0].spec.id]
    assert result.frame["diverged"].all()
    assert result.summary()["diverged"].tolist() == [1]
    assert result.label().endswith("1 RUNS DIVERGED")
    assert repr(result) == f"result on {TASK}: 1 td3+bc offline runs; {result.label()}"
    whole = o2okit.pretrain(TASK, "bc", seeds=1, profile="smoke", hyper=SMALL)
    assert whole.diverged == []
    assert whole.summary()["diverged"].tolist() == [0]
    assert "DIVERGED" not in whole.label()


def test_a_profiles_amounts_of_a_method_are_those_of_the_sections():
    result = o2okit.finetune(TASK, "iql", "bp-iql", seeds=1, profile="smoke", hyper=SMALL)
    assert result.runs[-1].spec.method_hyper["epochs"] == 1


def test_the_regret_counts_episodes_that_miss_their_goal():
    result = o2okit.finetune(TASK, "bc", seeds=1, profile="smoke", hyper=SMALL)
    with pytest.raises(UserError, match="hopper-random-v2 has none"):
        result.summary("regret")
    maze = o2okit.scratch("antmaze-umaze-v2", seeds=2, profile="smoke", steps=60, hyper=SMALL)
    with pytest.raises(UserError, match=r"no episode .* was over"):
        maze.summary("regret")


def test_a_damaged_file_of_d4rl_is_named_not_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    (tmp_path / sources.FILES[TASK].name).write_bytes(b"broken")
    with pytest.raises(UserError, match="6 bytes where D4RL's file has"):
        obtain.dataset(TASK, rows=2_000)


def test_kit_data_of_older_policies_are_collected_again_and_of_another_seed_refused(
    monkeypatch, capsys
):
    first = obtain.dataset(TASK, rows=2_000)
    assert obtain.dataset(TASK, rows=2_000).hash == first.hash
    with pytest.raises(UserError, match="collected with seed 0, not 1"):
        obtain.build_kit(TASK, 2_000, seed=1)
    capsys.readouterr()
    monkeypatch.setattr(obtain.kit, "outdated", lambda task, made: "other policies")
    assert obtain.dataset(TASK, rows=2_000).hash == first.hash
    assert "other policies; collecting it again" in capsys.readouterr().out


def test_ant_trains_without_its_zeros():
    result = o2okit.finetune(
        "ant-random-v2", "iql", seeds=1, profile="smoke", hyper=SMALL, ant_obs=27
    )
    assert result.dataset.observations.shape[1] == 27
    assert result.dataset.provenance["without_padding"] == 84
    assert [run.spec.describe()["ant_obs"] for run in result.runs] == [27, 27]
    assert [len(frame) for _, frame in result.frame.groupby("phase")] == [2, 3]
    alone = o2okit.scratch("ant", seeds=1, profile="smoke", hyper=SMALL, ant_obs=27)
    assert alone.runs[0].spec.describe()["ant_obs"] == 27
    with pytest.raises(UserError, match="27 for ant's tasks"):
        o2okit.pretrain(TASK, "iql", seeds=1, profile="smoke", hyper=SMALL, ant_obs=27)
