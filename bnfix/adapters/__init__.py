"""The only rooms that know Keras: one adapter for Keras 3, one for tf_keras, behind one interface."""
