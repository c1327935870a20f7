"""Conformance suites: what the device computes against independent references, counted by operator.

`case.py` says what a case is, `runner.py` executes a suite in worker processes, `report.py` counts. A suite is a module
with `collect() -> list[Case]`, which gives the same list in every process.
"""
