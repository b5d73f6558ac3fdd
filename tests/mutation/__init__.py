"""Every line that keeps somebody out, broken on purpose: does a test notice? `python -m tests.mutation --help`."""
