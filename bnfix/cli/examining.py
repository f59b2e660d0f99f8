"""Commands that look at a model and change nothing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

import bnfix
from bnfix.cli import options
from bnfix.cli.data import Data
from bnfix.cli.output import Telling, show
from bnfix.cli.quiet import working
from bnfix.cli.source import Source


@options.command("inspect", "bnfix inspect model.h5", "bnfix inspect model.h5 --json")
@click.argument("file", type=options.EXISTING)
@options.telling
def inspect(file: Path, telling: Telling) -> int:
    """Tell what a model file holds, in half a second.

    Nothing in it is run, and TensorFlow is not loaded, except for a SavedModel. Exit status 1 if a
    BatchNormalization has a fault or a warning.
    """
    with working() if file.is_dir() else nullcontext():  # a SavedModel is read by TensorFlow
        report = bnfix.inspect(file)
    return show(report, telling, ok=report.ok, files=[file])


@options.command(
    "check",
    "bnfix check model.h5 --data x.npy",
    "bnfix check model.h5 --data images/ --scale 1/255",
    "bnfix check model.h5 --data x.npy --export --json",
)
@options.data(required=True)
@click.option(
    "--rows",
    type=click.IntRange(2),
    metavar="N",
    default=8,
    show_default=True,
    help="Batch size of the check.",
)
@click.option("--export", is_flag=True, help="Also try what model.export writes.")
@click.option("--onnx", is_flag=True, help="Also try the ONNX file that model.export writes.")
@click.option("--training", is_flag=True, help="Look at model(x, training=True) instead.")
@options.source
@options.telling
def check(
    source: Source,
    data: Data,
    rows: int,
    export: bool,
    onnx: bool,
    training: bool,
    telling: Telling,
) -> int:
    """Tell whether a row's answer depends on its neighbours.

    Rows of the data are swapped at a fixed batch size, in every way of calling the model. Exit
    status 1 if it finds anything but notes.
    """
    with working():
        model = source.load()
        ds = data.of(model)
        exported = "onnx" if onnx else export
        report = bnfix.check(model, ds, rows=rows, export=exported, training=training)
    return show(report, telling, ok=report.ok, files=[source.file, data.path], ds=ds)


@options.command(
    "diagnose",
    "bnfix diagnose model.h5",
    "bnfix diagnose model.h5 --data x.npy",
    "bnfix diagnose model.h5 --data xy.npz --limit 512 --json",
)
@options.data(required=False)
@options.source
@options.telling
def diagnose(source: Source, data: Data, telling: Telling) -> int:
    """Tell what is wrong with BatchNormalization, and why.

    Each finding comes with the call that mends it. Without data it is made from the model alone.
    Exit status 1 if anything needs mending: faults or warnings, not notes.
    """
    with working():
        model = source.load()
        ds = data.of(model)
        report = bnfix.diagnose(model, ds, verbose="auto")
    return show(report, telling, ok=report.ok, files=[source.file, data.path], ds=ds)
