"""Runs each agent's real CLI through our own command on a real mission, and says what holds: the matrix.

`python -m tests.e2e.matrix [AGENT …]` prints it; `tests/e2e/clis` says how a CLI is added. A row takes a
minute or two: one mission with one work package is implemented, rejected, reworked and approved, and copies
of it are tried with a key that is refused. What that left on the disk, in the journal, at the host and at
the models' API is the evidence from which every column is judged.
"""
