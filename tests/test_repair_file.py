"""`repair_file`: what it changes in a file, what it leaves, and that a crash leaves a whole one."""

import errno
import functools
import inspect
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from pathlib import Path

import faults
import h5py
import hostile
import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.files.asked import OPENING
from bnfix.restoring import NOTHING_CHANGED

SUFFIXES = (".h5", ".keras")


def baked(K, *, fitted=False, random=True):
    """A BN with training=True, one inside of a nested model called so, a dropout likewise.

    Unless `random`, the dropout is an ordinary one: what is never twice the same is measured more.
    """
    L = K.layers
    inner = K.Sequential([K.Input((6,)), L.Dense(6), L.BatchNormalization(name="in")], name="inner")
    inputs = K.Input((6,))
    x = L.BatchNormalization(name="baked")(L.Dense(6)(inputs), training=True)
    x = L.BatchNormalization(name="plain")(inner(x, training=True))
    x = L.Dropout(0.5, name="always")(x, **({"training": True} if random else {}))
    model = K.Model(inputs, L.Dense(2, name="out")(x))
    model.compile("adam", "mse")
    if fitted:
        model.fit(*data(), epochs=2, verbose=0)
    else:
        zoo.randomise_batch_norms(model, 0)
    return model


def data(rows=64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 6)).astype("float32"), np.ones((rows, 2), "float32")


