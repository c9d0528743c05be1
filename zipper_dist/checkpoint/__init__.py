"""Files of a run: checkpoints, weights, the run directory."""
