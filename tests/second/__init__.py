"""A second implementation of docs/spec.md.

Nothing here imports `mpcredit`. It was written from the text alone, before a look at the package, and then compared. Where the
text had been silent it was completed from the package: the JSON documents, the sealed subject, the sealed mask keys, the
separators of R3, the moment of a daily notice, and the HPKE info of a report. What stands here about these follows the
completed text.

The modules follow the sections of the specification and cite its rules. `make_vectors` writes tests/vectors/protocol2.json with
them, and tests/unit/test_second_implementation.py compares these vectors with the package. A third implementation needs only
the specification and that file.
"""
