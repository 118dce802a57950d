"""The command line: parse, call one stage, print. Nothing is computed here."""
