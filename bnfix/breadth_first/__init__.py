"""Run a model on all its data stage by stage: every row through one before any into the next."""
