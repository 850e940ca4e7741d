"""`make demo`: the bundle at work in a local account, told step by step and verified."""
