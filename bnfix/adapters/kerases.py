"""Which Kerases are there, and under which names?

The package `keras` is Keras 3; beside TensorFlow 2.13 to 2.15 it is Keras 2, which is also what
`tf.keras` is there. `tf_keras` is Keras 2 always. Nothing is imported to tell what is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from contextlib import suppress
from importlib import metadata

from bnfix.errors import gist

#: The packages, of which each holds one Keras.
ROOTS = ("keras", "tf_keras")
#: The oldest of each generation; pyproject.toml says the same of Keras 3.
FLOORS = {2: (2, 13), 3: (3, 5)}
_TENSORFLOW_OF_KERAS_3 = (2, 16)


def is_installed(root: str) -> bool:
    return root in sys.modules or importlib.util.find_spec(root) is not None


def version(root: str) -> str:
    """Version of the package `root`; empty if it is not installed."""
    told = getattr(sys.modules.get(root), "__version__", None)
    if told is None and is_installed(root):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(root)
        with suppress(ImportError):  # tensorflow-cpu and nightly builds have names of their own
            told = importlib.import_module(root).__version__
    return str(told or "")


def generation(root: str) -> int:
    """2 or 3: which Keras the installed package `root` is."""
    return 2 if root == "tf_keras" or _numbers(version(root)) < (3,) else 3


def title(root: str) -> str:
    """What a user calls the Keras of the package `root`."""
    return "tf_keras" if root == "tf_keras" else f"Keras {generation(root)}"


def root_of(wanted: int) -> str | None:
    """The installed package that is Keras 2, or Keras 3; None where none is."""
    here = [root for root in ROOTS if is_installed(root) and generation(root) == wanted]
    return here[0] if here else None


def lack(wanted: int) -> str | None:
    """One sentence on why Keras 2, or Keras 3, cannot be used here, and what to install for it.

    None where it can; it is imported to find out.
    """
    root = root_of(wanted)
    if root is not None:
        return problem_with(root)
    instead = version("keras") if wanted == 3 else ""
    here = f", keras is {instead}" if instead else ""
    return f"Keras {wanted} is not installed{here}: {_install(wanted)}"


def problem_with(root: str) -> str | None:
    """As `lack`, of the package `root`."""
    if not is_installed(root):
        return f"{root} is not installed: {_install(3 if root == 'keras' else 2)}"
    if problem := outdated(root):
        return problem
    try:
        importlib.import_module(root)
    except ImportError as error:
        choice = " unless KERAS_BACKEND names another library that is installed"
        return (
            f"{title(root)} cannot be imported here ({gist(error)}). It runs on TensorFlow"
            f'{choice if generation(root) == 3 else ""}: pip install "bnfix[tensorflow]"'
        )
    return None


def outdated(root: str) -> str | None:
    """One sentence on why the installed package `root` is too old; None if it is not."""
    found, floor = version(root), FLOORS[generation(root)]
    if _numbers(found) >= floor:
        return None
    oldest = ".".join(map(str, floor))
    return (
        f"{root} {found} is installed, and bnfix needs Keras {oldest} or newer: "
        f"{_install(generation(root))}"
    )


def problem_with_seeds(root: str) -> str | None:
    """One sentence on why models of `root` cannot be made after seeding it; None if they can."""
    found = version(root)
    if generation(root) == 3 or _numbers(found) >= (2, 19) or sys.version_info < (3, 12):
        return None
    return f"{root} {found} cannot be seeded on Python 3.12 or newer, {root} 2.19 can"


def versions() -> dict[str, str]:
    """What is installed, by the name of its package, with the backend that Keras 3 runs on."""
    found = {name: version(name) for name in (*ROOTS, "tensorflow")}
    if lack(3) is None:
        found["keras"] += f" on {importlib.import_module('keras').backend.backend()}"
    elif found["keras"] and problem_with("keras"):
        found["keras"] += " (cannot be used)"
    return {name: told or "not installed" for name, told in found.items()}


def _install(wanted: int) -> str:
    """The line that installs Keras 2, or Keras 3, beside the TensorFlow that is there."""
    there = _numbers(version("tensorflow"))
    if wanted == 2:
        # Each tf-keras belongs to one TensorFlow and would bring it along.
        beside = f'"tf-keras~={there[0]}.{there[1]}.0"' if len(there) > 1 else "tf-keras"
        return f"pip install -U {beside}"
    oldest = ".".join(map(str, FLOORS[3]))
    newer = ' "tensorflow>=2.16"' if there and there < _TENSORFLOW_OF_KERAS_3 else ""
    return f'pip install -U "keras>={oldest}"{newer}'


def _numbers(told: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", told)[:3])
