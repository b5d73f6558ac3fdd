"""What exists on AWS, one concern a file. `__main__.py` composes it."""
