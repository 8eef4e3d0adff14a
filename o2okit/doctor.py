"""``o2okit doctor``: what this machine has, what is missing, what would be slow."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from typing import NamedTuple

import torch

import o2okit
from o2okit import native, paths
from o2okit.errors import UserError
from o2okit.methods import neighbours
from o2okit.training.store import RunStore

PACKAGES = {  # and the extra of o2okit that installs them
    "torch": "",
    "numpy": "",
    "scipy": "",
    "pandas": "",
    "gymnasium": "",
    "matplotlib": "",
    "mujoco": "data",
    "h5py": "data",
    "gymnasium-robotics": "data",
    "ale-py": "atari",
    "papermill": "notebook",
    "jupyterlab": "notebook",
}
DATA_FOLDERS = {  # name -> variable that moves it, where it lies otherwise
    "O2OKIT_DATA_DIR": ("O2OKIT_DATA_DIR", None),
    "D4RL's cache": ("D4RL_DATASET_DIR", "~/.d4rl/datasets"),
    "Minari's store": ("MINARI_DATASETS_PATH", "~/.minari/datasets"),
}
ENOUGH_DISK = 2e9


class Finding(NamedTuple):
    """One line: ``ok``, ``note`` (slower or missing, not wrong) or ``BAD``."""

    level: str
    what: str
    text: str


def examine() -> list[Finding]:
    """Looks at everything once; trains nothing and writes nothing but the run store's folder."""
    return [*_versions(), *_device(), *_folders()]


def _versions() -> list[Finding]:
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    found = [
        Finding("ok", "o2okit", o2okit.__version__),
        Finding(
            "ok" if good else "note", "python", f"{platform.python_version()} (tested: 3.11, 3.12)"
        ),
    ]
    for name, extra in PACKAGES.items():
        try:
            found.append(Finding("ok", name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            package = f"o2okit[{extra}]" if extra else "o2okit"
            level = "note" if extra else "BAD"
            found.append(Finding(level, name, f"missing: pip install '{package}'"))
    return found


def _device() -> list[Finding]:
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    found = [Finding("ok", "cpu", f"{cores} cores, PyTorch uses {threads} threads")]
    if threads > cores:
        text = f"more threads than cores is slow: set OMP_NUM_THREADS={cores}"
        found.append(Finding("note", "threads", text))
    elif threads < cores <= 4:
        found.append(Finding("note", "threads", "PyTorch uses fewer threads than there are cores"))
    try:
        there = native.compiled(neighbours.SOURCE) is not None
        text = (
            "compiles"
            if there
            else "none that works (CC, cc): QCSE's bonus takes two to three times as long"
        )
        found.append(Finding("ok" if there else "note", "C compiler", text))
    except UserError as error:
        found.append(Finding("BAD", "C compiler", str(error)))
    if torch.cuda.is_available():
        found.append(Finding("ok", "gpu", torch.cuda.get_device_name()))
    else:
        text = "none: laptop profiles are made for that, paper profiles of MuJoCo tasks are slow"
        found.append(Finding("note", "gpu", text))
    return found


def _folders() -> list[Finding]:
    found = []
    try:
        found.append(Finding("ok", "project", str(paths.home())))
        store = RunStore().root
        free = shutil.disk_usage(store).free
        writable = os.access(store, os.W_OK)
        level = "BAD" if not writable else "ok" if free > ENOUGH_DISK else "note"
        text = f"{store}, {free / 1e9:.1f} GB free" + ("" if writable else ", can't be written")
        found.append(Finding(level, "run store", text))
    except UserError as error:
        found.append(Finding("BAD", "folders", str(error)))
    for name, (variable, usual) in DATA_FOLDERS.items():
        folder = os.environ.get(variable) or usual
        if folder is None:
            found.append(Finding("ok", name, "not set"))
            continue
        try:
            path = paths.readable(paths.named(variable) or paths.expanded(folder))
        except UserError as error:
            found.append(Finding("BAD", name, str(error)))
            continue
        if os.environ.get(variable) and not path.is_dir():
            text = f"{path} is not there: a typo in {variable}? Kit datasets would be built in it"
            found.append(Finding("note", name, text))
            continue
        files = sum(1 for _ in path.rglob("*.hdf5")) if path.is_dir() else 0
        found.append(Finding("ok", name, f"{path}: {files} HDF5 files"))
    return found
