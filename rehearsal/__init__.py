"""`python -m rehearsal`: the stack's whole life with the real Pulumi engine, against an emulated AWS on this machine."""
