"""Reading a model and building it anew: the copy is the same, the source is untouched."""

import numpy as np
import pytest
import references as ref
import zoo
from test_graph import assert_is_a_view

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.graph.edit import Edit

CASES = zoo.cases(lacking={"subclassed"})
# A custom class whose constructor makes its own inputs cannot be given others; the report says so.
LOSES_ITS_CLASS = {"functional_subclass_own_init", "functional_subclass_nested"}
# Not saved by their own layers: the names of weights come from counters.
RENAMES_WEIGHTS = {
    "layer_that_owns_a_model",
    "subclassed_block_in_functional",
    "subclassed_block_in_sequential",
    "normalization_adapted",
}


# Saving and loading takes half a second a model, exporting two: here a sample of all themes,
# and all models in long runs.
SAVED = {
    "bn_renorm",
    "bn_subclass",
    "composite_layers",
    "compiled_dict_losses",
    "conv_bn",
    "custom_layer",
    "embedding_mask_zero",
    "functional_subclass_own_init",
    "functional_subclass_same_init",
    "layer_that_owns_a_model",
    "mixed_float16",
    "multi_input_list",
    "nested_called_twice",
    "nested_with_dicts",
    "normalization_adapted",
    "operators_on_tensors",
    "output_given_twice",
    "sequential_deferred",
    "self_attention",
    "shared_inside_and_outside",
    "small_resnet",
    "string_lookup",
    "tabular",
    "text_vectorization",
    "three_deep",
    "time_distributed_bn",
}
EXPORTED = {
    "conv_bn",
    "nested_called_twice",
    "operators_on_tensors",
    "small_resnet",
    "bidirectional",
}


def sampled(names, *lacking):
    """All cases, those not named for long runs only."""
    return zoo.cases(lacking={"subclassed", *lacking}, quick=lambda entry, _: entry.name in names)


#: Not those whose outputs differ from call to call.
REPEATABLE = sampled(SAVED, "stochastic", "baked")


def copied(model):
    return rebuild(Reading(Subject.of(model)), Edit())


def outputs(model, x):
    """Inference outputs, with everything that the model remembers put back."""
    with adapter_of(model).preserved(model):
        return ref.inferred(model, x)


def tree(model):
    """Path, class, dtype policy and trainable flag of every layer, in order."""
    return [
        # Inputs compute nothing: only their dtype counts, which the outputs show.
        (
            path,
            type(layer),
            None if "InputLayer" in str(type(layer)) else _policy(layer),
            layer.trainable,
        )
        for path, layer in adapter_of(model).tree(model)
        if "Classifier" not in str(type(layer)) and not path.startswith("classifier")
    ]


def _policy(layer):
    policy = getattr(layer, "dtype_policy", None) or getattr(layer, "_dtype_policy", None)
    return getattr(policy, "name", policy)


def _name(weight):
    return getattr(weight, "name", None)  # tf_keras lists vocabularies among the weights


def _flag(weight):
    return getattr(weight, "trainable", None)


def names_of(model):
    """Of the inputs, then of the outputs."""
    return [*adapter_of(model).input_names(model), *getattr(model, "output_names", [])]


def nodes(model):
    """How often each layer has been called, and by which call."""
    return [
        (id(layer), [id(node) for node in layer._inbound_nodes], len(layer._outbound_nodes))
        for _, layer in adapter_of(model).tree(model)
        if hasattr(layer, "_inbound_nodes")
    ]


@pytest.mark.every(9)
@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_a_copy_is_the_same_model_and_leaves_the_source_alone(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=3)
    adapter = adapter_of(model)
    calls, values = nodes(model), [adapter.copy_value(v) for v in adapter.variables(model)]

    reading = Reading(Subject.of(model))
    assert_is_a_view(reading.graph, model)
    copy = rebuild(reading, Edit())

    assert nodes(model) == calls
    assert not {id(layer) for _, layer in adapter.tree(model)} & {
        id(layer) for _, layer in adapter.tree(copy.model)
    }
    for variable, value in zip(adapter.variables(model), values, strict=True):
        np.testing.assert_array_equal(adapter.copy_value(variable), value)
    for ours, theirs in zip(copy.model.weights, model.weights, strict=True):
        if hasattr(theirs, "numpy"):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert tree(copy.model) == tree(model)
    assert [_flag(w) for w in copy.model.weights] == [_flag(w) for w in model.weights]
    if entry.name in LOSES_ITS_CLASS:
        assert "no longer a" in copy.lost[0]
    else:
        assert (type(copy.model), copy.lost) == (type(model), ())
        assert copy.model.name == model.name
    if entry.name not in RENAMES_WEIGHTS:
        assert [_name(w) for w in copy.model.weights] == [_name(w) for w in model.weights]
    for ours, theirs in zip(names_of(copy.model), names_of(model), strict=True):
        # Keras 3 counts through tensors of unnamed inputs, in every copy of its own as well.
        assert ours == theirs or theirs.startswith("keras_tensor")
    if not entry.tags_in(dialect) & {"stochastic", "baked"}:
        for got, wanted in zip(outputs(copy.model, x), outputs(model, x), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("entry", "dialect"), zoo.cases(having={"compiled"}, lacking={"subclassed"})
)
def test_a_copy_evaluates_at_once_as_its_source_is_compiled(entry, dialect):
    model = zoo.build(entry, dialect)
    x, y = zoo.inputs_for(model, rows=6), zoo.targets_for(model, rows=6)
    wanted = model.evaluate(x, y, verbose=0)
    copy = copied(model).model
    got = copy.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert type(copy.optimizer) is type(model.optimizer)
    assert copy.optimizer.get_config() == model.optimizer.get_config()


