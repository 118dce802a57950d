"""A whole edgekit backend in three short files: `plugin.py`, `compiler.py`, `session.py`."""
