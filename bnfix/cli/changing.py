"""Commands that write a new model file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import click

import bnfix
from bnfix.cli import options
from bnfix.cli.data import Data
from bnfix.cli.output import Telling, show
from bnfix.cli.quiet import working
from bnfix.cli.source import Source
from bnfix.cli.target import Target

Operation = Callable[[Any], Any]


@options.command(
    "repair",
    "bnfix repair model.h5 --data x.npy -o repaired.h5",
    "bnfix repair model.h5 --data xy.npz -o model.h5 --overwrite",
    "bnfix repair model.h5 --data images/ --scale 1/255 --fold -o folded.h5",
    "bnfix repair model.h5 -o edited.h5",
)
@options.data(required=False)
@options.target
@click.option("--fold", is_flag=True, help="With --data: also fold BatchNormalization away.")
@click.option("--freeze", is_flag=True, help="Without --data: freeze every BatchNormalization.")
@click.option(
    "--replace-non-finite",
    is_flag=True,
    help="Without --data: put 0 and 1 in place of statistics that are not finite.",
)
@options.layers
@options.method
@options.min_count
@options.memory_limit
@options.source
@options.telling
def repair(source: Source, data: Data, target: Target, telling: Telling, **wishes: Any) -> int:
    """Find what is wrong, mend it, and check the result.

    With data the model is opened. Without, its file is edited, so that no class of its author is
    needed, and all else in it stays as it is. Exit status 1 if something is left that needs
    mending; the new file is written then too.
    """
    with working() if data.path else nullcontext():  # without, no TensorFlow is needed
        ds = data.of(source.load()) if data.path else None
        _, report = bnfix.repair_file(
            source.file,
            target.out,
            ds=ds,
            custom_objects=source.objects,
            overwrite=target.overwrite,
            allow_unsafe=source.allow_unsafe,
            return_report=True,
            **wishes,
        )
    files = [source.file, data.path]
    return show(report, telling, ok=report.ok, files=files, out=target.out, ds=ds)


@options.command(
    "recalibrate",
    "bnfix recalibrate model.h5 --data x.npy -o new.h5",
    "bnfix recalibrate model.h5 --data images/ --scale 1/255 -o new.h5",
    "bnfix recalibrate model.h5 --data x.npy --memory-limit 2GiB -o new.h5",
)
@options.data(required=True)
@options.target
@options.layers
@options.method
@options.min_count
@options.memory_limit
@click.option(
    "--no-guard",
    is_flag=True,
    help="Write the new statistics even if the loss on labels is worse, or if the old ones were "
    "never updated.",
)
@options.source
@options.telling
def recalibrate(
    source: Source,
    data: Data,
    target: Target,
    no_guard: bool,
    telling: Telling,
    **how: Any,
) -> int:
    """Replace all moving statistics by those of the data.

    With labels the loss is compared before and after; where it is worse, nothing is written.
    """
    with working():
        model = source.load()
        ds = data.of(model)
        model, report = bnfix.recalibrate(
            model,
            ds,
            **how,
            guard=False if no_guard else "raise",
            return_report=True,
        )
        target.write(model)
    return show(report, telling, files=[source.file, data.path], out=target.out, ds=ds)


@options.command(
    "fold",
    "bnfix fold model.h5 -o folded.h5",
    "bnfix fold model.h5 --lower -o folded.keras",
    "bnfix fold model.h5 --merge --open all -o merged.keras",
)
@options.target
@click.option("--lower", is_flag=True, help="Turn those that must stay into affine layers.")
@click.option("--strict", is_flag=True, help="Write nothing unless all of them fold.")
@click.option("--merge", is_flag=True, help="Make one layer of those that are added, as in RepVGG.")
@options.opening
@options.source
@options.telling
def fold(source: Source, target: Target, telling: Telling, **wishes: Any) -> int:
    """Fold BatchNormalization into the layers around it.

    The report says of each that must stay why; exit status 3 with --strict then.
    """

    def folded(model: Any) -> Any:
        return bnfix.fold(model, return_report=True, **wishes)

    return _rewrite(source, target, folded, telling)


@options.command("strip-training", "bnfix strip-training model.h5 -o stripped.h5")
@options.target
@options.layers
@options.opening
@options.source
@options.telling
def strip_training(source: Source, target: Target, telling: Telling, **which: Any) -> int:
    """Take training=True and =False out of all calls.

    A BatchNormalization that was called with training=True normalizes by the batch at hand.
    """

    def stripped(model: Any) -> Any:
        return bnfix.strip_training(model, return_report=True, **which)

    return _rewrite(source, target, stripped, telling)


@options.command("strip-augmentation", "bnfix strip-augmentation model.h5 -o serving.h5")
@options.target
@options.layers
@options.source
@options.telling
def strip_augmentation(source: Source, target: Target, telling: Telling, **which: Any) -> int:
    """Switch off layers that train by default.

    Random augmentation, in Keras 3 Resizing and CenterCrop too, has training=True as its default.
    """

    def stripped(model: Any) -> Any:
        return bnfix.strip_augmentation(model, return_report=True, **which)

    return _rewrite(source, target, stripped, telling)


@options.command("freeze", "bnfix freeze model.h5 -o frozen.h5")
@options.target
@options.layers
@options.source
@options.telling
def freeze(source: Source, target: Target, telling: Telling, **which: Any) -> int:
    """Keep BatchNormalization in inference mode for good.

    Even where training=True is baked into its call, and in models that cannot be rewritten.
    """

    def frozen(model: Any) -> Any:
        return bnfix.freeze(model, return_report=True, **which)

    return _rewrite(source, target, frozen, telling)


@options.command(
    "to-group-norm",
    "bnfix to-group-norm model.h5 --data x.npy -o new.h5",
    "bnfix to-group-norm model.h5 --groups -1 -o new.keras",
)
@options.data(required=False)
@options.target
@click.option(
    "--groups",
    type=options.groups,
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Groups in each layer; -1 for one a channel.",
)
@options.layers
@options.memory_limit
@options.opening
@options.source
@options.telling
def to_group_norm(source: Source, data: Data, target: Target, telling: Telling, **how: Any) -> int:
    """Put GroupNormalization in place of BatchNormalization.

    It normalizes each row by itself, but it is another function: with data it is fitted to what
    BatchNormalization computed, and training the new model for an epoch is advised.
    """

    with working():
        model = source.load()
        ds = data.of(model)
        model, report = bnfix.to_group_norm(model, ds, return_report=True, **how)
        target.write(model)
    return show(report, telling, files=[source.file, data.path], out=target.out, ds=ds)


def _rewrite(source: Source, target: Target, operation: Operation, telling: Telling) -> int:
    """Load, apply `operation`, which gives a model and a report, and write."""
    with working():
        model, report = operation(source.load())
        target.write(model)
    return show(report, telling, files=[source.file], out=target.out)
