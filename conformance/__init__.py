"""A black-box conformance suite for OCI runtimes on Linux: one test or more for each requirement of the
specification.
"""
