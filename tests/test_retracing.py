"""TensorFlow's advice against tracing anew is for the user's code, not for what bnfix does."""

import logging

import numpy as np
import pytest
import zoo

import bnfix

SAID = "triggered tf.function retracing"


@pytest.fixture
def said():
    """What TensorFlow logs meanwhile."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def network(K):
    L = K.layers
    layers = [L.Dense(4), L.BatchNormalization(), L.ReLU(), L.Dense(2)]
    return K.Sequential([K.Input((3,)), *layers])


@pytest.mark.both
def test_verbs_do_not_show_it_and_code_of_the_user_does(K, said):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    model = network(K)
    for _ in range(3):
        bnfix.check(model, x)
        bnfix.fold(model)
        bnfix.recalibrate(model, x, guard=False)
    assert not [message for message in said if SAID in message]


def test_what_the_user_traces_and_whatever_else_is_logged_is_seen(said):
    tf = zoo.tensorflow()
    bnfix.check(network(zoo.keras_module("tf_keras")), np.ones((8, 3), "float32"))
    for length in range(12):
        tf.function(lambda x: x + 1)(tf.ones(length))
    assert [message for message in said if SAID in message]
    tf.get_logger().warning("something else")
    assert said[-1] == "something else"
