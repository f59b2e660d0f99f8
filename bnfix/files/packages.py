"""What brings the classes along that a file names and Keras does not have?

The user's own are handed in. Those of well-known packages come with a line of theirs, which hands
in their helpers as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package with layers, or a part of one.

    Attributes:
        name: What pip installs it by.
        module: Where its classes are; a file says so in the newer formats.
        classes: Their names, which is all that the older formats say.
        opening: The code that opens a file with such classes.
    """

    name: str
    module: str
    classes: frozenset[str]
    opening: str


def _of_tfmot(part: str, scope: str, classes: str) -> Package:
    return Package(
        "tensorflow-model-optimization",
        f"tensorflow_model_optimization.python.core.{part}",
        frozenset(classes.split()),
        "import tensorflow_model_optimization as tfmot, then with "
        f"tfmot.{part}.keras.{scope}(): bnfix.load(path)",
    )


_PACKAGES = (
    _of_tfmot(
        "quantization",
        "quantize_scope",
        "QuantizeAnnotate QuantizeAwareActivation QuantizeLayer QuantizeWrapper QuantizeWrapperV2 "
        "AllValuesQuantizer FixedQuantizer LastValueQuantizer MovingAverageQuantizer NoQuantizer "
        "Default8BitActivationQuantizeConfig Default8BitConvQuantizeConfig "
        "Default8BitConvTransposeQuantizeConfig Default8BitOutputQuantizeConfig "
        "Default8BitQuantizeConfig Default8BitQuantizeConfigRNN "
        "DefaultNBitActivationQuantizeConfig DefaultNBitConvQuantizeConfig "
        "DefaultNBitConvTransposeQuantizeConfig DefaultNBitOutputQuantizeConfig "
        "DefaultNBitQuantizeConfig DefaultNBitQuantizeConfigRNN FixedQuantizeConfig "
        "NoOpActivation NoOpQuantizeConfig OutputOnlyConfig",
    ),
    _of_tfmot("sparsity", "prune_scope", "PruneLowMagnitude ConstantSparsity PolynomialDecay"),
    _of_tfmot("clustering", "cluster_scope", "ClusterWeights"),
    Package("keras-hub", "keras_hub", frozenset(), "import keras_hub, then bnfix.load(path)"),
)


def ways_to_open(missing: Mapping[str, str | None]) -> list[str]:
    """Code that opens a file with the classes or functions `missing`, each in a sentence.

    Args:
        missing: By name, the module that the file says it is from, or None.
    """
    packages = {name: _package_of(name, module) for name, module in missing.items()}
    ways = [
        f"{package.name} has {', '.join(name for name in packages if packages[name] is package)}: "
        f"{package.opening}"
        for package in dict.fromkeys(packages.values())
        if package is not None
    ]
    if own := [name for name, package in packages.items() if package is None]:
        handed = ", ".join(f"{name!r}: {name}" for name in own)
        ways.append(f"Pass your own: bnfix.load(path, custom_objects={{{handed}}})")
    return ways


def packages_in(names: Mapping[str, str | None]) -> list[str]:
    """Of `ways_to_open`, those that are not the user's own classes."""
    return ways_to_open({name: m for name, m in names.items() if _package_of(name, m)})


def _package_of(name: str, module: str | None) -> Package | None:
    for package in _PACKAGES:
        if module is None and name in package.classes:
            return package
        if module is not None and f"{module}.".startswith(f"{package.module}."):
            return package
    return None
