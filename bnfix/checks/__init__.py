"""Does a model answer the same for a row whatever stands next to it?  Independent of the passes."""
