"""The commands' work: frozen values in, a frozen value and one new directory out.

A file for each command, and their rooms:

compiling/    settles what is asked, builds it, and the gates before an artifact is kept
validating/   settles what is measured, on what and where
diffing/      two sides, the scene they share, and what must not have become worse
rows/         calibration and test rows, from the user's files to feeds
answers/      what an artifact answers, beside recorded outputs and the exported model
"""