@functools.cache
def saved(dialect, suffix):
    """The bytes of a file with a baked model; making one takes a while."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        bnfix.save(baked(zoo.keras_module(dialect)), path)
        return path.read_bytes()


@pytest.fixture(params=SUFFIXES)
def source(request, dialect, tmp_path):
    path = tmp_path / f"model{request.param}"
    path.write_bytes(saved(dialect, request.param))
    return path


# --- all else stays ------------------------------------------------------------------------------


def contents(file):
    """Every attribute and dataset of an HDF5 file, with types."""
    found = {}

    def add(name, item):
        for key, value in item.attrs.items():
            kind = item.attrs.get_id(key).dtype
            found[name, key] = (str(kind), str(getattr(value, "tolist", lambda v=value: v)()))
        if isinstance(item, h5py.Dataset):
            found[name, "values"] = (str(item.dtype), item[()].tobytes(), item.chunks)

    with h5py.File(file, "r") as opened:
        add("/", opened)
        opened.visititems(add)
    return found


def parts(path):
    """All that is in a model file but its configuration, and that."""
    if path.suffix == ".h5":
        found = contents(path)
        return found, json.loads(found.pop(("/", "model_config"))[1])
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        found = {i.filename: (i.date_time, i.compress_type, archive.read(i)) for i in members}
    return found, json.loads(found.pop("config.json")[-1])


def leaves(config, path=()):
    """The leaves of a configuration, by path."""
    if not isinstance(config, dict | list):
        return {path: config}
    items = config.items() if isinstance(config, dict) else enumerate(config)
    return {k: v for key, inner in items for k, v in leaves(inner, (*path, key)).items()}


def test_an_edit_changes_the_configuration_alone_and_there_the_flags_alone(source, tmp_path):
    target = tmp_path / f"new{source.suffix}"
    before = source.read_bytes()
    path, report = bnfix.repair_file(source, target, return_report=True)
    assert path == target
    assert {o.path for o in report.outcomes} == {"baked", "inner"}
    (old, config), (new, edited) = parts(source), parts(target)
    assert new == old
    gone = leaves(config).items() - leaves(edited).items()
    assert leaves(edited).items() <= leaves(config).items()
    assert [(path[-1], value) for path, value in gone] == [("training", True)] * 2
    assert source.read_bytes() == before


def test_a_value_or_attribute_that_changed_would_be_seen(source, tmp_path):
    old, _ = parts(source)
    if source.suffix == ".h5":
        with h5py.File(source, "a") as file:
            file["model_weights/plain"].attrs["new"] = 1
    else:
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("new", b"")
    assert parts(source)[0] != old


@pytest.mark.every(2)
def test_an_edited_model_is_batch_invariant_and_its_dropout_still_on(source, tmp_path):
    target = tmp_path / f"new{source.suffix}"
    bnfix.repair_file(source, target)
    x, _ = data(8)
    before, after = bnfix.load(source), bnfix.load(target)
    found = [f for f in bnfix.check(before, x).findings if f.cause == "batch_statistics"]
    assert {f.path for f in found} >= {"baked", "inner/in"}
    assert not [f for f in bnfix.check(after, x).findings if f.cause == "batch_statistics"]
    stays = [norm.training for norm in bnfix.inspect(target).batch_norms]
    assert stays == [(), (), ()]
    once, again = ref.numbers(after(x)), ref.numbers(after(x))
    assert np.any(once[0] != again[0]), "dropout was left as it was"
    ref.assert_same_weights(after, ref.weights_of(before))


def test_nothing_to_do_gives_a_copy(source, tmp_path):
    once, twice = tmp_path / f"a{source.suffix}", tmp_path / f"b{source.suffix}"
    bnfix.repair_file(source, once)
    _, report = bnfix.repair_file(once, twice, return_report=True)
    assert twice.read_bytes() == once.read_bytes()
    assert report.ok
    assert "there is nothing to edit" in str(report)
    assert "is a copy" in str(report)


def test_a_file_whose_code_is_missing_is_edited_all_the_same(K, tmp_path):
    class Own(K.layers.Layer):
        def call(self, inputs):
            return inputs

    L = K.layers
    inputs = K.Input((4,))
    model = K.Model(inputs, L.BatchNormalization(name="bn")(Own()(inputs), training=True))
    for suffix in SUFFIXES:
        path = tmp_path / f"model{suffix}"
        bnfix.save(model, path)
        with pytest.raises(bnfix.FileError, match="Own"):
            bnfix.load(path)
        _, report = bnfix.repair_file(path, path, overwrite=True, return_report=True)
        assert report.ok
        assert not report.before.ok
        again = bnfix.load(path, {"Own": Own})
        assert bnfix.check(again, np.ones((4, 4), "float32") * np.arange(4)).ok


# --- the other edits -----------------------------------------------------------------------------


def test_freeze_sets_the_flag_where_that_moves_no_weights(source, tmp_path):
    target = tmp_path / f"new{source.suffix}"
    _, report = bnfix.repair_file(source, target, freeze=True, return_report=True)
    model, before = bnfix.load(target), bnfix.load(source)
    flags = {path: layer.trainable for path, layer in adapter_of(model).batch_norms(model)}
    nested = source.suffix == ".h5"
    assert flags == {"baked": False, "inner/in": nested, "plain": False}
    declined = [o for o in report.outcomes if not o.changed]
    assert [o.path for o in declined] == (["inner/in"] if nested else [])
    for path, layer in adapter_of(model).batch_norms(model):
        old = dict(adapter_of(before).batch_norms(before))[path]
        np.testing.assert_array_equal(layer.moving_variance.numpy(), old.moving_variance.numpy())
        np.testing.assert_array_equal(layer.gamma.numpy(), old.gamma.numpy())


def test_in_h5_files_the_flag_of_a_nested_layer_does_move_its_weights(K, tmp_path):
    """The reason for declining: set by hand, weights of equal shapes would be exchanged."""
    path = tmp_path / "model.h5"
    bnfix.save(baked(K), path)
    before = bnfix.load(path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        inner = next(e for e in config["config"]["layers"] if e["config"]["name"] == "inner")
        norm = next(e for e in inner["config"]["layers"] if e["config"]["name"] == "in")
        norm["config"]["trainable"] = False
        first = inner["config"]["layers"]
        first.insert(1, first.pop(first.index(norm)))  # BN before Dense: its weights come last
        file.attrs["model_config"] = json.dumps(config)
    try:
        after = bnfix.load(path)
    except bnfix.FileError:
        return
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(ref.weights_of(after), ref.weights_of(before), strict=True)
    )


def test_statistics_that_are_no_numbers_are_replaced_on_request(source, tmp_path):
    model = bnfix.load(source)
    norm = model.get_layer("plain")
    norm.moving_variance.assign(np.array([1, np.nan, 2, np.inf, 3, 4], "float32"))
    norm.moving_mean.assign(np.array([np.nan, 1, 2, 3, 4, 5], "float32"))
    bad, target = tmp_path / f"bad{source.suffix}", tmp_path / f"new{source.suffix}"
    bnfix.save(model, bad)
    bnfix.repair_file(bad, target)
    assert not bnfix.inspect(target).ok, "only on request"
    _, report = bnfix.repair_file(
        bad, target, replace_non_finite=True, overwrite=True, return_report=True
    )
    assert report.ok
    assert "2 of 6 values of moving_variance replaced by 1" in str(report)
    norm = bnfix.load(target).get_layer("plain")
    np.testing.assert_array_equal(norm.moving_variance.numpy(), [1, 1, 2, 1, 3, 4])
    np.testing.assert_array_equal(norm.moving_mean.numpy(), [0, 1, 2, 3, 4, 5])
    if source.suffix == ".h5":
        (old, _), (new, _) = parts(bad), parts(target)
        changed = {name for name in old if old[name] != new[name]}
        assert len(changed) == 2
        assert all("moving_" in name for name, _ in changed)


# --- with data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "suffix"),
    [
        ("keras3", ".h5"),
        ("tf_keras", ".keras"),
        pytest.param("keras3", ".keras", marks=pytest.mark.long),
        pytest.param("tf_keras", ".h5", marks=pytest.mark.long),
    ],
)
def test_with_data_the_model_is_repaired_and_its_training_goes_on(K, suffix, tmp_path):
    path, target = tmp_path / f"model{suffix}", tmp_path / f"new{suffix}"
    model = baked(K, fitted=True, random=False)
    bnfix.save(model, path)
    _, report = bnfix.repair_file(path, target, ds=data()[0], verbose=0, return_report=True)
    assert report.repair.steps[0].startswith("stripped training=True from 2 calls")
    assert bnfix.inspect(target).ok
    again = bnfix.load(target)
    adapter = adapter_of(again)
    assert adapter.training_steps(again) == adapter.training_steps(model) == 4
    ours, theirs = (adapter.optimizer_variables(one.optimizer) for one in (again, model))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(adapter.to_numpy(one), adapter.to_numpy(other), atol=1e-7)


@pytest.mark.parametrize(("factor", "said"), [(1, "left as it was"), (255, "NOT repaired")])
def test_the_first_line_claims_no_repair_that_was_none(K, factor, said, tmp_path):
    made = faults.healthy(K)
    made.model.save(tmp_path / "model.h5")
    target = tmp_path / "repaired.h5"
    data = made.x * factor
    _, report = bnfix.repair_file(tmp_path / "model.h5", target, ds=data, return_report=True)
    assert str(report).splitlines()[0].endswith(f"opened, {said} and saved as {target}")


def test_what_comes_back_otherwise_than_it_was_written_is_withheld(K, tmp_path, monkeypatch):
    from bnfix.files import repair as room

    path, target = tmp_path / "model.h5", tmp_path / "new.h5"
    bnfix.save(baked(K, random=False), path)
    write = room.write

    def damaging(model, draft):
        write(model, draft)
        with h5py.File(draft, "a") as file:
            group = file["model_weights/out"]
            kernel = next(name for name in list_of(group) if "kernel" in name)
            group[kernel][...] = 0

    def list_of(group):
        found = []
        group.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
        return found

    monkeypatch.setattr(room, "write", damaging)
    with pytest.raises(bnfix.VerificationError, match="come back as others"):
        bnfix.repair_file(path, target, ds=data()[0], verbose=0)
    assert sorted(tmp_path.iterdir()) == [path]


def test_options_that_do_not_go_together_are_refused(source, tmp_path):
    target = tmp_path / f"new{source.suffix}"
    with pytest.raises(bnfix.OptionError, match=r"freeze= .*without data"):
        bnfix.repair_file(source, target, ds=data(), freeze=True)
    for asked in ({"fold": True}, {"layers": "bn1"}, {"method": "streaming"}, {"min_count": 3}):
        (name,) = asked
        with pytest.raises(bnfix.OptionError, match=f"what {name}= ask for .* ds= is required"):
            bnfix.repair_file(source, target, **asked)
    assert not target.exists()


def test_each_option_of_repair_is_known_to_need_data():
    """Of those that stand after `layers=`, the last two are about the call itself."""
    names = list(inspect.signature(bnfix.repair_file).parameters)
    assert names[names.index("layers") : -2] == list(OPENING)
    usual = {name: p.default for name, p in inspect.signature(bnfix.repair_file).parameters.items()}
    assert {name: usual[name] for name in OPENING} == OPENING


def test_a_lambda_that_comes_out_of_opened_code_is_told(K, tmp_path):
    class Doubling(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.twice = K.layers.Lambda(lambda v: v * 2, output_shape=(6,), name="twice")
            self.dense, self.bn = K.layers.Dense(4), K.layers.BatchNormalization()

        def call(self, x):
            return self.bn(self.dense(self.twice(x)))

        def get_config(self):
            return {}

    (x, _), path = data(), tmp_path / "model.keras"
    model = Doubling()
    model(x[:2])
    model.save(path)
    with pytest.warns(bnfix.BnfixWarning, match=r"new.keras was written, but not for a safe load"):
        bnfix.repair_file(
            path,
            tmp_path / "new.keras",
            ds=x,
            fold=True,
            min_count=1,
            custom_objects={"Doubling": Doubling},
            verbose=0,
        )


# --- where the result goes -----------------------------------------------------------------------


def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(source, tmp_path):
    there = tmp_path / f"there{source.suffix}"
    there.write_bytes(b"precious")
    with pytest.raises(bnfix.FileError, match=r"exists\. Another name, or overwrite=True"):
        bnfix.repair_file(source, there)
    assert there.read_bytes() == b"precious"
    bnfix.repair_file(source, there, overwrite=True)
    assert bnfix.inspect(there).ok


@pytest.mark.parametrize("alias", ["same", "symlink", "hard link", "roundabout"])
def test_the_source_itself_is_recognized_by_any_name(alias, source, tmp_path):
    target = tmp_path / f"alias{source.suffix}"
    if alias == "symlink":
        target.symlink_to(source)
    elif alias == "hard link":
        os.link(source, target)
    elif alias == "roundabout":
        (tmp_path / "x").mkdir()
        target = tmp_path / "x" / ".." / source.name
    else:
        target = source
    before = source.read_bytes()
    with pytest.raises(bnfix.FileError, match="is the file to be repaired"):
        bnfix.repair_file(source, target)
    assert source.read_bytes() == before
    bnfix.repair_file(source, target, overwrite=True)
    assert bnfix.inspect(target).ok
    assert target.is_symlink() == (alias == "symlink")
    if alias == "hard link":
        assert source.read_bytes() == before, "the other name keeps the old file"


def test_a_name_of_another_format_is_refused(source, tmp_path):
    other = ".keras" if source.suffix == ".h5" else ".h5"
    with pytest.raises(bnfix.FileError, match=r"would be .* inside"):
        bnfix.repair_file(source, tmp_path / f"new{other}")
    bnfix.repair_file(source, tmp_path / "new")
    assert bnfix.inspect(tmp_path / "new").ok


def test_a_place_that_cannot_be_written_to_is_named(source, tmp_path):
    with pytest.raises(bnfix.FileError, match="cannot be written: No such file"):
        bnfix.repair_file(source, tmp_path / "nowhere" / f"new{source.suffix}")
    with pytest.raises(bnfix.FileError, match="is a folder"):
        bnfix.repair_file(source, tmp_path)


def test_a_full_disk_leaves_the_old_file(source, tmp_path, monkeypatch):
    from bnfix import replacing

    def full(*_):
        raise OSError(28, "No space left on device")

    before = source.read_bytes()
    monkeypatch.setattr(replacing.os, "fsync", full)
    with pytest.raises(bnfix.ResourceError, match="cannot be written: the disk is full"):
        bnfix.repair_file(source, source, overwrite=True)
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]


def as_on_windows(monkeypatch, replacing):
    """Folders cannot be opened, and what is open for reading only cannot be flushed."""
    open_, fsync, writable = os.open, os.fsync, set()

    def opening(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        descriptor = open_(path, flags, *rest, **options)
        (writable.add if flags & (os.O_RDWR | os.O_WRONLY) else writable.discard)(descriptor)
        return descriptor

    def flushing(descriptor):
        if descriptor not in writable:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    there = types.SimpleNamespace(**{**vars(os), "open": opening, "fsync": flushing})
    monkeypatch.setattr(replacing, "os", there)


def refusing_to_flush(number, folders_only):
    """A file system that flushes no folders, or nothing at all."""

    def refusing(monkeypatch, replacing):
        fsync = os.fsync

        def flushing(descriptor):
            if not folders_only or stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        monkeypatch.setattr(replacing.os, "fsync", flushing)

    return refusing


SYSTEMS = {
    "windows": as_on_windows,
    "folders: EINVAL": refusing_to_flush(errno.EINVAL, folders_only=True),
    "folders: EIO": refusing_to_flush(errno.EIO, folders_only=True),
    "nothing: EINVAL": refusing_to_flush(errno.EINVAL, folders_only=False),
    "nothing: ENOTSUP": refusing_to_flush(errno.ENOTSUP, folders_only=False),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_file_in_its_place_is_not_called_unwritten(source, tmp_path, monkeypatch, system):
    from bnfix import replacing

    SYSTEMS[system](monkeypatch, replacing)
    bnfix.repair_file(source, source, overwrite=True)
    assert bnfix.inspect(source).ok
    assert list(tmp_path.iterdir()) == [source]


def test_what_is_lost_on_its_way_to_the_disk_is_not_put_in_place(source, tmp_path, monkeypatch):
    from bnfix import replacing

    before = source.read_bytes()
    refusing_to_flush(errno.EIO, folders_only=False)(monkeypatch, replacing)
    with pytest.raises(bnfix.FileError, match=NOTHING_CHANGED):
        bnfix.repair_file(source, source, overwrite=True)
    assert source.read_bytes() == before


# --- a crash -------------------------------------------------------------------------------------


def kills(file: Path, number: int, *mode: str) -> dict[str, int]:
    """What is in `file` after `number` kills at random moments, counted."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    command = [sys.executable, str(Path(__file__).with_name("kill_run.py"))]
    done = subprocess.run(
        [*command, str(file), str(number), *mode],
        env=environment, capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return {"old": 0, "new": 0, "torn": 0, **json.loads(done.stdout)}


def killable(path: Path) -> Path:
    """A file large enough for its writing to take a while."""
    text = hostile.config()
    text["config"]["layers"][1]["inbound_nodes"] = [[["in", 0, 0, {"training": True}]]]
    if path.suffix == ".h5":
        hostile.plain_h5(path, text)
        with h5py.File(path, "a") as file:
            file["optimizer_weights/x"] = np.ones(1 << 19, "float32")
        return path
    config = hostile.keras3_config()
    config["config"]["layers"][1]["inbound_nodes"] = [{"args": [], "kwargs": {"training": True}}]
    hostile.weights_h5(held := io.BytesIO())
    hostile.plain_keras(path, config, weights=held.getvalue(), extra={"assets/x": bytes(1 << 21)})
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new(suffix, tmp_path):
    found = kills(killable(tmp_path / f"model{suffix}"), 25)
    assert found["torn"] == 0, found
    assert found["old"], found
    assert found["new"], found


def test_writing_in_place_would_be_caught(tmp_path):
    assert kills(killable(tmp_path / "model.h5"), 25, "in_place")["torn"]


@pytest.mark.long
def test_two_hundred_kills_leave_the_old_file_or_the_new(shared, tmp_path):
    file = tmp_path / "audio.h5"
    shutil.copyfile(shared / "models" / "audio_denoising_decoder.h5", file)
    found = kills(file, 200)
    assert found["torn"] == 0, found
    assert min(found["old"], found["new"]) >= 20, found


ENDLESS = """
import sys, numpy as np, bnfix
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
while True:
    bnfix.repair_file(sys.argv[1], sys.argv[1], ds=x, overwrite=True, verbose=0, fold=False)
    print("again", flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_while_a_model_is_repaired_with_data_leaves_a_whole_file(K, suffix, tmp_path):
    """Each round is another whole file, so that being readable in full is the law here."""
    path = tmp_path / f"model{suffix}"
    model = baked(K)
    bnfix.save(model, path)
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    rng = np.random.default_rng(0)
    for _ in range(8):
        running = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert running.stdout.readline() == "again\n"
        time.sleep(rng.uniform(0, 2))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        again = bnfix.load(path)
        assert len(again.get_weights()) == len(model.get_weights())
        assert bnfix.inspect(path).ok
