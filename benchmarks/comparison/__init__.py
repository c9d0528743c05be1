"""Compares methods on equal terms: what `make bench-time` runs, measures and writes.

Imports go one way: page → (plots, timing) → outcome; campaign → commands → (outcome, runner) →
(devices, experiments, figures, costs, matching).
"""
