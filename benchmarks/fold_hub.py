"""How much of KerasHub's backbones does `fold` take, and what stays for which reason?

    python -m benchmarks.fold_hub --backbones ResNet MiT

KerasHub keeps most BNs in layers of its own. Each backbone here is small, with random statistics:
BNs in it, left, folded of those that run; the largest difference of what `predict` answers; the
same between the folded model, opened up, and what is loaded from its file where KerasHub is not
imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import bnfix
from bnfix.adapters.choose import adapter_of

from .benchmark import Benchmark, Measured, Row, once
from .networks import keras
from .running import alone

_SIZE = 64
_IMAGE = (_SIZE, _SIZE, 3)


@cache
def _hub() -> Any:
    import keras_hub

    return keras_hub.models


def _resnet(**options: Any) -> Any:
    settings = {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 16, 16],
        "stackwise_num_blocks": [2, 2, 2],
        "stackwise_num_strides": [1, 2, 2],
        "block_type": "bottleneck_block",
        "image_shape": _IMAGE,
    }
    return _hub().ResNetBackbone(**{**settings, **options})


def _mobilenet() -> Any:
    return _hub().MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=96,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
        image_shape=_IMAGE,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=96,
    )


def _efficientnet(**options: Any) -> Any:
    settings = {
        "stackwise_kernel_sizes": [3, 3, 5],
        "stackwise_num_repeats": [1, 2, 1],
        "stackwise_input_filters": [16, 8, 16],
        "stackwise_output_filters": [8, 16, 24],
        "stackwise_expansion_ratios": [1, 4, 4],
        "stackwise_strides": [1, 2, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25],
        "stackwise_block_types": ["v1", "v1", "v1"],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "image_shape": _IMAGE,
    }
    return _hub().EfficientNetBackbone(**{**settings, **options})


def _lite() -> Any:
    return _efficientnet(
        stackwise_squeeze_and_excite_ratios=[0.0, 0.0, 0.0],
        activation="relu6",
    )


def _hgnet(**options: Any) -> Any:
    settings = {
        "depths": [1, 1, 2],
        "embedding_size": 16,
        "hidden_sizes": [32, 64, 128],
        "stem_channels": [3, 8, 16],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        "stackwise_stage_filters": [
            (16, 8, 32, 1, 1, 3),
            (32, 16, 64, 1, 1, 3),
            (64, 32, 128, 2, 1, 3),
        ],
        "apply_downsample": [False, True, True],
        "use_lightweight_conv_block": [False, False, True],
        "image_shape": _IMAGE,
    }
    return _hub().HGNetV2Backbone(**{**settings, **options})


def _cspnet() -> Any:
    return _hub().CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type="cs3",
        block_ratio=[0.5],
        image_shape=_IMAGE,
    )


def _dfine() -> Any:
    backbone = _hub().HGNetV2Backbone(
        stem_channels=[3, 16, 16],
        stackwise_stage_filters=[
            [16, 16, 64, 1, 3, 3],
            [64, 32, 128, 1, 3, 3],
            [128, 32, 128, 1, 3, 5],
            [128, 32, 128, 1, 3, 5],
        ],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1],
        hidden_sizes=[64, 128, 128, 128],
        embedding_size=16,
        use_learnable_affine_block=True,
        hidden_act="relu",
        image_shape=(128, 128, 3),
        out_features=["stage3", "stage4"],
    )
    return _hub().DFineBackbone(
        backbone=backbone,
        decoder_in_channels=[32, 32],
        encoder_hidden_dim=32,
        num_denoising=0,
        num_labels=8,
        hidden_dim=32,
        learn_initial_query=False,
        num_queries=3,  # random scores lie close; where rounding orders them, all outputs jump
        anchor_image_size=(128, 128),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[128, 128],
        encode_proj_layers=[1],
        num_attention_heads=4,
        encoder_ffn_dim=64,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage3", "stage4"],
        image_shape=(128, 128, 3),
        seed=0,
    )


def _mit() -> Any:
    return _hub().MiTBackbone(
        image_shape=_IMAGE,
        num_layers=2,
        hidden_dims=[8, 16],
        layerwise_depths=[1, 1],
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[4, 2],
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        max_drop_path_rate=0.1,
    )


def _retinanet() -> Any:
    encoder = _resnet(stackwise_num_filters=[64, 16, 16, 16], stackwise_num_blocks=[1] * 4,
                      stackwise_num_strides=[1, 2, 2, 2])  # fmt: skip
    return _hub().RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=6,
        use_p5=False,
        use_fpn_batch_norm=True,
        image_shape=_IMAGE,
    )


def _deeplab() -> Any:
    encoder = _resnet(stackwise_num_filters=[64, 16, 16, 16], stackwise_num_blocks=[1] * 4,
                      stackwise_num_strides=[1, 2, 2, 2])  # fmt: skip
    return _hub().DeepLabV3Backbone(
        image_encoder=encoder,
        projection_filters=8,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[2, 4],
        image_shape=_IMAGE,
    )


BACKBONES: dict[str, Callable[[], Any]] = {
    "ResNet": _resnet,
    "ResNetVD": lambda: _resnet(
        input_conv_filters=[16, 16, 64],
        input_conv_kernel_sizes=[3, 3, 3],
        block_type="bottleneck_block_vd",
    ),
    "ResNetV2": lambda: _resnet(use_pre_activation=True),
    "MobileNet": _mobilenet,
    "EfficientNet": _efficientnet,
    "EfficientNetLite": _lite,
    "DenseNet": lambda: _hub().DenseNetBackbone(
        stackwise_num_repeats=[2, 2], compression_ratio=0.5, growth_rate=8, image_shape=_IMAGE
    ),
    "CSPNet": _cspnet,
    "HGNetV2": _hgnet,
    "Xception": lambda: _hub().XceptionBackbone(
        stackwise_conv_filters=[[16, 16], [16, 32], [32, 32]],
        stackwise_pooling=[True, True, False],
        image_shape=_IMAGE,
    ),
    "RetinaNet": _retinanet,
    "DeepLabV3": _deeplab,
    "DFine": _dfine,
    "MiT": _mit,
    "SegFormer": lambda: _hub().SegFormerBackbone(image_encoder=_mit(), projection_filters=16),
}


def randomised(model: Any, seed: int = 0) -> Any:
    """`model` with random statistics, gamma and beta in every BatchNormalization."""
    rng = np.random.default_rng(seed)
    for _, layer in adapter_of(model).batch_norms(model):
        channels = layer.moving_mean.shape[0]
        layer.moving_mean.assign(rng.normal(0.0, 0.3, channels))
        layer.moving_variance.assign(rng.uniform(0.5, 2.0, channels))
        if layer.gamma is not None:
            layer.gamma.assign(rng.uniform(0.6, 1.4, channels))
        if layer.beta is not None:
            layer.beta.assign(rng.normal(0.0, 0.3, channels))
    return model


def answers(model: Any, x: Any) -> list[np.ndarray[Any, Any]]:
    flat = keras("keras").tree.flatten(model.predict(x, verbose=0))
    return [np.asarray(leaf) for leaf in flat]


def difference(ours: list[Any], theirs: list[Any]) -> float:
    """Largest difference, over the scale of each output."""
    return max(
        float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1.0))
        for a, b in zip(ours, theirs, strict=True)
        if b.dtype.kind == "f"
    )


_LOAD = (
    "import sys, keras, numpy as np\n"
    "model = keras.models.load_model(sys.argv[1])\n"
    "assert 'keras_hub' not in sys.modules\n"
    "made = keras.tree.flatten(model.predict(np.load(sys.argv[2]), verbose=0))\n"
    "np.savez(sys.argv[3], *[np.asarray(leaf) for leaf in made])\n"
)


def loads_without_hub(model: Any, x: Any) -> str:
    """The difference after saving, and loading where KerasHub is not imported; or what fails."""
    with tempfile.TemporaryDirectory() as folder:
        file, data, out = (str(Path(folder) / name) for name in ("m.keras", "x.npy", "y.npz"))
        model.save(file)
        np.save(data, x)
        ran = subprocess.run(
            [sys.executable, "-c", _LOAD, file, data, out], capture_output=True, text=True
        )
        if ran.returncode:
            words = ran.stderr.strip().splitlines() or ["?"]
            named = [w for w in words if "Could not" in w or "class" in w.lower()] or words
            return f"no: {named[-1][:90]}"
        with np.load(out) as made:
            return f"{difference(list(made.values()), answers(model, x)):.1e}"


@dataclass(frozen=True)
class Options:
    backbones: tuple[str, ...] = tuple(BACKBONES)


def measure(options: Options) -> Iterator[Row]:
    for name in options.backbones:
        keras("keras").utils.set_random_seed(0)
        model = randomised(BACKBONES[name]())
        shape = [size or _SIZE for size in model.inputs[0].shape[1:]]
        x = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
        numbers = {"BN": once("count", len(adapter_of(model).batch_norms(model)))}
        try:
            found, notes = _folded(model, x)
            yield Row({"backbone": name}, {**numbers, **found}, notes)
        except bnfix.BnfixError as error:
            notes = {"why the rest stays": f"{type(error).__name__}: {error}"}
            yield Row({"backbone": name}, numbers, notes)


def _folded(model: Any, x: Any) -> tuple[dict[str, Measured], dict[str, str]]:
    before = answers(model, x)
    folded, report = bnfix.fold(model, x=x, return_report=True)
    reasons = Counter(outcome.detail for outcome in report.declined)
    numbers = {
        "left": once("count", len(adapter_of(folded).batch_norms(folded))),
        "folded": once("count", len(report.changed)),
        "of": once("count", len(report.outcomes)),
        "predict": once("of the largest", difference(answers(folded, x), before)),
    }
    notes = {
        "opened, loaded without KerasHub": loads_without_hub(bnfix.open_up(folded), x),
        "why the rest stays": "; ".join(f"{count}: {why}" for why, count in reasons.items()),
    }
    return numbers, notes


BENCHMARK = Benchmark(
    "fold_hub",
    __doc__,
    measure,
    full=Options(),
    quick=Options(backbones=("Xception",)),
    requires=("keras_hub",),
)

if __name__ == "__main__":
    alone(BENCHMARK)
