"""The package as a whole: light to import, and Keras and array libraries named in few places.

Which room may import which stands in `pyproject.toml`; `lint-imports` looks after it.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnfix

PACKAGE = Path(bnfix.__file__).parent
MODULES = {
    ".".join(["bnfix", *path.relative_to(PACKAGE).with_suffix("").parts]): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = (
    "tensorflow", "keras", "tf_keras", "h5py", "rich", "click", "numpy", "sklearn", "matplotlib",
    "PIL",
)  # fmt: skip

#: What Python itself documents of named tuples and enumerations.
PUBLIC = {"_fields", "_make", "_value_"}
#: Where an array library may be named at all; of these, two are loaded only for what needs them:
#: models of tf_keras, and models under a strategy.
TENSORFLOW = re.compile(r"bnfix\.(adapters\.(backends\..*|keras2|opening)|data\..*)$")
TENSORFLOW_AT_THE_TOP = {"bnfix.adapters.keras2", "bnfix.adapters.backends.tensorflow_workers"}
ARRAY_LIBRARIES = {"tensorflow", "jax", "torch"}
KERASES = {"keras", "tf_keras"}
THIRD_PARTY_OF_ROOM = {
    "numerics": {"numpy"},
    "graph": {"numpy"},
    "passes": {"numpy"},
    "files": {"numpy", "h5py"},
}


# --- imports -------------------------------------------------------------------------------------


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Every module imported in `tree`, and whether that happens when `tree` is loaded."""
    lazy = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types(scope)
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, id(node) not in lazy) for name in _from(node))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _from(node: ast.ImportFrom) -> Iterator[str]:
    """`from bnfix.passes import fold` imports a module, `from bnfix.errors import X` a name."""
    assert node.level == 0, "relative imports hide which room is meant"
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        yield inner if inner in MODULES else str(node.module)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def violations(module: str, text: str) -> list[str]:
    """What in `text`, as the source of `module`, names a package that has no place there."""
    found: list[str] = []
    for name, at_the_top in imported(ast.parse(text)):
        root = name.partition(".")[0]
        if root in KERASES and (at_the_top or room(module) != "adapters"):
            found.append(f"{module} imports {name}")
        elif root in ARRAY_LIBRARIES:
            allowed = TENSORFLOW.match(module)
            if not allowed or (at_the_top and module not in TENSORFLOW_AT_THE_TOP):
                found.append(f"{module} imports {name}")
        elif root != "bnfix" and root not in sys.stdlib_module_names:
            only = THIRD_PARTY_OF_ROOM.get(room(module))
            if only is not None and root not in only:
                found.append(f"{module} imports {name}")
    return found


def private_keras_attributes(module: str, text: str) -> list[str]:
    """Underscored attributes of anything but `self` and `cls`; only adapters may know Keras's."""
    if room(module) == "adapters":
        return []
    return [
        f"{module}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and node.attr not in PUBLIC
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_names_only_packages_of_its_room(module):
    assert violations(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_only_adapters_touch_private_attributes_of_others(module):
    assert private_keras_attributes(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("bnfix.passes.new", "import keras"),
        ("bnfix.numerics.new", "import rich"),
        ("bnfix.files.new", "import tensorflow as tf"),
        ("bnfix.files.new", "def f():\n    import tf_keras"),
        ("bnfix.recalibration.new", "import tensorflow as tf"),
        ("bnfix.operations.new", "def f():\n    import tensorflow as tf"),
        ("bnfix.adapters.keras3", "import keras"),
        ("bnfix.adapters.backends.tensorflow", "import tensorflow as tf"),
        ("bnfix.data.new", "from tensorflow import data"),
        ("bnfix.demo", "import keras"),
    ],
)
def test_a_package_in_the_wrong_room_is_seen(module, text):
    assert violations(module, text)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("bnfix.data.new", "def f():\n    import tensorflow as tf"),
        ("bnfix.adapters.keras3", "def f():\n    from keras.src.models.functional import X"),
        ("bnfix.adapters.choose", "if TYPE_CHECKING:\n    import keras"),
        ("bnfix.passes.new", "import numpy as np\nfrom bnfix.numerics.linear import Linear"),
    ],
)
def test_a_package_in_its_room_is_let_through(module, text):
    assert violations(module, text) == []


def test_a_private_attribute_of_a_layer_is_seen_outside_of_the_adapters():
    text = "def f(layer):\n    return layer._inbound_nodes"
    assert private_keras_attributes("bnfix.passes.new", text)
    assert private_keras_attributes("bnfix.adapters.new", text) == []


# --- what importing costs ------------------------------------------------------------------------


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_importing_bnfix_imports_no_other_package():
    code = f"import sys, bnfix; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_importing_bnfix_takes_less_than_a_tenth_of_a_second():
    code = (
        "import time; begin = time.perf_counter(); import bnfix; print(time.perf_counter() - begin)"
    )
    assert min(float(python(code)) for _ in range(3)) < 0.1


# --- data ----------------------------------------------------------------------------------------


def unfrozen(text: str) -> set[str]:
    """Dataclasses in `text` whose instances may be changed."""
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        for decorator in map(ast.unparse, node.decorator_list)
        if decorator.startswith("dataclass") and "frozen=True" not in decorator
    }


def test_data_does_not_change_but_for_what_edits_are_collected_in():
    found = {name for path in MODULES.values() for name in unfrozen(path.read_text("utf-8"))}
    assert found == {"Edits", "Folded"}


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bnfix.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    assert getattr(bnfix, name).__doc__


def test_public_names_are_listed_for_completion_and_unknown_ones_are_refused():
    assert set(bnfix.__all__) <= set(dir(bnfix))
    with pytest.raises(AttributeError, match="no attribute 'unfold'"):
        _ = bnfix.unfold


def test_type_checkers_are_told_of_every_public_name():
    tree = ast.parse(MODULES["bnfix.__init__"].read_text("utf-8"))
    block = next(node for node in tree.body if _is_for_types(node))
    told = {alias.asname for node in block.body for alias in node.names}
    assert told == set(bnfix.__all__)
    assert (PACKAGE / "py.typed").is_file()
