"""Replace BatchNormalization by GroupNormalization, fitted to what it computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, overload

from bnfix.adapters import state, weights
from bnfix.adapters.reading import read
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import loaded
from bnfix.data.batches import batches
from bnfix.errors import BnfixWarning
from bnfix.fitting.group_norm_report import POOR, GroupNormReport, LayerGroups
from bnfix.fitting.least_squares import fit, fitted
from bnfix.graph.definition import LayerKey
from bnfix.graph.edit import Edit
from bnfix.graph.select import Selection
from bnfix.numerics.norm import GroupNormSpec
from bnfix.numerics.regression import Fit
from bnfix.operations.selected import HIDDEN, SelectedNorm, selected
from bnfix.operations.verify import verify_compiled, verify_on_single_rows
from bnfix.options import size
from bnfix.passes import group_norm_sites as group_pass
from bnfix.passes.group_norm_sites import Site
from bnfix.restoring import all_or_nothing

_TRAIN_ON = (
    "GroupNormalization is another function than BatchNormalization: train the new model for an "
    "epoch or more before you rely on it"
)


@overload
def to_group_norm(
    model: Any,
    ds: Any = ...,
    *,
    groups: int | str = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    memory_limit: int | str | None = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def to_group_norm(
    model: Any,
    ds: Any = ...,
    *,
    groups: int | str = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    memory_limit: int | str | None = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, GroupNormReport]: ...


@all_or_nothing(state.settings)
def to_group_norm(
    model: Any,
    ds: Any = None,
    *,
    groups: int | str = "auto",
    layers: Selection = None,
    batch_size: int = 32,
    steps: int | None = None,
    memory_limit: int | str | None = None,
    x: Any = None,
    open: str = "auto",
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Put a GroupNormalization in the place of every BatchNormalization.

    GroupNormalization (Wu & He 2018, arXiv:1803.08494) normalizes each row by itself, in training
    as in inference, so the new model depends on no batch at all. But it is another function: fine
    tuning is advised. With `ds` most of the way is gone without it: layer by layer, each new
    layer's gamma and beta are the least-squares fit of its output to what the BatchNormalization
    made in its place, on inputs from the new layers before it.

    Args:
        model: Built model of either Keras. A subclassed one, and layers made of layers, are opened
            where there is something to replace; what is opened comes back as a Functional model.
            Not changed.
        ds: Inputs as `fit` takes them, preprocessed as for training, read once; labels are not
            used. Without it gamma and beta are taken over, which suits `groups=-1` in place of
            BatchNormalizations called with `training=True`, and training from there.
        groups: A number, of which the largest divisor of the channels up to it is taken, and such
            that no group has a single value; -1 for one group a channel (instance normalization);
            "auto" for the number that reproduces most where there is `ds`, else for 32 groups or
            16 channels in each, whichever is fewer groups. A BatchNormalization called with
            `training=True` gets one group a channel then, which is the same on single rows.
        layers: Paths (a nested model's stands for all in it) or a function of a path; all by
            default.
        batch_size: For arrays; the fit does not depend on it.
        steps: Number of batches to take; needed where `ds` does not end.
        memory_limit: Bytes that tensors on their way through the network may take; the others go
            to files in a temporary folder. All are held in memory by default.
        x: Inputs that tell what a subclassed model takes, where it does not know; the new model is
            tried on them, too. Made from the input specs by default.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        A new model with the same names, weights and compilation; `model` itself where nothing can
        be replaced.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened.
        OptionError: `layers` names a path without BatchNormalization.
        DataError: `ds` is empty, endless, not finite, or does not fit the model.
        StatisticsError: What reaches a layer is not finite.
        ModelError: The model fails on `ds`.
        VerificationError: Compiled and uncompiled code of the new model disagree, or it is another
            one on single rows where it should not be. No model is returned.
        OptionError: `groups` is none of what it may be.

    Examples:
        >>> images = keras.Input((6, 6, 4))
        >>> model = keras.Model(images, keras.layers.BatchNormalization(name="bn")(images))
        >>> new = bnfix.to_group_norm(model, np.random.rand(8, 6, 6, 4), groups=2, verbose=0)
        >>> new.get_layer("bn").groups
        2
    """
    groups, limit = group_pass.checked(groups), size("memory_limit", memory_limit)
    subject = Subject.of(model)
    if ds is not None:
        subject.adapter.check_alone(model, "to_group_norm with data")
    reading = read(subject, "to_group_norm", x=x, open=open)
    norms = selected(reading, layers)
    keys = [norm.key for norm in norms if norm.key is not None]
    sites, objections = group_pass.sites(reading, keys, groups, data=ds is not None)
    fits: dict[LayerKey, Fit] = {}
    rows = 0
    if sites and ds is not None:
        held = batches(ds, batch_size=batch_size, steps=steps, held=limit is None)
        stream = loaded(Subject(reading.adapter, reading.functional), held)
        fits, ran = fit(reading, sites, stream, memory_limit=limit, verbose=verbose)
        rows = ran.rows
    became = tuple(_row(norm, sites, objections, fits) for norm in norms)
    notes = () if norms else ("the model has no BatchNormalization",)
    if sites:
        specs = {key: _spec(site, fits.get(key)) for key, site in sites.items()}
        edit = Edit(replace=specs)
        rebuilt = rebuild(reading, edit)
        agreement = verify_compiled(rebuilt.model, x, operation="to_group_norm", verbose=verbose)
        if all(layer.exact for layer in became):
            verify_on_single_rows(reading, edit, rebuilt.model, operation="to_group_norm")
        model, notes = rebuilt.model, (*_advice(became), *rebuilt.lost, *agreement.caveats)
    report = GroupNormReport(became, rows, notes)
    _warn_of_poor(report)
    return (model, report) if return_report else model


def _spec(site: Site, found: Fit | None) -> GroupNormSpec:
    return site.spec(site.candidates[0]) if found is None else fitted(site, found)


def _row(
    norm: SelectedNorm,
    sites: Mapping[LayerKey, Site],
    objections: Mapping[LayerKey, str],
    fits: Mapping[LayerKey, Fit],
) -> LayerGroups:
    if norm.key is None or norm.key in objections:
        detail = HIDDEN if norm.key is None else objections[norm.key]
        return LayerGroups(norm.path, 0, weights.channels(norm.layer), detail=detail)
    site, found = sites[norm.key], fits.get(norm.key)
    spec = _spec(site, found)
    explained = None if found is None else found.explained
    exact = site.is_exact(spec.groups)
    detail = "the same as before on single rows" if exact else ""
    return LayerGroups(norm.path, spec.groups, site.norm.channels, explained, exact, detail)


def _advice(layers: tuple[LayerGroups, ...]) -> tuple[str, ...]:
    """That training on is advised, unless every replacement is exact."""
    return () if all(layer.exact for layer in layers if layer.changed) else (_TRAIN_ON,)


def _warn_of_poor(report: GroupNormReport) -> None:
    poor = sorted(report.poor, key=lambda layer: layer.explained or 0.0)
    if not poor:
        return
    listed = ", ".join(f"{layer.path} ({layer.explained:.0%})" for layer in poor[:_LISTED])
    more = f" and {len(poor) - _LISTED} more" if len(poor) > _LISTED else ""
    warnings.warn(
        f"to_group_norm: {listed}{more} reproduce less than {POOR:.0%} of the variance of what "
        "they replace. Train the new model for an epoch or more before it is used.",
        BnfixWarning,
        stacklevel=4,
    )


#: Layers that a warning names.
_LISTED = 3
