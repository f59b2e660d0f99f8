"""Small networks that every framework can build, each written once.

A graph is a function of `L`, the layers of a framework (`in_keras.py`, `in_torch.py`), so that
Keras 2, Keras 3 and PyTorch build the same network, and one file of weights fits all.
"""

from __future__ import annotations

# They list their graphs when they are imported.
from . import branching, straight  # noqa: F401
from .written import LISTED, Graph

#: In the order in which they are told.
FAMILIES = (
    "linear layer",
    "setting of BN",
    "BN in front",
    "layer between",
    "branches",
    "several readers",
    "nested models",
)
GRAPHS: dict[str, Graph] = {
    name: graph for family in FAMILIES for name, graph in LISTED.items() if graph.family == family
}
#: Keras 3 lets `training=False` of a model overrule what its graph says, Keras 2 does not.
UNLIKE = {"training_true_in_the_graph"}
