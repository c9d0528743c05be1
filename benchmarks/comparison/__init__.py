"""Compares methods on equal terms: what `make bench-time` runs, measures and writes.

``experiments`` says what is compared, ``commands`` how each run and evaluation is made, ``jobs``
runs commands on free ``devices``, ``campaign`` decides what is run and when, ``results`` reads what
the runs have left, and ``page`` writes it down with ``page.md.jinja`` and ``plots``.
"""
