"""Re-estimate the statistics of BatchNormalization from data."""