class SharingSource:
    """A mutant: the 'copy' is a second model over the source's own layers."""

    def __call__(self, model):
        adapter = adapter_of(model)
        return adapter.keras.Model(
            model.inputs, [layer(model.outputs) for layer in [model.layers[-1]]]
        )


def in_the_middle_of_a_sequence(K):
    """A stateful network, alone and inside of a wrapper, that has seen the beginning."""
    inputs = K.Input(batch_shape=(2, 5, 3))
    x = K.layers.LSTM(4, stateful=True, return_sequences=True, name="lstm")(inputs)
    x = K.layers.Bidirectional(K.layers.GRU(2, stateful=True, return_sequences=True))(x)
    model = K.Model(inputs, K.layers.BatchNormalization()(K.layers.Dense(4)(x)))
    model(np.ones((2, 5, 3), "float32"))
    return model


@pytest.mark.both
def test_a_copy_goes_on_with_a_sequence_where_its_source_would(K):
    model = in_the_middle_of_a_sequence(K)
    states = adapter_of(model).carried(model)
    assert len(states) == 4
    assert all(np.any(adapter_of(model).copy_value(state)) for _, state in states)
    folded = bnfix.fold(model)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), 1e-5)


def test_the_law_rejects_a_copy_made_of_the_sources_layers(K):
    inputs = K.Input((4,))
    model = K.Model(inputs, K.layers.ReLU()(K.layers.Dense(4)(inputs)))
    calls = nodes(model)
    SharingSource()(model)
    assert nodes(model) != calls


def assert_survives(model, x, save, load):
    wanted = outputs(model, x)
    save(model)
    loaded = load()
    ref.assert_close(outputs(loaded, x), wanted, 1e-5)
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        if hasattr(theirs, "numpy"):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def skip_if_the_source_fails_too(trial):
    try:
        trial()
    except Exception as error:
        pytest.skip(f"Keras itself cannot do that with this model: {str(error).strip()[:100]}")


FILES = {"no_keras": "model.keras", "no_h5": "model.h5"}


@pytest.mark.every(8)
@pytest.mark.parametrize("tag", FILES)
@pytest.mark.parametrize(("entry", "dialect"), REPEATABLE)
def test_a_copy_reloads_from_a_file_with_the_same_outputs(entry, dialect, tag, tmp_path):
    K = zoo.keras_module(dialect)
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=3)
    objects = {} if entry.name in LOSES_ITS_CLASS else zoo.custom_objects(dialect)
    options = {} if dialect == "tf_keras" and tag == "no_h5" else {"safe_mode": False}
    file = str(tmp_path / FILES[tag])

    def load():
        return K.models.load_model(file, custom_objects=objects or None, compile=False, **options)

    copy = copied(model).model
    try:
        assert_survives(copy, x, lambda copy: copy.save(file), load)
    except Exception:
        skip_if_the_source_fails_too(
            lambda: assert_survives(model, x, lambda m: m.save(file), load)
        )
        raise


@pytest.mark.every(5)
@pytest.mark.parametrize(("entry", "dialect"), sampled(SAVED))
def test_weights_of_a_copy_load_into_the_source_and_back(entry, dialect, tmp_path):
    model = zoo.build(entry, dialect)
    copy = copied(model).model
    file = str(tmp_path / "model.weights.h5")
    other = zoo.build(entry, dialect, seed=1)

    def carried_over(source):
        source.save_weights(file)
        other.load_weights(file)
        for ours, theirs in zip(other.weights, model.weights, strict=True):
            if hasattr(theirs, "numpy"):
                np.testing.assert_array_equal(ours.numpy(), theirs.numpy())

    try:
        carried_over(copy)
    except Exception:
        skip_if_the_source_fails_too(lambda: carried_over(model))
        raise


def exported_outputs(model, x, folder):
    tf = zoo.tensorflow()
    model.export(folder)
    loaded = tf.saved_model.load(folder)
    return ref.numbers(loaded.serve(x))


@pytest.mark.every(2)
@pytest.mark.parametrize(("entry", "dialect"), sampled(EXPORTED, "stochastic", "baked"))
def test_an_exported_copy_answers_as_the_source(entry, dialect, tmp_path):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=3)
    wanted = outputs(model, x)
    copy = copied(model).model
    try:
        got = exported_outputs(copy, x, str(tmp_path / "exported"))
    except Exception:
        skip_if_the_source_fails_too(lambda: exported_outputs(model, x, str(tmp_path / "source")))
        raise
    assert len(got) == len(wanted)
    half = "mixed" in entry.tags_in(dialect)
    for a, b in zip(sorted(got, key=np.sum), sorted(wanted, key=np.sum), strict=True):
        ref.assert_close([a], [b], 2e-2 if half else 1e-5)
