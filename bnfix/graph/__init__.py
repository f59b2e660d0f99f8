"""A model as plain data: what calls what, with what, in which order; no Keras object in sight."""
