"""QKeras, which trains with BNs in its convolutions and takes them out at the end."""

from __future__ import annotations

from typing import Any

from . import Folded, of_keras

TITLE = "QKeras"
ENVIRONMENT = "qkeras"
FRAMEWORKS = ("tensorflow.keras",)
# With a later TensorFlow it runs forever.
PACKAGES = (
    "tensorflow-cpu==2.12.1",
    "qkeras==0.9.0",
    "pyparsing<3.3",
    "tensorflow-model-optimization<0.8",
)
VERSIONS = ("qkeras", "keras")
NOTE = (
    "Made for quantized training: `model_quantize(..., enable_bn_folding=True)` transfers no "
    "weights of a trained network. Here its parts do without quantizers: "
    "`convert_to_folded_model` finds the pairs, this comparison puts the trained weights into "
    "its `QConv2DBatchnorm` and `QDepthwiseConv2DBatchnorm`, `unfold_model` folds them. Says "
    "nothing of what it leaves."
)


def fold(model: Any, inputs: Any) -> Folded:
    import tensorflow as tf
    from qkeras import QConv2DBatchnorm, QDepthwiseConv2DBatchnorm
    from qkeras.bn_folding_utils import unfold_model
    from qkeras.utils import convert_to_folded_model

    kinds = {"Conv2D": QConv2DBatchnorm, "DepthwiseConv2D": QDepthwiseConv2DBatchnorm}
    folded, names = convert_to_folded_model(model)
    # The BN of a pair is the only reader of its convolution.
    norms = {name: model.get_layer(name).outbound_nodes[0].outbound_layer for name in names}

    def paired(layer: Any) -> Any:
        settings = layer.get_config()
        if layer.name not in norms:
            return type(layer).from_config(settings)
        norm = norms[layer.name].get_config()
        taken = {key: norm[key] for key in ("axis", "epsilon", "center", "scale")}
        return kinds[type(layer).__name__](**{**settings, **taken, "use_bias": True})

    training = tf.keras.models.clone_model(folded, clone_function=paired)
    for layer in training.layers:
        if layer.name not in norms:
            layer.set_weights(model.get_layer(layer.name).get_weights())
            continue
        source, norm = model.get_layer(layer.name), norms[layer.name]
        kernel = source.get_weights()[0]
        (layer.depthwise_kernel if "Depthwise" in type(layer).__name__ else layer.kernel).assign(
            kernel
        )
        if source.use_bias:
            layer.bias.assign(source.get_weights()[1])
        layer.batchnorm.set_weights(norm.get_weights())
    return of_keras(unfold_model(training), [])
