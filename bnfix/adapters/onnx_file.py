"""The ONNX file that `model.export` writes, as ONNX Runtime runs it.

What Keras takes to write one depends on its backend; ONNX Runtime takes nothing of Keras.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from bnfix.errors import UnsupportedModelError


@contextmanager
def onnx_file(
    model: Any, names: Sequence[str], flat: Callable[[Any], list[Any]], **options: Any
) -> Generator[Callable[[Any], Any]]:
    """A call of the file on inputs of `model`; answers with arrays, in the order of its outputs.

    Args:
        model: Of Keras 3.
        names: Of its inputs, in order; none where it declares none.
        flat: The arrays of what it is called on, in that order.
        options: Of `model.export`.

    Raises:
        UnsupportedModelError: ONNX Runtime is not installed, or the file takes other inputs.
    """
    if find_spec("onnxruntime") is None:
        raise UnsupportedModelError(
            "ONNX Runtime, which runs the file, is not installed: pip install onnxruntime"
        )
    runtime: Any = import_module("onnxruntime")
    with TemporaryDirectory() as folder:
        file = f"{folder}/model.onnx"
        with _quiet():
            model.export(file, format="onnx", **options)
        session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = [each.name for each in session.get_inputs()]
    # By name where the file keeps names: an input that nothing reads is not in it.
    named = set(taken) <= set(names)
    if not named and names and len(taken) != len(names):
        raise UnsupportedModelError(
            f"the file asks for {', '.join(taken)}, which are not the inputs of {model.name}: the "
            "converter has taken constants for inputs"
        )

    def run(inputs: Any) -> Any:
        arrays = flat(inputs)
        if named:
            known = dict(zip(names, arrays, strict=True))
            arrays = [known[name] for name in taken]
        made = session.run(None, dict(zip(taken, arrays, strict=True)))
        return made[0] if len(made) == 1 else made

    yield run


@contextmanager
def _quiet() -> Generator[None]:
    """What converters print, warn and log of themselves is not what anybody asked for."""
    disabled = logging.root.manager.disable
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
