"""Which options do several commands have in common?

Those that belong together reach a command as one value: where the model comes from, where it goes,
what data there is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bnfix.cli.data import Data, factor, image_size
from bnfix.cli.output import Telling
from bnfix.cli.source import Source
from bnfix.cli.target import Target
from bnfix.data.decoding import INTERPOLATIONS
from bnfix.data.images import LABEL_MODES
from bnfix.errors import OptionError
from bnfix.options import size

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def command(name: str, *examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help ends with `examples`."""
    lines = [f"  {example}" for example in examples]
    return click.command(name, epilog="\n".join(["\b", "Examples:", *lines]))


def bundled(name: str, kind: type[Any], options: Sequence[Decorator]) -> Decorator:
    """`options`, one for each field of `kind`, passed on as a single value called `name`."""
    fields = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(**given: Any) -> Any:
            value = kind(**{field: given.pop(field) for field in fields})
            return function(**given, **{name: value})

        return functools.reduce(lambda inner, option: option(inner), reversed(options), run)

    return decorate


EXISTING = click.Path(exists=True, path_type=Path)

source = bundled(
    "source",
    Source,
    [
        click.argument("file", type=EXISTING),
        click.option(
            "--custom",
            multiple=True,
            metavar="FILE.py|MODULE",
            help="Python file or module that defines the model's own layers. It is run. May be "
            "given several times.",
        ),
        click.option(
            "--allow-unsafe",
            is_flag=True,
            help="Load a model whose file holds Python code (Lambda layers). It can do anything; "
            "for files that you trust.",
        ),
    ],
)

target = bundled(
    "target",
    Target,
    [
        click.option(
            "-o",
            "--out",
            required=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="Where the new model goes, complete or not at all.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace OUT if it exists; may be FILE."),
    ],
)


def data(*, required: bool) -> Decorator:
    """The options that say what data there is, and how to prepare it."""
    return bundled(
        "data",
        Data,
        [
            click.option(
                "--data",
                "path",
                required=required,
                type=EXISTING,
                help="What the model was trained on or will see: x in a .npy file; in a .npz file "
                "by the names of the model's inputs, or x and y; or a folder of images, resized to "
                "the model's input and, if asked for, with sub-folders as labels.",
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(1),
                metavar="N",
                default=32,
                show_default=True,
                help="Rows to read at a time.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(1),
                metavar="N",
                help="Read N rows only: the first of arrays, any of a folder.",
            ),
            click.option(
                "--scale",
                type=factor,
                help="Multiply values by this number or fraction, such as 1/255.",
            ),
            click.option("--offset", type=float, help="Add this to them afterwards."),
            click.option(
                "--preprocess",
                metavar="NAME",
                help="Apply preprocess_input of keras.applications.NAME, such as resnet50.",
            ),
            click.option(
                "--image-size",
                type=image_size,
                metavar="HEIGHTxWIDTH",
                help="Where the model leaves it open.",
            ),
            click.option(
                "--interpolation",
                type=click.Choice(INTERPOLATIONS),
                metavar="METHOD",
                default="bilinear",
                show_default=True,
                help=f"For resizing images: {', '.join(INTERPOLATIONS)}.",
            ),
            click.option(
                "--labels",
                type=click.Choice(LABEL_MODES),
                help="Take sub-folders in sorted order as labels: numbers, one-hot, or 0 and 1.",
            ),
            click.option(
                "--class-names",
                metavar="A,B,...",
                help="Sub-folders in the order of their labels, or some of them.",
            ),
            click.option(
                "--crop-to-aspect-ratio",
                is_flag=True,
                help="Cut images to the shape that the model takes rather than distort them.",
            ),
        ],
    )


telling = bundled(
    "telling",
    Telling,
    [
        click.option(
            "--json", "as_json", is_flag=True, help="Print the report as one JSON object."
        ),
        click.option(
            "--html",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="PAGE.html",
            help="Also write it as a page of its own, with pictures, versions and the SHA-256 of "
            "the files, to be filed with the model. A page that is there is replaced.",
        ),
    ],
)


def bytes_of(text: str) -> int:
    """A number of bytes, from `500MB`, `2GiB` or `1e9`."""
    try:
        return size("it", text) or 0
    except OptionError as refusal:
        raise click.BadParameter(str(refusal)) from None


def paths(text: str) -> list[str]:
    return [path.strip() for path in text.split(",")]


layers = click.option(
    "--layers",
    type=paths,
    metavar="A,B,...",
    help="Only these: full paths, or names of nested models for all in them.",
)


method = click.option(
    "--method",
    type=click.Choice(["exact", "streaming"]),
    default="exact",
    show_default=True,
    help="streaming is for data too large to hold.",
)


min_count = click.option(
    "--min-count",
    type=click.IntRange(1),
    metavar="N",
    default=32,
    show_default=True,
    help="Fewest values per channel.",
)


memory_limit = click.option(
    "--memory-limit",
    type=bytes_of,
    metavar="SIZE",
    help="What tensors on their way through the network may take, such as 2GiB; the others go to "
    "temporary files.",
)


opening = click.option(
    "--open",
    type=click.Choice(["auto", "all", "never"]),
    default="auto",
    show_default=True,
    help="What may become plain layers where the code of a subclassed model, or of a layer made of "
    "layers, hides them: what has to be changed, everything, or nothing.",
)


def groups(text: str) -> int | str:
    """`auto` or a whole number, of which bnfix itself says which may be."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a whole number nor auto.") from None
