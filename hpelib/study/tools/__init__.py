"""Commands for people who use a finished run: score, submit, own pictures, dry run, checks of a set."""
