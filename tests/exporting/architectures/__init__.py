"""Which transformers architectures export: a small random model of each, with its own preprocessor.

base          what every builder does: a config, a model with weights that show mistakes, a folder
text, image, audio    the architectures of one kind of input
registry      all of them, and those that are known to fail
running       one export, and what its checks saw
table         the table in edgekit/exporting/README.md

`python -m tests.exporting.architectures` runs them; `--write` writes the table.
"""
