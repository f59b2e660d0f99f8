"""The verbs on a model: each reads it, asks a pass what to do, carries that out and proves it."""
