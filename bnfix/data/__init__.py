"""Calibration data in every form that `fit` takes, as one stream of batches."""
