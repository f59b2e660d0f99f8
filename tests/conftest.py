"""What all tests share: both Kerases, the real files, and how thorough hypothesis is."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# On a CPU TensorFlow has channels_first convolutions in oneDNN only, and turns that on by itself on
# newer processors alone.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import gc
import signal
import sys
import zlib
from pathlib import Path

import hypothesis
import pytest
import zoo

# For `benchmarks`; last, so that an installed bnfix comes before the one of the checkout.
sys.path.append(str(Path(__file__).parents[1]))

hypothesis.settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.register_profile(
    "unshrunk", hypothesis.settings.get_profile("ci"), phases=[hypothesis.Phase.generate]
)
hypothesis.settings.register_profile("long", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets its background jobs ignore Ctrl-C, and their children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Ordinary runs take each test in one Keras, the two in turn; long runs in the other as well.

    So a law is tried in both Kerases, on half of its cases each. `@pytest.mark.both` is for what
    one Keras says nothing about in the other. Of a law with `@pytest.mark.every(n)`, whose cases
    take long, ordinary runs take every n-th of these halves; each law begins with another one, so
    that together they meet more models than any alone.
    """
    laws = {}
    for item in items:
        if not any(item.get_closest_marker(mark) for mark in ("both", "long")):
            law, _, parameters = item.nodeid.partition("[")
            case = tuple(part for part in parameters[:-1].split("-") if part not in zoo.DIALECTS)
            laws.setdefault(law, {}).setdefault(case, []).append(item)
    turn = 0  # over all tests, so that those of one case are not all in the same Keras
    for law, cases in laws.items():
        every = next(iter(cases.values()))[0].get_closest_marker("every")
        period = every.args[0] if every else 1
        # There are two cases from there on, one for either Keras.
        latest = min(period, max(1, len(cases) - period))
        first = zlib.crc32(law.rpartition("::")[2].encode()) % latest
        for number, kerases in enumerate(cases.values()):
            taken = kerases[turn % len(kerases)] if number % period == first else None
            turn += taken is not None and len(kerases) > 1
            for item in kerases:
                if item is not taken:
                    item.add_marker("long")


def pytest_runtest_setup(item):
    """`@pytest.mark.since(keras3="3.8")`: what a test needs that older Kerases have not."""
    given = getattr(item, "callspec", None)
    dialect = given.params.get("dialect") if given else None
    for mark in item.iter_markers("since"):
        for which, wanted in mark.kwargs.items():
            if dialect in (None, which) and (reason := zoo.too_old(which, wanted)):
                pytest.skip(reason)


# Graphs are made of many objects that live on: looked through for cycles after every 700 new ones,
# as is usual, they take a twentieth of the time.
gc.set_threshold(50_000, 50, 50)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(params=zoo.DIALECTS)
def dialect(request):
    """The name of a Keras; a test that takes it runs on both."""
    return request.param


@pytest.fixture
def K(dialect):
    """The Keras module of `dialect`."""
    return zoo.keras_module(dialect)


@pytest.fixture(scope="session")
def shared():
    """The folder with real images and model files, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("real images and models are not here: there is no ../shared")
    return SHARED


@pytest.fixture(autouse=True)
def leave_no_setting():
    """What a test leaves of TensorFlow's settings would make others fail, in some orders."""
    yield
    tf = sys.modules.get("tensorflow")
    if tf is not None and hasattr(tf, "config") and tf.config.functions_run_eagerly():
        tf.config.run_functions_eagerly(False)
        pytest.fail("functions were left to run eagerly")


@pytest.fixture(autouse=True, scope="module")
def release_memory():
    """Keras models hold cycles; a module's models go when it ends.

    What is there before, which is TensorFlow for the most part, is not looked through again.
    """
    gc.freeze()
    yield
    gc.collect()
