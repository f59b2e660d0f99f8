"""Model files: looked into without TensorFlow, opened by the right Keras, repaired on disk."""
