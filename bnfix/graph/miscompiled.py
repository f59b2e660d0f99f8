"""What TensorFlow computes wrongly when it compiles, told from the graph of a model.

On processors TensorFlow's graph optimizer merges neighbouring operations into one, by rules that it
calls remapping, and loses something on the way. Uncompiled code is right.

With oneDNN, which a processor has unless it is switched off,

- a convolution, its bias, the Add behind it and the activation behind that: LeakyReLU is computed
  with slope 0.2 whatever was asked for, and mish is not there at all, so that `predict` raises;
- a Conv2D without a bias, the fused normalization of tf_keras and tanh or mish become an operation
  that there is not, so that compiled code of the model as it was given raises; `fold` mends it.

With oneDNN or without,

- a Conv2D without a bias, the fused normalization of tf_keras along another axis than its channels,
  and something behind that: it is computed along the channels, from the first of its numbers. No
  fold makes that, and none mends it.

Every sweep of `tests/test_miscompiled.py` looks for more of the kind; this is the one list of what
it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bnfix.graph.graph import Call, Graph, Value

#: Switches off the rules that do it; to be run before a model is compiled, which `load` may do.
SWITCH = 'tf.config.optimizer.set_experimental_options({"remapping": False})'
#: Seen with these; older ones were not tried.
VERSIONS = "TensorFlow 2.21 on CPU"

#: Convolutions whose bias is merged; that of a grouped one is not, nor that of a transposed one.
_PRODUCERS = ("Conv2D", "Conv3D", "SeparableConv2D")
_KEPT_SLOPE = 0.2
#: Activations behind the BN behind a Conv2D without a bias, all three merged, which raises.
RAISING_BEHIND_NORM = {"keras3": (), "tf_keras": ("mish", "tanh")}
#: What is nothing at inference, so that the optimizer does not see it.
_VANISHING = (
    *("Dropout", "AlphaDropout", "GaussianNoise", "GaussianDropout", "ActivityRegularization"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Identity"),
)

Options = Callable[[Call], Mapping[str, Any]]


@dataclass(frozen=True)
class Merged:
    """An Add and an activation that are merged with the biased convolution before them.

    Attributes:
        add: The call of the Add.
        activation: The call behind it.
        effect: What comes out, as the end of a sentence.
    """

    add: Call
    activation: Call
    effect: str

    def __str__(self) -> str:
        return f"{self.add.path} and {self.activation.path} ({self.effect})"


def is_merged(call: Call, options: Options) -> bool:
    """Whether `call` is a convolution that is merged with what follows its bias."""
    return call.kind in _PRODUCERS and options(call).get("groups", 1) == 1


def merged(
    graph: Graph,
    value: Value,
    options: Options,
    *,
    gone: Callable[[Call], bool] = lambda call: False,
    suspect_all: bool = False,
) -> Iterator[Merged]:
    """What would be merged wrongly with a biased convolution that makes `value`.

    Args:
        graph: Of the model.
        value: What an Add may read.
        options: The configuration of a call's layer.
        gone: Whether a call hands on its input as it is.
        suspect_all: Also where the activation is code that is not known.
    """
    for add in _readers(graph, value, options, gone):
        if add.kind != "Add":
            continue
        for activation in _readers(graph, add.outputs[0], options, gone):
            effect = _effect(activation, options)
            if effect is None and suspect_all and _is_unknown(activation, options):
                effect = "which may be an activation that gets lost"
            if effect is not None:
                yield Merged(add, activation, effect)


def _readers(
    graph: Graph, value: Value, options: Options, gone: Callable[[Call], bool]
) -> Iterator[Call]:
    """Who reads `value`, seen past what vanishes."""
    for reader in graph.consumers(value):
        vanishes = gone(reader) or (reader.kind in _VANISHING and not reader.training)
        if vanishes or _is_linear(reader, options):
            yield from _readers(graph, reader.outputs[0], options, gone)
        else:
            yield reader


def _is_linear(call: Call, options: Options) -> bool:
    return call.kind == "Activation" and options(call).get("activation") == "linear"


def _is_unknown(call: Call, options: Options) -> bool:
    """Whether `call` applies code of which only its own author knows what it is."""
    if call.kind == "Activation":
        return not isinstance(options(call).get("activation"), str)
    return call.kind in ("Custom", "Lambda", "Operation")


def _effect(call: Call, options: Options) -> str | None:
    """What becomes of the activation that `call` applies; None where it is computed as asked."""
    slope = _slope(call, options)
    if slope and abs(slope - _KEPT_SLOPE) > 1e-6:
        return f"computed with slope {_KEPT_SLOPE}, not {slope:.3g}"
    if call.kind == "Activation" and options(call).get("activation") == "mish":
        return "which raises"
    return None


def _slope(call: Call, options: Options) -> float | None:
    if call.kind == "LeakyReLU":
        found = options(call).get("negative_slope", options(call).get("alpha"))
    elif call.kind == "ReLU":
        found = options(call).get("negative_slope")
    else:
        return None
    # A configuration read from a file of tf_keras may hold an array in a dictionary.
    return float(found["value"] if isinstance(found, Mapping) else found or 0.0)
