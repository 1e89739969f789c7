"""From a validated config to a plan: a list of operations, each with the JSON pointer it came from. Pure."""
