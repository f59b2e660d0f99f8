"""Plain numbers: numpy only, no Keras."""
