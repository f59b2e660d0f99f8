"""Whatever ends a call, all is as before; and only who has seen to that may say so."""

import re
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import bnfix
from bnfix.restoring import NOTHING_CHANGED, Setting, all_or_nothing, put_back, put_back_after

PACKAGE = Path(bnfix.__file__).parent
SAYS_SO = r"(Nothing|No (layer|model|file)) was (changed|written|run)\."


class Box:
    """Something that a function may change."""

    def __init__(self, content):
        self.content = content


def content(box):
    before = box.content
    return lambda: setattr(box, "content", before)


def ending_with(error):
    @all_or_nothing(content)
    def verb(box, *, deeper=False):
        box.content = "half"
        raise error

    return verb


# --- the sentence --------------------------------------------------------------------------------


def test_the_sentence_stands_in_one_place():
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(SAYS_SO, " ".join(path.read_text().replace('"', "").split()))
    ]
    assert found == ["restoring.py"]


def assert_says_what_is_so(decorator):
    @decorator(content)
    def verb(box):
        box.content = "half"
        raise bnfix.DataError("x is empty.", path="bn")

    box = Box("whole")
    with pytest.raises(bnfix.DataError) as refusal:
        verb(box)
    assert str(refusal.value) == f"x is empty. {NOTHING_CHANGED}"
    assert refusal.value.path == "bn"
    assert box.content == "whole"


def test_a_refusal_says_that_nothing_was_changed_and_that_is_so():
    assert_says_what_is_so(all_or_nothing)


@pytest.mark.parametrize("mutant", [lambda part: all_or_nothing(), lambda part: lambda verb: verb])
def test_the_law_rejects_one_that_only_speaks_and_one_that_is_silent(mutant):
    with pytest.raises(AssertionError):
        assert_says_what_is_so(mutant)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ValueError("x")])
def test_whatever_ends_a_call_puts_back_what_it_changed_and_goes_on_as_it_is(error):
    box = Box("whole")
    said = str(error)
    with pytest.raises(type(error)) as seen:
        ending_with(error)(box)
    assert seen.value is error
    assert str(error) == said
    assert box.content == "whole"


def test_a_first_argument_may_be_given_by_its_name():
    box = Box("whole")
    with pytest.raises(MemoryError):
        ending_with(MemoryError())(box=box)
    assert box.content == "whole"


def test_a_function_within_another_does_not_speak_for_it():
    said = []

    @all_or_nothing()
    def outer(box):
        try:
            ending_with(bnfix.DataError("x is empty."))(box)
        except bnfix.DataError as refusal:
            said.append(str(refusal))
        return box.content

    box = Box("whole")
    assert outer(box) == "whole"
    assert said == ["x is empty."]


def test_a_sentence_passes_several_functions_and_is_said_once():
    @all_or_nothing()
    def outer(box):
        ending_with(bnfix.DataError("x is empty."))(box)

    with pytest.raises(bnfix.DataError) as refusal:
        outer(Box("whole"))
    assert str(refusal.value).count(NOTHING_CHANGED) == 1


def test_what_cannot_be_put_back_is_not_called_unchanged():
    def broken(box):
        def undo():
            raise OSError("the device is gone")

        return undo

    @all_or_nothing(content, broken)
    def verb(box):
        box.content = "half"
        raise bnfix.DataError("x is empty.")

    box = Box("whole")
    with pytest.raises(OSError, match="the device is gone") as seen:
        verb(box)
    assert NOTHING_CHANGED not in str(seen.value.__context__)
    assert box.content == "whole"  # the other part is put back all the same


def test_ctrl_c_waits_until_everything_is_back():
    done = []

    def undo(number):
        signal.raise_signal(signal.SIGINT)
        done.append(number)

    with pytest.raises(KeyboardInterrupt):
        put_back([lambda: undo(1), lambda: undo(2)])
    assert done == [2, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- models --------------------------------------------------------------------------------------


def assert_is_as_it_was(kept):
    """`kept(read, write)` holds a setting in two threads, the first of which ends first."""
    held = {"at": False}
    hold = kept(lambda: held["at"], lambda value: held.update(at=value))
    first, second, third = hold(), hold(), hold()
    first.__enter__()
    with second:
        assert held["at"]
        first.__exit__(None, None, None)
        assert held["at"], "the other still wants it"
    assert not held["at"]
    with third:
        assert held["at"]
    assert not held["at"]


def test_a_setting_that_two_threads_hold_is_as_it_was_when_both_have_ended():
    def kept(read, write):
        setting = Setting(read, write)
        return lambda: setting.held(True)

    assert_is_as_it_was(kept)


def test_the_law_rejects_each_putting_back_what_it_found():
    def kept(read, write):
        @contextmanager
        def hold():
            before = read()
            with put_back_after(lambda: write(before)):
                write(True)
                yield

        return hold

    with pytest.raises(AssertionError):
        assert_is_as_it_was(kept)


def compiled(K):
    L = K.layers
    inner = K.Sequential([K.Input((4,)), L.Dense(4, name="held"), L.BatchNormalization()])
    inputs = K.Input((4,))
    model = K.Model(inputs, L.BatchNormalization(name="last")(inner(inputs)))
    inner.layers[0].trainable = False
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, x, verbose=0)
    model.predict(x, verbose=0)
    return model, inner


def flags(model, inner):
    return [layer.trainable for layer in (model, *model.layers, *inner.layers)]


