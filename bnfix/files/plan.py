"""Who may open a file, with what, and what is said where nobody can?

The configuration tells who wrote the file, so that the right Keras gets it, and what opening it
would run, so that nothing but Keras and what the user has handed in does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from bnfix.adapters import kerases, opening
from bnfix.errors import FileError, UnsafeFileError, gist
from bnfix.files.container import Format, Stored
from bnfix.files.packages import ways_to_open
from bnfix.files.text import Json, items_of
from bnfix.files.trust import Concern, Danger, Missing, concerns

_log = logging.getLogger("bnfix")


@dataclass(frozen=True)
class Plan:
    """How a file is going to be opened.

    Attributes:
        title: The file and who wrote it.
        roots: The Kerases to try, in order.
        objects: Custom objects, under every name that they are looked up by.
        uncompiled: Why it is opened without its compile state; None if it has one that can be
            restored; empty if it has none.
        safe: Whether Keras is to refuse lambdas as well.
        classes: Names of classes that the file leaves to Keras to find.
        functions: Names of losses and metrics that it leaves to Keras to find.
        named: Names of functions that its layers call, and that it leaves to Keras to find.
        major: Of the Keras that wrote it.
    """

    title: str
    roots: tuple[str, ...]
    objects: Mapping[str, Any]
    uncompiled: str | None
    safe: bool
    classes: frozenset[str] = field(default=frozenset())
    functions: frozenset[str] = field(default=frozenset())
    named: frozenset[str] = field(default=frozenset())
    major: int | None = None

    def log(self, root: str) -> None:
        _log.info("%s opened by %s %s", self.title, root, kerases.version(root))

    def without_compilation(self, why: str) -> str:
        return (
            f"{self.title} was opened without its compile state: {why}. Call model.compile() "
            "before training or evaluating it."
        )

    @property
    def with_fresh_optimizer(self) -> str:
        return (
            f"{self.title} was opened with an optimizer as new: the state that the file holds does "
            "not fit it. Predictions are not concerned; training begins as after compile()."
        )

    def objects_for(self, root: str) -> dict[str, Any]:
        """Custom objects, and functions that Keras 3 names in .h5 files without finding them."""
        keras3 = kerases.generation(root) == 3
        found = opening.functions(root, self.functions) if keras3 else {}
        plain = {name: one for name, one in found.items() if isinstance(one, FunctionType)}
        return {**plain, **self.objects}

    def why_uncompiled(self, root: str) -> str | None:
        """Why `root` has to open the file without its compile state; None if it need not.

        Told from the file, since not every Keras refuses a loss that it does not know.
        """
        if self.uncompiled is not None:
            return self.uncompiled
        unknown = sorted(self.functions - opening.functions(root, self.functions).keys())
        if not unknown:
            return None
        names = ", ".join(f"{name!r}: {name}" for name in unknown)
        return f"{', '.join(unknown)} is not Keras's own, and custom_objects={{{names}}} is missing"

    def refusal(self, failures: Mapping[str, Exception]) -> FileError:
        """Why none of the Kerases tried opens the file, and what helps."""
        if lacking := self._lacking():
            names = ", ".join(f"{name!r}: {name}" for name in lacking)
            return FileError(
                f"{self.title} cannot be opened. It names the function {', '.join(lacking)}, which "
                "is neither Keras's nor in the file: bnfix.load(path, "
                f"custom_objects={{{names}}}).",
                advises=("custom_objects",),
            )
        tried = "; ".join(f"{kerases.title(root)} says {gist(e)}" for root, e in failures.items())
        hint, advises = self._hint()
        return FileError(f"{self.title} cannot be opened. {hint}{tried}.", advises=advises)

    def _lacking(self) -> list[str]:
        """Functions that the model is to find by name, and that no Keras tried has."""
        known = (opening.functions_among(root, self.named) for root in self.roots)
        return sorted(self.named.difference(*known))

    def _hint(self) -> tuple[str, tuple[str, ...]]:
        if self.major == 1:
            return (
                "Configurations of Keras 1 are read by no Keras of today: build the model anew in "
                "tf_keras and assign its weights, which bnfix.inspect(path) lists. "
            ), ()
        known = [{name for name in self.classes if opening.knows(r, name)} for r in self.roots]
        # The file itself holds what is called __lambda__, so nobody can hand it in.
        unknown = sorted(self.classes.difference(*known, ["__lambda__"]))
        if not unknown:
            return "", ()
        if functions := _operations(self.roots, unknown):
            return (
                f"It uses functions of keras.ops ({', '.join(functions)}), which Keras 3 writes "
                "into this format but does not find again: save the model as .keras. "
            ), ()
        ways = ways_to_open(dict.fromkeys(unknown))
        return (f"It uses {', '.join(unknown)}, which Keras does not have. {'. '.join(ways)}. "), (
            "custom_objects",
        )


def plan_for(stored: Stored, custom_objects: Mapping[str, Any], *, allow_unsafe: bool) -> Plan:
    """Who opens `stored`, and with what; refused where something else than Keras would run."""
    by = f"Keras {stored.keras_version}" if stored.keras_version else "an unknown Keras"
    title = f"{stored.path.name} (written by {by})"
    if stored.model is None:
        raise FileError(
            f"{title} holds weights alone, without the configuration of a model. Build the model "
            "by the code that made it and call model.load_weights(path); bnfix.inspect(path) shows "
            "what is in it."
        )
    model, training = _parts(stored)
    custom_objects = {**_in_scope([model, training]), **custom_objects}
    roots = _roots(title, stored, custom_objects)
    custom_objects = {**_optimizers(training, roots), **custom_objects}
    given = {**opening.registered(), **custom_objects}
    if any(isinstance(concern, Missing) for concern in concerns([model, training], given)):
        given |= opening.registered(roots)  # Kerases register some of their own as well
    if not allow_unsafe:
        _refuse(title, list(concerns(model, given)))
    left = [] if allow_unsafe else list(concerns(training, given))
    uncompiled = _told(left) if left else (None if training else "")
    return Plan(
        title=title,
        roots=roots,
        objects={**custom_objects, **_by_their_keys([model, training], custom_objects)},
        uncompiled=uncompiled,
        safe=not allow_unsafe,
        classes=frozenset(_classes(model)) - {*given, *opening.in_scope(set(_classes(model)))},
        functions=frozenset(_functions(training)) - given.keys(),
        named=frozenset(_named(model)) - given.keys(),
        major=stored.major,
    )


def _in_scope(parts: list[Any]) -> dict[str, Any]:
    """What `custom_object_scope` holds of what the file needs."""
    found = (c for c in concerns(parts, opening.registered()) if isinstance(c, Missing))
    return opening.in_scope({name for m in found for name in (m.key, m.name)})


def _optimizers(training: Json | None, roots: tuple[str, ...]) -> dict[str, Any]:
    """Keras's own that were written down as those of one backend, so that any backend has them."""
    found = (concern for concern in concerns(training) if isinstance(concern, Missing))
    names = {m.name for m in found if m.module and _OF_A_BACKEND.fullmatch(m.module)}
    return opening.optimizers(roots[0], names) if names else {}


