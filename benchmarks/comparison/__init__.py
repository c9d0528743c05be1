"""Compares methods on equal terms: what `make bench-time` runs, measures and writes.

Imports go one way: page → (plots, timing) → campaign → (runner, costs, matching, figures) →
(devices, experiments).
"""
