"""A second implementation of the specification, written from docs/spec.md alone.

Nothing here imports `mpcredit`. The modules follow the sections of the specification and cite its rules. `make_vectors`
writes tests/vectors/protocol2.json with them, and tests/unit/test_second_implementation.py compares these vectors with the
package.
A third implementation needs only the specification and that file.
"""
