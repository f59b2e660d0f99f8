"""Which TensorFlow functions may a configuration name?

tf_keras records an operator or function of TensorFlow by its name (`TFOpLambda`), by the name of an
operation (`TensorFlowOpLayer`), or by that of a method of a tensor. TensorFlow has functions that
write files and run Python, so only those are let through that compute tensors from tensors.
"""

from __future__ import annotations

import re

#: Parts of TensorFlow, all of whose functions do nothing but compute.
_AREAS = frozenset(
    (  # noqa: SIM905 - two dozen quoted words would read worse
        "math nn linalg signal image strings sparse ragged random bitwise dtypes __operators__ "
        "quantization sets experimental.numpy keras.activations keras.losses keras.metrics "
        "keras.ops"
    ).split()
)

#: Without underscores and version, for `tf.reduce_mean` and the operation `Mean` alike.
_FUNCTIONS = frozenset(
    (  # noqa: SIM905
        "abs acos acosh add addn all angle any argmax argmin argsort asin asinh atan atan2 atanh "
        "avgpool batchmatmul batchtospace batchtospacend biasadd bitcast booleanmask "
        "broadcastdynamicshape broadcaststaticshape broadcastto cast ceil clipbynorm clipbyvalue "
        "complex concat conj const constant conv2d conv2dbackpropinput conv3d converttotensor cos "
        "cosh cumprod cumsum depthtospace depthwiseconv2dnative div divide divnonan "
        "dynamicpartition dynamicstitch einsum elu ensureshape equal erf exp expanddims expm1 "
        "extractimagepatches eye fill floor floordiv floormod fusedbatchnorm gather gathernd "
        "greater greaterequal identity identityn imag invertpermutation isfinite isinf isnan "
        "l2loss leakyrelu less lessequal linspace log log1p logicaland logicalnot logicalor "
        "logsoftmax matmul max maximum maxpool mean meshgrid min minimum mirrorpad mod mul "
        "multiply multinomial neg negative norm notequal onehot ones oneslike pack pad pow prod "
        "randomnormal randomstandardnormal randomuniform range rank real realdiv "
        "reciprocal reduceall reduceany reduceeuclideannorm reducelogsumexp reducemax reducemean "
        "reducemin reduceprod reducestd reducesum reducevariance relu relu6 repeat reshape "
        "resizebicubic resizebilinear resizenearestneighbor reverse reversesequence rint roll "
        "round rsqrt scatternd searchsorted select selu sequencemask shape shapen sigmoid sign sin "
        "sinh size slice softmax softplus softsign sort spacetobatch spacetobatchnd spacetodepth "
        "split splitv sqrt square squareddifference squeeze stack stopgradient stridedslice sub "
        "subtract sum tan tanh tensordot tensorscatterndadd tensorscatterndupdate "
        "tensorscatteradd tensorscatterupdate tile topk transpose truediv truncatediv "
        "truncatednormal unique unpack unsortedsegmentsum unstack where zeros zeroslike"
    ).split()
)

#: Methods and properties of (ragged, sparse) tensors.
_OF_TENSORS = frozenset(
    (  # noqa: SIM905
        "value values flat_values with_values with_flat_values row_splits row_lengths row_starts "
        "nested_row_splits nested_row_lengths to_tensor from_tensor to_sparse from_row_splits "
        "from_row_lengths from_sparse shape dtype dense_shape indices bounding_shape nrows "
        "value_rowids get_shape ragged_rank"
    ).split()
)


def only_computes(symbol: str) -> bool:
    """Whether the TensorFlow function `symbol` (`"math.add"`) computes tensors and nothing else."""
    area, _, name = re.sub(r"^(compat\.v[12]\.|_api\.v2\.)+", "", symbol).rpartition(".")
    if not name.isidentifier() or (name.startswith("_") and area != "__operators__"):
        return False
    if area == "keras.backend":
        return not name.startswith(("set_", "clear_", "reset_", "function"))
    return area in _AREAS or (not area and _plain(name) in _FUNCTIONS)


def operation_only_computes(operation: str) -> bool:
    """Whether the TensorFlow operation `operation` (`"AddV2"`) does nothing but compute."""
    return _plain(operation) in _FUNCTIONS


def is_of_tensors(attribute: str) -> bool:
    """Whether `attribute` is a harmless one of tensors."""
    return attribute in _OF_TENSORS


def _plain(name: str) -> str:
    return re.sub(r"v\d$", "", name.replace("_", "").lower())
