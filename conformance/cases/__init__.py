"""The cases, by section of the specification. Their names begin with the id of the row they judge."""
