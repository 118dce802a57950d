"""What validate settles before it measures.

settling.py      what is asked, of what, on which machine
inputs.py        what an artifact is timed on
reproducing.py   the command that makes the report again
"""
