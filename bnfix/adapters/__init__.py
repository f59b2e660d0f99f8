"""The only rooms that know Keras: an adapter for each of the two, behind one interface."""
