"""Where does a command's model come from, and with which classes of the user's own?"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import bnfix
from bnfix.errors import OptionError, gist

#: What a file imports from one Keras must not replace that of the other, and a model that names
#: functions of Python's own library is not to find them.
_NOT_THE_USERS = {"keras", "tf_keras", "tensorflow", *sys.stdlib_module_names}


@dataclass(frozen=True)
class Source:
    """A model file, and what it takes to load it.

    Attributes:
        file: Path of the model.
        custom: Python files and names of modules that define the model's own classes.
        allow_unsafe: Whether code in the file may be run.
    """

    file: Path
    custom: tuple[str, ...]
    allow_unsafe: bool

    @cached_property
    def objects(self) -> dict[str, Any]:
        """What the user's files and modules define, imported once."""
        found: dict[str, Any] = {}
        for name in self.custom:
            found |= custom_objects(_imported(name))
        return found

    def load(self) -> Any:
        """The model, in the Keras that it was made with."""
        return bnfix.load(self.file, self.objects, allow_unsafe=self.allow_unsafe)


def custom_objects(module: ModuleType) -> dict[str, Any]:
    """Classes and functions at the top level of `module`, and what it says itself.

    Its `custom_objects`, a dict as `load_model` takes it, is for names that differ from those in
    the file. What it has registered with Keras is found by Keras.
    """
    held = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and _root(value) not in _NOT_THE_USERS and hasattr(value, "__name__")
    }
    return held | dict(getattr(module, "custom_objects", {}))


def _root(value: Any) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]


def _imported(name: str) -> ModuleType:
    """The module in the file `name`, or the module of that name as seen from the current folder."""
    file = Path(name)
    if file.suffix == ".py" and not file.is_file():
        raise OptionError(
            f"--custom {name}: there is no such file. Pass a Python file or the name of a module "
            "that defines the model's layers."
        )
    # Where Python itself would look, were the file run, or the module started with -m.
    folder = str(file.parent.resolve()) if file.suffix == ".py" else str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _from_file(file) if file.suffix == ".py" else importlib.import_module(name)
    except Exception as error:  # whatever the user's code raises
        raise OptionError(
            f"--custom {name} cannot be imported: {gist(error)}{_where(error)}. Mend it, or leave "
            "it out."
        ) from error


def _from_file(file: Path) -> ModuleType:
    """Under the name that it has in the user's own code, for Keras writes that into new files."""
    name = file.stem
    taken = getattr(sys.modules.get(name), "__file__", None)
    if name in sys.stdlib_module_names or (taken and Path(taken).resolve() != file.resolve()):
        raise ImportError(f"there is another module called {name!r}, so rename the file")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module


def _where(error: Exception) -> str:
    """The line that failed, unless the import itself did."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    inside = not last.filename.startswith("<frozen") and last.filename != __file__
    return f" ({last.filename}, line {last.lineno})" if inside else ""
