"""The core runs where TensorFlow, PyAV and the like are not installed, and imports point one way."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vssl_jax"

# What may not be needed to import anything but data/'s insides: setup.py's extras, and clu, which images for accelerators often lack.
OPTIONAL = ("tensorflow", "tensorflow_datasets", "av", "clu", "torch", "transformers", "matplotlib", "sklearn", "PIL", "cv2", "grain")

# room -> the rooms that it may import, besides itself. Modules at the top that put rooms together (main, evaluate, ...) may import all.
ARROWS = {
    "batch": {"errors"},
    "cache": set(),
    "errors": set(),
    "chips": set(),
    "compiled": {"chips"},
    "config": set(),
    "folders": {"errors"},
    "data": {"batch", "cache", "errors", "folders"},
    "platform": set(),
    "perturb": {"batch", "errors", "platform"},
    "models": {"batch", "errors", "platform", "perturb"},
    "objectives": {"batch", "errors", "platform", "perturb", "models"},
    "train": {"batch", "chips", "errors", "config", "perturb", "objectives"},
    "limits": {"config", "errors"},
    "overrides": {"config", "errors"},
    "interop": {"errors", "perturb", "models", "objectives"},
    "evals": {"batch", "errors", "config", "data", "perturb", "models", "objectives", "train"},
}
# A method is what a recipe makes; but for the objective that evaluation itself trains.
METHODS = {path.stem for path in (PACKAGE / "objectives").glob("*.py") if "\ndef from_config(" in path.read_text()} - {"classify"}


def files(room: str) -> list[Path]:
    path = PACKAGE / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [PACKAGE / f"{room}.py"]


def imported(path: Path) -> set[str]:
    """Dotted names of what a file imports of vssl_jax, also inside functions; "objectives.protocol" for `from vssl_jax.objectives import
    protocol`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("vssl_jax.") for name in found if name.startswith("vssl_jax.")}


def words(path: Path) -> set[str]:
    """Names, attributes and strings of a file's code, lower case; docstrings and comments may tell of methods."""
    tree, found = ast.parse(path.read_text()), set()
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            found.add(node.value.lower())
        found |= {str(getattr(node, name)).lower() for name in ("id", "attr", "name", "module", "arg") if getattr(node, name, None)}
    return found


@pytest.mark.parametrize("room", ARROWS)
def test_imports_point_one_way(room):
    for path in files(room):
        rooms = {name.split(".")[0] for name in imported(path)} - {room}
        assert rooms <= ARROWS[room], f"{path.relative_to(ROOT)} imports {sorted(rooms - ARROWS[room])}"


def test_every_room_has_its_arrows():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == {room for room in ARROWS if (PACKAGE / room).is_dir()}


@pytest.mark.parametrize("room", ["train", "evals"])
def test_the_trainer_and_the_evaluation_know_no_method(room):
    assert METHODS, "there is a method to know"
    for path in files(room):
        named = {word for word in words(path) for method in METHODS if re.search(rf"(?<![a-z]){method}(?![a-z])", word)}
        assert not named, f"{path.relative_to(ROOT)} names {sorted(named)}"


def test_the_trainer_knows_the_protocol_only():
    for path in files("train"):
        objectives = {name for name in imported(path) if name.startswith("objectives")}
        assert all(name.startswith("objectives.protocol") for name in objectives), f"{path.relative_to(ROOT)}: {sorted(objectives)}"


def test_optional_packages_are_imported_inside_functions_only():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                roots = {name.split(".")[0] for name in names}
                assert not roots & set(OPTIONAL), f"{path.relative_to(ROOT)} imports {sorted(roots & set(OPTIONAL))} when it is imported"


def test_tensorflow_and_av_are_imported_in_data_only():
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "data"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names} & {"tensorflow", "tensorflow_datasets", "av"}
            assert not roots, f"{path.relative_to(ROOT)} imports {sorted(roots)}"


def test_everything_imports_and_noise_trains_without_the_optional_packages():
    """In a process of its own that cannot find them: all modules, and batches of the source that needs none."""
    program = f"""
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import vssl_jax
modules = [module.name for module in pkgutil.walk_packages(vssl_jax.__path__, "vssl_jax.")]
for name in modules:
    importlib.import_module(name)
loaded = [name for name in {OPTIONAL!r} if name in sys.modules]
assert not loaded, loaded

from vssl_jax import batch
from vssl_jax.data import open_source
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.pipeline import Input, batches
from vssl_jax.data.sample import Dense
from vssl_jax.errors import UserError
source = open_source({{"source": "synthetic", "path": ""}})
made = next(batches(Input(source, batch.Spec(2, 1, 2, 8, 8), Dense(2), BrokenRecord(0.0))))
batch.check(made)
assert {{"video", "label"}} <= set(made)
try:
    from vssl_jax.data.tensorflow_host import tensorflow
    tensorflow()
except UserError as error:
    assert "data.source=synthetic" in str(error)
print(len(modules), "modules")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 30
