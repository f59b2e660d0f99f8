"""Graphs without branches: one layer after the other."""

from __future__ import annotations

from .written import IMAGE, SEQUENCE, VECTOR, VOLUME, chains

# --- a BN behind each kind of linear layer --------------------------------------------------------

chains(
    "linear layer",
    IMAGE,
    conv=lambda L: [L.conv(4), L.bn(), L.act("relu")],
    conv_without_bias=lambda L: [L.conv(4, bias=False), L.bn(), L.act("relu")],
    conv_strides=lambda L: [L.conv(4, strides=2), L.bn(), L.act("relu")],
    conv_valid_then_conv=lambda L: [
        *(L.conv(4, padding="valid"), L.bn(), L.act("relu")),
        *(L.conv(5, 1, bias=False), L.bn()),
    ],
    conv_dilated=lambda L: [L.conv(4, dilation=2), L.bn(), L.act("relu")],
    conv_grouped=lambda L: [L.conv(4), L.act("relu"), L.conv(6, groups=2), L.bn()],
    depthwise=lambda L: [L.depthwise(), L.bn(), L.act("relu"), L.conv(4, 1, bias=False), L.bn()],
    depthwise_multiplier=lambda L: [L.depthwise(multiplier=2), L.bn(), L.act("relu")],
    depthwise_strides=lambda L: [L.depthwise(strides=2, bias=False), L.bn(), L.act("relu")],
    separable=lambda L: [L.separable(4), L.bn(), L.act("relu")],
    separable_without_bias=lambda L: [L.separable(4, bias=False), L.bn(), L.act("relu")],
    transposed=lambda L: [L.transposed(4, 4, strides=2), L.bn(), L.act("relu")],
    transposed_without_bias=lambda L: [L.transposed(4, 2, 2, bias=False), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    SEQUENCE,
    conv1d=lambda L: [L.conv(4, rank=1), L.bn(), L.act("relu")],
    conv1d_causal=lambda L: [L.conv(4, padding="causal", rank=1), L.bn(), L.act("relu")],
    depthwise1d=lambda L: [L.depthwise(rank=1), L.bn(), L.act("relu")],
    separable1d=lambda L: [L.separable(4, rank=1), L.bn(), L.act("relu")],
    transposed1d=lambda L: [L.transposed(4, 4, strides=2, rank=1), L.bn(), L.act("relu")],
    dense_of_sequence=lambda L: [L.dense(6), L.bn(), L.act("relu")],
    einsum_dense=lambda L: [L.einsum("abc,cd->abd", (8, 4), "d"), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    VOLUME,
    conv3d=lambda L: [L.conv(3, rank=3), L.bn(), L.act("relu")],
    transposed3d=lambda L: [L.transposed(3, 2, strides=2, rank=3), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    VECTOR,
    dense=lambda L: [L.dense(6), L.bn(), L.act("relu"), L.dense(4)],
    dense_without_bias=lambda L: [L.dense(6, bias=False), L.bn(), L.act("tanh"), L.dense(4)],
)

# --- each setting of the BN itself ----------------------------------------------------------------

chains(
    "setting of BN",
    IMAGE,
    no_scale=lambda L: [L.conv(4), L.bn(scale=False), L.act("relu")],
    no_center=lambda L: [L.conv(4), L.bn(center=False), L.act("relu")],
    no_scale_no_center=lambda L: [L.conv(4), L.bn(scale=False, center=False), L.act("relu")],
    large_epsilon=lambda L: [L.conv(4), L.bn(epsilon=0.1), L.act("relu")],
    frozen=lambda L: [L.conv(4), L.bn(trainable=False), L.act("relu")],
    chain_of_two=lambda L: [L.conv(4), L.bn(), L.bn(), L.act("relu")],
    at_the_end=lambda L: [L.conv(4), L.act("relu"), L.conv(4), L.bn()],
    subclass_that_doubles=lambda L: [L.conv(4), L.doubling_bn(), L.act("relu")],
    training_true_in_the_graph=lambda L: [L.conv(4), L.bn(call_training=True), L.act("relu")],
    training_false_in_the_graph=lambda L: [L.conv(4), L.bn(call_training=False), L.act("relu")],
)

# --- a BN in front of what could take it up -------------------------------------------------------

chains(
    "BN in front",
    IMAGE,
    at_input_before_conv=lambda L: [L.bn(), L.conv(4, padding="valid"), L.act("relu")],
    at_input_before_padded_conv=lambda L: [L.bn(), L.conv(4), L.act("relu")],
    before_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.conv(5, padding="valid")],
    before_padded_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.conv(5)],
    before_depthwise=lambda L: [L.conv(4, act="relu"), L.bn(), L.depthwise(padding="valid")],
    before_conv_1x1=lambda L: [L.conv(4), L.act("relu"), L.bn(), L.conv(5, 1, bias=False)],
    before_flatten_dense=lambda L: [L.conv(4, act="relu"), L.bn(), L.flatten(), L.dense(4)],
    before_pooling_dense=lambda L: [L.conv(4, act="relu"), L.bn(), L.global_pool(), L.dense(4)],
    before_average_conv=lambda L: [L.act("relu"), L.bn(), L.average_pool(), L.conv(4, 1)],
    between_activations=lambda L: [L.act("relu"), L.bn(), L.act("tanh")],
)
chains(
    "BN in front",
    VECTOR,
    before_dense=lambda L: [L.dense(6, act="relu"), L.bn(), L.dense(4, bias=False)],
    before_and_behind_dense=lambda L: [L.bn(), L.dense(6), L.bn(), L.act("relu"), L.dense(4)],
)

# --- something between the linear layer and the BN ------------------------------------------------

chains(
    "layer between",
    IMAGE,
    relu_between=lambda L: [L.conv(4), L.act("relu"), L.bn(), L.act("relu")],
    activation_inside_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.act("tanh")],
    dropout_between=lambda L: [L.conv(4), L.dropout(), L.bn(), L.act("relu")],
    average_pooling_between=lambda L: [L.conv(4), L.average_pool(), L.bn(), L.act("relu")],
    max_pooling_between=lambda L: [L.conv(4), L.max_pool(), L.bn(), L.act("relu")],
    global_pooling_between=lambda L: [L.conv(4), L.global_pool(), L.bn(), L.act("relu")],
    zero_padding_between=lambda L: [L.conv(4), L.zero_pad(), L.bn(), L.act("relu")],
    cropping_between=lambda L: [L.conv(4), L.crop(), L.bn(), L.act("relu")],
    upsampling_between=lambda L: [L.conv(4), L.upsample(), L.bn(), L.act("relu")],
    permutation_between=lambda L: [L.conv(4), L.swap(), L.bn(), L.act("relu")],
    flatten_between=lambda L: [L.conv(4, padding="valid"), L.flatten(), L.bn(), L.dense(3)],
    padding_in_front=lambda L: [L.zero_pad(), L.conv(4, padding="valid"), L.bn(), L.act("relu6")],
)
