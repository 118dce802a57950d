"""The `.edgekit` file: one file that holds an artifact, its processor and its goldens."""
