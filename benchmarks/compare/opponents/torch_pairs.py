"""PyTorch's function for one pair, put to every pair there is."""

from __future__ import annotations

from typing import Any

from . import Folded, of_torch

TITLE = "torch fuse_conv_bn_eval"
ENVIRONMENT = "torch"
FRAMEWORKS = ("torch",)
PACKAGES = ("torch", "numpy", "fvcore==0.1.5.post20221221")
VERSIONS = ("torch",)
NOTE = (
    "`torch.nn.utils.fusion.fuse_conv_bn_eval(conv, bn)`, and `fuse_linear_bn_eval`, for each "
    "pair in which the BN is all that reads its layer and both are called once. It is a "
    "function for a pair: finding the pairs, which is where folds go wrong, is this "
    "comparison's, not PyTorch's."
)


def fold(model: Any, inputs: Any) -> Folded:
    from torch import fx

    for part in model.modules():
        if isinstance(part, fx.GraphModule):  # the network, and models in it
            _fold(part)
    return of_torch(model, [])


def _fold(model: Any) -> None:
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    for node in list(model.graph.nodes):
        before = node.args[0] if node.op == "call_module" else None
        if getattr(before, "op", None) != "call_module":
            continue
        norm, layer = model.get_submodule(node.target), model.get_submodule(before.target)
        calls = [other.target for other in model.graph.nodes if other.op == "call_module"]
        once = calls.count(node.target) == calls.count(before.target) == len(before.users) == 1
        if not once or type(norm) not in norms:
            continue
        if isinstance(layer, nn.Linear):
            fused = fuse_linear_bn_eval(layer, norm)
        elif isinstance(layer, nn.modules.conv._ConvNd):
            transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
            fused = fuse_conv_bn_eval(layer, norm, transpose=transposed)
        else:
            continue
        setattr(model, before.target, fused)
        node.replace_all_uses_with(before)
        model.graph.erase_node(node)
        model.delete_submodule(node.target)
    model.recompile()
