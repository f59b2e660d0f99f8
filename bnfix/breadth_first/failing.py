"""How is it told that the model itself fails on the data?"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from bnfix.adapters.subject import Subject
from bnfix.errors import BnfixError, ModelError, gist


def failure(error: BaseException, *, path: str, where: str) -> ModelError:
    """How to say that the model raised `error` at the layer at `path`, on "batch 3"."""
    return ModelError(
        f"{path} raised {gist(error)} on {where} of the calibration data. The model has to run "
        "on that data; call model(x) on that batch to see it fail alone.",
        path=path,
    )


def raised_in(subject: Subject, error: BaseException) -> str:
    """Path of the innermost layer of the model within whose code `error` was raised."""
    adapter, model = subject
    paths = {id(layer): path for path, layer in adapter.tree(model)}
    where, frame = model.name, error.__traceback__
    while frame is not None:
        where = paths.get(id(frame.tb_frame.f_locals.get("self")), where)
        frame = frame.tb_next
    return where


@contextmanager
def telling(path: str, where: str) -> Generator[None]:
    """What is raised while the block runs was raised by the layer at `path`."""
    try:
        yield
    except BnfixError:
        raise
    except Exception as error:
        raise failure(error, path=path, where=where) from error