#: Where Keras 3 has optimizers that run on PyTorch.
_OF_A_BACKEND = re.compile(r"keras\.src\.backend\.\w+\.optimizers\.\w+")


def _parts(stored: Stored) -> tuple[Json, Json | None]:
    """The configuration of the model without how it was compiled, and that."""
    model = stored.model or {}
    return {key: value for key, value in model.items() if key != "compile_config"}, stored.training


def _refuse(title: str, found: list[Concern]) -> None:
    dangers = [concern for concern in found if isinstance(concern, Danger)]
    if dangers:
        raise UnsafeFileError(
            f"{title} was not opened: {_told(dangers)}. Keras's safe mode would not stop all of "
            "that. Ask for the file without it; if you trust its author as you trust a program's, "
            "pass allow_unsafe=True.",
            advises=("allow_unsafe",),
        )
    missing = [concern for concern in found if isinstance(concern, Missing)]
    if missing:
        imports = any(concern.module not in (None, "builtins") for concern in missing)
        ways = ways_to_open({m.name: m.module for m in missing})
        raise (UnsafeFileError if imports else FileError)(
            f"{title} needs code that is neither Keras's nor in the file: {_told(missing)}. "
            f"{'. '.join(ways)}.",
            advises=("custom_objects",),
        )


def _told(found: list[Any]) -> str:
    told = list(dict.fromkeys(_sentence(concern) for concern in found))
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return "; ".join(told[:_TOLD]) + more


_TOLD = 5


def _sentence(concern: Concern) -> str:
    if isinstance(concern, Danger):
        return f"{concern.where} {concern.what}"
    named = concern.module not in (None, "builtins")
    source = f" of the module {concern.module}" if named else ""
    return f"{concern.name}{source} (in {concern.where})"


def _by_their_keys(parts: list[Any], custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    """Custom objects under the names that Keras has registered them by when it saved them."""
    found = (concern for concern in concerns(parts) if isinstance(concern, Missing))
    return {m.key: custom_objects[m.name] for m in found if m.name in custom_objects}


def _roots(title: str, stored: Stored, custom_objects: Mapping[str, Any]) -> tuple[str, ...]:
    """A `.keras` file is for the Keras that wrote it; an `.h5` file may suit both."""
    generation = 3 if (stored.major or 2) >= 3 else 2
    own = kerases.root_of(generation)
    homes = {opening.home_of(value) for value in custom_objects.values()} - {None}
    ported = stored.format is not Format.KERAS and len(homes) == 1
    first = homes.pop() if ported else own
    if first == own and (problem := kerases.lack(generation)):
        raise FileError(f"{title} needs Keras {generation} to be opened. {problem}.")
    if stored.format is Format.KERAS:
        return (str(own),)
    others = (own, kerases.root_of(2), kerases.root_of(3))
    return tuple(dict.fromkeys(root for root in (first, *others) if root))


def _operations(roots: tuple[str, ...], names: list[str]) -> list[str]:
    return [name for name in names if any(opening.is_function(root, name) for root in roots)]


def _classes(model: Json) -> Iterator[str]:
    pending: list[Any] = [model]
    while pending:
        found = pending.pop()
        if isinstance(found, dict) and "module" not in found:
            name = found.get("class_name")
            if isinstance(name, str):
                yield name
        pending += items_of(found)


def _named(model: Json) -> Iterator[str]:
    """Functions that a layer calls, such as a Lambda, and of which the file has the name alone."""
    pending: list[Any] = [model]
    while pending:
        found = pending.pop()
        if isinstance(found, dict) and found.get("class_name") == "function":
            name = found.get("config")
            if isinstance(name, str) and found.get("module") in (None, "builtins"):
                yield name
        pending += items_of(found)


def _functions(training: Json | None) -> Iterator[str]:
    """Losses and metrics that the old formats give by name."""
    parts = training or {}
    pending: list[Any] = [parts.get(key) for key in ("loss", "metrics", "weighted_metrics")]
    while pending:
        found = pending.pop()
        if isinstance(found, str):
            yield found
        elif not (isinstance(found, dict) and "class_name" in found):
            pending += items_of(found)
