"""The project's benchmarks, and what runs them: `python -m benchmarks`.

A benchmark is a module with a question, options, rows of numbers and targets (`benchmark.py`);
`__main__.py` lists them. What they measured is data (`results.py`), of which tables (`tables.py`)
and pictures (`pictures.py`) are made.
"""
