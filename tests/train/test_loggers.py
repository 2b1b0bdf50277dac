"""Numbers for wandb and mlflow, whose packages small modules stand for here, or for nobody."""

import importlib.machinery
import sys
import types

import pytest

from lib.config import load_config
from lib.train.checks import check_run
from lib.train.log import RunLog
from lib.train.run import train
from lib.utils.errors import UserError
from tests.train.tiny_runs import lightning


@pytest.fixture
def stand_in(monkeypatch):
    """Puts a module in the place of a package."""

    def put(name, **content):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="here")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return put


class FakeError(Exception):
    """A package's own."""

    __module__ = "wandb.errors"


class FakeWandb:
    """The runs of a server, and what was logged to each; a call takes the arguments that the package documents."""

    def __init__(self):
        self.logged, self.axes, self.inits, self.finished = {}, {}, [], []

    def init(self, *, project, name, id, resume, dir, config):  # noqa: A002
        self.inits.append({"project": project, "name": name, "id": id, "resume": resume, "config": config})
        key = id or f"run{len(self.logged)}"
        log = self.logged.setdefault(key, []).append
        define = lambda glob, step_metric: self.axes.update({glob: step_metric})  # noqa: E731
        return types.SimpleNamespace(id=key, log=log, define_metric=define, finish=self.finish)

    def finish(self, exit_code):
        self.finished.append(exit_code)


class FakeMlflow:
    """One server, as above."""

    def __init__(self):
        self.runs, self.now, self.uri = {}, None, None

    def set_tracking_uri(self, uri):
        self.uri = uri

    def start_run(self, run_id=None, run_name=None):
        assert self.now is None
        self.now = run_id or f"run{len(self.runs)}"
        self.runs.setdefault(self.now, {"name": run_name, "params": {}, "points": []})
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=self.now))

    def log_params(self, params):
        assert not self.runs[self.now]["params"]
        self.runs[self.now]["params"] = params

    def log_metrics(self, metrics, step):
        self.runs[self.now]["points"].append((step, metrics))

    def end_run(self, status):
        self.runs[self.now]["status"] = status
        self.now = None


@pytest.fixture
def wandb(stand_in, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    fake = FakeWandb()
    stand_in("wandb", init=fake.init, Error=FakeError)
    return fake


@pytest.fixture
def mlflow(stand_in, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fake = FakeMlflow()
    names = ("set_tracking_uri", "start_run", "log_params", "log_metrics", "end_run")
    stand_in("mlflow", MlflowException=FakeError, **{name: getattr(fake, name) for name in names})
    return fake


def test_a_whole_run_and_the_one_that_goes_on_are_one_there(videos, tmp_path, wandb, mlflow):
    run = lightning(videos, tmp_path, "LOG.TO=[wandb, mlflow]", "TRAIN.EPOCH=1")
    stats = train(run)
    longer = lightning(videos, tmp_path, "LOG.TO=[mlflow, wandb]", "TRAIN.EPOCH=2")
    later = train(longer)
    assert train(longer) == later  # nothing is left to do, and nobody is told
    assert not (tmp_path / "tensorboard").exists()

    assert [(init["id"], init["name"]) for init in wandb.inits] == [(None, title(run)), ("run0", title(run))]
    assert wandb.inits[0]["config"]["TRAIN"]["EPOCH"] == 1
    assert wandb.axes == {"train_steps/*": "step", "train/*": "epoch", "val/*": "epoch"}
    points = wandb.logged["run0"]
    assert [point["step"] for point in points if "step" in point] == [2, 4]
    assert [point["epoch"] for point in points if "val/IoU" in point] == [1, 2]
    assert [point["val/IoU"] for point in points if "val/IoU" in point] == [s["val"]["IoU"] for s in (stats, later)]
    assert any("train_steps/lr/backbone" in point for point in points)
    assert wandb.finished == [0, 0]

    (kept,) = mlflow.runs.values()
    assert kept["name"] == title(run)
    assert kept["params"]["TRAIN.EPOCH"] == "1"
    assert mlflow.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert [(step, values["val/IoU"]) for step, values in kept["points"] if "val/IoU" in values] == [
        (1, stats["val"]["IoU"]),
        (2, later["val"]["IoU"]),
    ]
    assert (mlflow.now, kept["status"]) == (None, "FINISHED")


def test_a_run_that_fails_is_one_there(videos, tmp_path, wandb, mlflow, monkeypatch):
    monkeypatch.setattr("lib.train.trainer.Trainer.validate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(lightning(videos, tmp_path, "LOG.TO=[wandb, mlflow]", "TRAIN.EPOCH=1"))
    assert wandb.finished == [1]
    assert [run["status"] for run in mlflow.runs.values()] == ["FAILED"]


def title(run):
    return f"{run.script}-{run.name}"


def test_a_run_from_the_start_is_a_new_one_in_the_same_folder(tmp_path, wandb):
    for _ in range(2):
        log = RunLog(tmp_path, "a-b", to=["wandb"])
        log.curves("val", 1, {"IoU": 0.5})
        log.close()
    assert list(wandb.logged) == ["run0", "run1"]
    assert (tmp_path / "logs" / "a-b.wandb").read_text() == "run1"


def test_other_ranks_start_no_run(tmp_path, wandb):
    log = RunLog(tmp_path, "a-b", active=False, to=["wandb"])
    log.begin()
    log.curves("val", 1, {"IoU": 0.5})
    log.close()
    assert wandb.inits == []


def test_nobody_is_asked_for_an_empty_list(videos, tmp_path):
    train(lightning(videos, tmp_path, "LOG.TO=[]", "TRAIN.EPOCH=1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "checkpoints", "logs"]


def test_a_missing_package_is_one_line_before_the_training(videos, tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else stand_in(name).__spec__)
    run = lightning(videos, tmp_path, "LOG.TO=[tensorboard, wandb]")
    findings = check_run(run, load_config(run.script, run.config, run.overrides)).findings
    assert [tuple(finding) for finding in findings if finding.subject == "LOG.TO"] == [
        ("problem", "LOG.TO", "the package wandb is not installed: pip install wandb, or leave wandb out")
    ]


def test_a_server_that_refuses_is_one_line(videos, tmp_path, stand_in):
    def refuse(**_):
        raise FakeError("no key\nconfigured.")

    stand_in("wandb", init=refuse, Error=FakeError)
    with pytest.raises(UserError, match="^wandb: no key configured: run `wandb login`, or set WANDB_MODE=offline, or"):
        train(lightning(videos, tmp_path, "LOG.TO=[wandb]"))
