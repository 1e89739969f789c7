"""What is known of failures of other runtimes: (row, runtime) → a sentence, with the words of the specification it breaks.

Each was checked against the specification's text, and by hand, before it was written down. A failure that is not listed
here is reported with what the test saw.
"""

FINDINGS: "dict[tuple[str, str], str]" = {}