def test_flags_and_compiled_functions_of_a_model_are_put_back(K):
    from bnfix.adapters import state

    model, inner = compiled(K)
    before = flags(model, inner), model.train_function, model.predict_function
    trainable = [id(weight) for weight in model.trainable_weights]
    undo = state.settings(model)
    model.trainable = False
    model.trainable = True
    model.train_function = model.predict_function = None
    model.make_test_function()
    assert (flags(model, inner), model.train_function) != before[:2]
    undo()
    assert (flags(model, inner), model.train_function, model.predict_function) == before
    assert model.test_function is None
    assert [id(weight) for weight in model.trainable_weights] == trainable


def test_every_value_of_a_model_is_put_back_to_the_last_bit(K):
    from bnfix.adapters import state

    model, _ = compiled(K)
    last = model.get_layer("last")
    last.moving_mean.assign(np.array([-0.0, np.nan, np.inf, 1.0]))
    before = [np.array(weight.numpy()).tobytes() for weight in model.weights]
    undo = state.everything(model)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    undo()
    assert [np.array(weight.numpy()).tobytes() for weight in model.weights] == before


# --- all public functions ------------------------------------------------------------------------


def refusals(K, folder):
    """A call of each public function that it refuses."""
    model = K.Sequential([K.Input((4,)), K.layers.Dense(4), K.layers.BatchNormalization()])
    x = np.zeros((0, 4), "float32")
    missing = folder / "missing.h5"
    invariant = bnfix.batch_invariant(model, 2)
    shard = bnfix.statistics(model, np.ones((2, 4), "float32"), ddof=1, verbose=0)
    one = bnfix.statistics(model, np.ones((1, 4), "float32"), ddof=1, verbose=0)
    there = folder / "there.npz"
    there.touch()
    return {
        "assert_batch_invariant": lambda: bnfix.assert_batch_invariant(model, x),
        "batch_invariant": lambda: bnfix.batch_invariant(model, 0),
        "BatchInvariant.predict": lambda: invariant.predict(x),
        "check": lambda: bnfix.check(model, x),
        "diagnose": lambda: bnfix.diagnose(model, x),
        "fold": lambda: bnfix.fold(model.layers[0]),
        "freeze": lambda: bnfix.freeze(model, layers="nowhere"),
        "graph_of": lambda: bnfix.graph_of(None),
        "open_up": lambda: bnfix.open_up(None),
        "inspect": lambda: bnfix.inspect(missing),
        "load": lambda: bnfix.load(missing),
        "recalibrate": lambda: bnfix.recalibrate(model, x),
        "statistics": lambda: bnfix.statistics(model, x),
        "Statistics.__add__": lambda: shard + bnfix.statistics(model, np.ones((1, 4), "float32")),
        "Statistics.save": lambda: shard.save(there),
        "Statistics.load": lambda: bnfix.Statistics.load(there),
        "Statistics.apply": lambda: shard.apply(model, prior=-1),
        "Statistics.mean": lambda: shard.mean("batch_normalisation"),
        "Statistics.variance": lambda: one.variance(*one.paths),
        "repair": lambda: bnfix.repair(model, x),
        "repair_file": lambda: bnfix.repair_file(missing, folder / "out.h5"),
        "replace": lambda: bnfix.replace(model, lambda spec: 7),
        "save": lambda: bnfix.save(model, folder / "model.txt"),
        "strip_training": lambda: bnfix.strip_training(model, layers="nowhere"),
        "strip_augmentation": lambda: bnfix.strip_augmentation(None),
        "to_group_norm": lambda: bnfix.to_group_norm(model, groups=0),
        "RecalibrateBN": lambda: bnfix.callbacks.RecalibrateBN(iter([x])),
        "FreezeBN": lambda: bnfix.callbacks.FreezeBN(-1),
        "FreezeBN.on_train_begin": lambda: begin(
            bnfix.callbacks.FreezeBN(1, layers="nowhere"), model
        ),
    }


def begin(callback, model):
    callback.set_model(model)
    callback.on_train_begin()


def test_no_public_function_is_left_out(K, tmp_path):
    public = {name: getattr(bnfix, name) for name in bnfix.__all__}
    verbs = {name for name, it in public.items() if callable(it) and not isinstance(it, type)}
    methods = {
        f"{name}.{method}"
        for name, it in public.items()
        if isinstance(it, type)
        for method in vars(it)
        if "Raises:" in str(getattr(it, method).__doc__)
    }
    assert verbs | methods <= set(refusals(K, tmp_path))


def test_every_public_function_says_once_that_nothing_was_changed(K, tmp_path):
    for name, refuse in refusals(K, tmp_path).items():
        with pytest.raises(bnfix.BnfixError) as refusal:
            refuse()
        assert str(refusal.value).endswith(f" {NOTHING_CHANGED}"), name
        assert str(refusal.value).count(NOTHING_CHANGED) == 1, name


def test_a_model_that_is_not_built_is_refused_in_words(K, tmp_path):
    class Own(K.Model):
        def __init__(self):
            super().__init__()
            self.norm = K.layers.BatchNormalization()

        def call(self, x):
            return self.norm(x)

    x = np.zeros((4, 4), "float32")
    for model in (K.Sequential([K.layers.BatchNormalization()]), Own()):
        for refuse in (
            lambda model=model: bnfix.check(model, x),
            lambda model=model: bnfix.diagnose(model, x),
            lambda model=model: bnfix.recalibrate(model, x),
            lambda model=model: bnfix.repair(model, x),
            lambda model=model: bnfix.fold(model),
            lambda model=model: bnfix.strip_training(model),
            lambda model=model: bnfix.to_group_norm(model),
            lambda model=model: bnfix.batch_invariant(model),
        ):
            with pytest.raises(bnfix.UnsupportedModelError) as refusal:
                refuse()
            assert str(refusal.value).endswith(f" {NOTHING_CHANGED}")
        assert bnfix.freeze(model) is model
