"""The command line without a new process, and files for it to work on."""

import contextlib
import io
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zoo

from bnfix import cli


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """The one JSON object that all of stdout is."""
        return json.loads(self.out)


def bnfix(line: str) -> Done:
    """Run `bnfix` with the arguments in `line`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(shlex.split(line))
    return Done(status, out.getvalue(), err.getvalue())


def examples(command: str) -> list[str]:
    """The lines below "Examples:" in the help of `command`, without the leading `bnfix`."""
    shown = bnfix(f"{command} --help").out.partition("Examples:\n")[2]
    return re.findall(r"^ +bnfix (.*)$", shown, re.MULTILINE)


def digits() -> tuple[Any, Any]:
    """64 images of 8x8 in the whole numbers 0 to 240, and their digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images[:64].reshape(-1, 8, 8) * 15).astype(np.uint8), labels[:64]


def fill(folder: Path, dialect: str) -> None:
    """`model.h5`, whose second BatchNormalization is called with `training=True`, and its data."""
    images, labels = digits()
    x = (images / 255)[..., None].astype(np.float32)
    model = made_by_someone(dialect)
    model.fit(x, labels, batch_size=8, epochs=12, verbose=0)
    model.save(folder / "model.h5")
    np.save(folder / "x.npy", x)
    np.savez(folder / "xy.npz", x=x, y=labels)
    write_images(folder / "images", images, labels)


def made_by_someone(dialect: str) -> Any:
    """A classifier of digits with two BatchNormalizations; compiled, not yet trained."""
    K = zoo.keras_module(dialect)
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((8, 8, 1), name="image")
    x = L.BatchNormalization(name="bn1")(L.Conv2D(8, 3, name="conv1")(inputs))
    x = L.Conv2D(12, 3, name="conv2")(L.ReLU()(x))
    x = L.ReLU()(L.BatchNormalization(name="bn2")(x, training=True))
    outputs = L.Dense(10, activation="softmax", name="digit")(L.GlobalAveragePooling2D()(x))
    model = K.Model(inputs, outputs, name="digits")
    model.compile(K.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def write_images(folder: Path, images: Any, labels: Any) -> None:
    """A PNG each, in sub-folders by label."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{number}.png")
