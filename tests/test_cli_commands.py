"""Each command on a model file of either Keras: what it prints, writes, and ends with."""

import json
import math
import shutil

import command_line
import numpy as np
import pytest
import references as ref
import zoo
from command_line import examples

import bnfix
from bnfix.cli.commands import group

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    # A frozen layer is trained no more, so that what the optimizer kept for it fits nothing.
    pytest.mark.filterwarnings("ignore:.*an optimizer as new:bnfix.BnfixWarning"),
]

WRITING = (
    "repair",
    "recalibrate",
    "strip-training",
    "strip-augmentation",
    "freeze",
    "fold",
    "to-group-norm",
)
EXAMINING = ("inspect", "check", "diagnose")


@pytest.fixture(scope="module", params=zoo.DIALECTS)
def folder(request, tmp_path_factory):
    """Model and data, to be read only."""
    made = tmp_path_factory.mktemp(request.param)
    command_line.fill(made, request.param)
    return made


def on(dialect):
    """For laws in which the two Kerases cannot differ."""
    return pytest.mark.parametrize("folder", [dialect], indirect=True)


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A copy of the folder, which is the current one."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(command: str) -> str:
    """The first example of `command`."""
    return examples(command)[0]


def x():
    return np.load("x.npy")


# --- verdicts -------------------------------------------------------------------------------------


def test_a_model_that_follows_the_batch_ends_with_1_and_the_repaired_one_with_0(here):
    before = command_line.bnfix("check model.h5 --data x.npy")
    assert (before.status, before.err) == (1, "")
    assert before.out.startswith("check: NOT ok, batch_statistics in bn2\n")
    done = command_line.bnfix("repair model.h5 --data x.npy -o new.h5")
    assert done.status == 0, done.err
    assert "  repair: repaired\n" in done.out
    assert done.out.endswith("wrote new.h5\n")
    after = command_line.bnfix("check new.h5 --data x.npy")
    assert (after.status, after.err) == (0, "")
    assert after.out.startswith("check: ok")


@on("tf_keras")
def test_diagnose_ends_with_1_for_faults_and_0_without_any(here):
    found = command_line.bnfix("diagnose model.h5")
    assert found.status == 1
    assert "fault: baked_training in bn2" in found.out
    assert "bnfix.strip_training" in found.out
    command_line.bnfix("repair model.h5 --data xy.npz -o new.h5")
    assert command_line.bnfix("diagnose new.h5 --data x.npy").status == 0


@on("keras3")
@pytest.mark.skipif(not zoo.COMPILED, reason=f"check compiles nothing on {zoo.BACKEND}")
def test_a_check_that_only_compiled_code_fails_is_not_passed_over(here):
    told = command_line.bnfix("check model.h5 --data x.npy --json").told
    points = {m["entry_point"]: m["coupling"] for m in told["measurements"]}
    compiled = points[zoo.COMPILED[0]]
    assert compiled["difference"] > compiled["tolerance"]


# --- what is written ------------------------------------------------------------------------------


OPERATIONS = {
    "repair --data x.npy": lambda m: bnfix.repair(m, x(), verbose=0),
    "repair": bnfix.strip_training,
    "recalibrate --data x.npy": lambda m: bnfix.recalibrate(m, x(), verbose=0),
    "strip-training": bnfix.strip_training,
    "freeze": bnfix.freeze,
    "fold": bnfix.fold,
    "to-group-norm": bnfix.to_group_norm,
    "to-group-norm --groups 2 --data x.npy": lambda m: bnfix.to_group_norm(
        m, x(), groups=2, verbose=0
    ),
    "fold --lower": lambda m: bnfix.fold(m, lower=True),
    "fold --merge --open never": lambda m: bnfix.fold(m, merge=True, open="never"),
}


@pytest.mark.every(3)
@pytest.mark.filterwarnings("ignore:to_group_norm. :bnfix.BnfixWarning")  # chance made the weights
@pytest.mark.parametrize("words", OPERATIONS)
def test_the_command_writes_what_the_function_returns(here, words):
    name, _, rest = words.partition(" ")
    done = command_line.bnfix(f"{name} model.h5 {rest} -o out.h5")
    assert done.status == 0, done.err
    wanted = OPERATIONS[words](bnfix.load("model.h5"))
    written = bnfix.load("out.h5")
    assert [layer.name for layer in written.layers] == [layer.name for layer in wanted.layers]
    for ours, theirs in zip(written.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    ref.assert_close(ref.inferred(written, x()), ref.inferred(wanted, x()), 1e-5)


def test_frozen_layers_are_frozen_in_the_file_too(here):
    command_line.bnfix("freeze model.h5 -o new.h5")
    assert [layer.trainable for layer in zoo.batch_norms(bnfix.load("new.h5"))] == [False, False]


@on("keras3")
def test_strict_folding_writes_nothing_unless_all_of_it_folds(here):
    assert command_line.bnfix("fold model.h5 --strict -o new.h5").status in (0, 3)
    (here / "new.h5").unlink(missing_ok=True)
    K = zoo.keras_module("keras3")
    stays = K.Sequential([K.Input((4,)), K.layers.ReLU(), K.layers.BatchNormalization()])
    zoo.randomise_batch_norms(stays, 0)
    stays.save("stays.keras")
    done = command_line.bnfix("fold stays.keras --strict -o new.keras")
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith("bnfix: fold(strict=True): 1 of 1 BatchNormalizations")
    assert not (here / "new.keras").exists()
    assert command_line.bnfix("fold stays.keras -o new.keras").status == 0


@pytest.mark.every(3)
@on("tf_keras")
@pytest.mark.parametrize("command", WRITING)
def test_nothing_is_replaced_unless_asked_and_the_source_never(here, command):
    source = (here / "model.h5").read_bytes()
    words = line(command).replace("-o", "--json -o").rpartition("-o ")[0] + "-o taken.h5"
    (here / "taken.h5").write_bytes(b"someone's work")
    done = command_line.bnfix(words)
    assert (done.status, done.out) == (2, "")
    assert "taken.h5 exists" in done.err
    assert (here / "taken.h5").read_bytes() == b"someone's work"
    assert command_line.bnfix(words + " --overwrite").status == 0
    assert (here / "taken.h5").read_bytes() != b"someone's work"
    assert (here / "model.h5").read_bytes() == source


@on("keras3")
def test_a_file_that_appears_meanwhile_is_not_replaced(here, monkeypatch):
    real = bnfix.fold

    def slow(*arguments, **options):
        (here / "new.h5").write_bytes(b"someone else's work")
        return real(*arguments, **options)

    monkeypatch.setattr(bnfix, "fold", slow)
    assert command_line.bnfix("fold model.h5 -o new.h5").status == 2
    assert (here / "new.h5").read_bytes() == b"someone else's work"


@on("tf_keras")
def test_a_file_can_be_repaired_in_its_place(here):
    words = "repair model.h5 --data x.npy -o model.h5"
    assert command_line.bnfix(words).status == 2
    assert command_line.bnfix(words + " --overwrite").status == 0
    assert command_line.bnfix("check model.h5 --data x.npy").status == 0


def test_with_labels_statistics_that_make_the_loss_worse_are_not_written(here):
    rng = np.random.default_rng(0)
    noise = rng.normal(5, 3, (64, 8, 8, 1)).astype(np.float32)
    model = bnfix.recalibrate(bnfix.load("model.h5"), x(), guard=False, verbose=0)
    answers = np.argmax(ref.inferred(model, noise)[0], -1)
    bnfix.save(model, "agrees.h5")
    np.savez("noise.npz", x=noise, y=answers)
    words = "recalibrate agrees.h5 --data noise.npz -o new.h5"
    done = command_line.bnfix(words)
    assert (done.status, done.out) == (3, ""), done.out
    assert "worse" in done.err
    assert not (here / "new.h5").exists()
    assert command_line.bnfix(words + " --no-guard").status == 0


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.every(3)
@on("keras3")
@pytest.mark.parametrize("command", [*WRITING, *EXAMINING])
def test_with_json_stdout_is_one_object_and_nothing_else(here, command):
    words = line(command) + " --json"
    done = command_line.bnfix(words)
    assert done.status == (0 if command in WRITING else 1)
    assert done.told["ok"] == (done.status == 0)
    assert done.told.get("out") == (words.partition("-o ")[2].split() or [None])[0]
    assert len(done.out.splitlines()) == 1
    # There is no augmentation in it, so that this command has nothing to name.
    about = {key: value for key, value in done.told.items() if key != "network"}
    assert ("bn2" in json.dumps(about)) == (command != "strip-augmentation")


WITH_DATA = ("check", "diagnose", "recalibrate", "repair", "to-group-norm")


@zoo.reads_images
@on("keras3")
@pytest.mark.parametrize("command", WITH_DATA)
def test_what_was_used_of_a_folder_of_images_is_told(here, command):
    out = "" if command in ("check", "diagnose") else " -o new.h5"
    done = command_line.bnfix(f"{command} model.h5 --data images --scale 1/255{out} --json")
    assert done.status in (0, 1), done.err
    assert sum(done.told["images"]["used"].values()) >= 8


@on("keras3")
def test_json_is_the_report_of_the_function(here):
    told = command_line.bnfix("fold model.h5 -o new.h5 --json").told
    _, report = bnfix.fold(bnfix.load("model.h5"), return_report=True)
    assert_told(told, {"ok": True, "out": "new.h5", **report.to_dict()})
    told = command_line.bnfix("check model.h5 --data x.npy --json").told
    assert_told(told, bnfix.check(bnfix.load("model.h5"), x()).to_dict())


def assert_told(told, wanted):
    """Equal up to rounding, in numbers and in words; tuples are lists in JSON."""
    if isinstance(wanted, dict):
        assert set(told) == set(wanted)
        for key, value in wanted.items():
            assert_told(told[key], value)
    elif isinstance(wanted, (list, tuple)):
        assert len(told) == len(wanted)
        for ours, theirs in zip(told, wanted, strict=True):
            assert_told(ours, theirs)
    elif isinstance(wanted, float):
        assert math.isclose(told, wanted, rel_tol=0.5, abs_tol=1e-5)
    elif not (isinstance(wanted, str) and "differ by" in wanted):
        assert told == wanted


# --- the help -------------------------------------------------------------------------------------


@pytest.mark.every(3)
@on("tf_keras")
@pytest.mark.parametrize("command", [*WRITING, *EXAMINING])
def test_every_example_of_the_help_runs(here, command):
    for number, words in enumerate(examples(command)):
        done = command_line.bnfix(words.replace("-o new", f"-o {number}"))
        assert done.status in ((0,) if command in WRITING else (0, 1)), done.err
        assert done.out
        assert done.err == ""


@pytest.mark.long
def test_the_examples_of_the_demo_run_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [command_line.bnfix(words).status for words in examples("demo")] == [0, 0]
    assert {file.name for file in tmp_path.iterdir()} == {"bnfix-demo.png", "picture.png"}


def test_every_command_is_tested_here():
    assert {*WRITING, *EXAMINING, "demo"} == set(group.commands)


# --- refusals -------------------------------------------------------------------------------------


@on("keras3")
def test_a_repair_without_data_opens_no_model(here, monkeypatch):
    monkeypatch.setattr(bnfix, "load", pytest.fail)
    done = command_line.bnfix("repair model.h5 --freeze -o new.h5 --json")
    assert (done.status, done.told["loaded"]) == (0, False)
    assert command_line.bnfix("repair model.h5 --fold -o folded.h5").status == 3
    assert not (here / "folded.h5").exists()


@on("keras3")
def test_what_is_no_model_is_refused_with_3(here):
    (here / "model.txt").write_text("no model")
    for file in ("model.txt", "x.npy"):
        done = command_line.bnfix(f"check {file} --data x.npy")
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith("bnfix: ")
        assert "Traceback" not in done.err


@on("tf_keras")
def test_data_of_another_shape_is_refused_with_both_shapes(here):
    np.save("wide.npy", np.zeros((4, 9, 9, 1), np.float32))
    done = command_line.bnfix("recalibrate model.h5 --data wide.npy -o new.h5")
    assert (done.status, done.out) == (3, "")
    assert "(4, 9, 9, 1)" in done.err
    assert "(any, 8, 8, 1)" in done.err
    assert not (here / "new.h5").exists()
