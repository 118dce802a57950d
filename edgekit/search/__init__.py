"""Choosing a recipe within the budget: which nodes a lower precision is not worth its cost for.

groups.py    the nodes that can be quantized, in groups by structural pattern
restore.py   rank the groups by what they cost and save; put back those that regain most per millisecond
log.py       every trial on disk, so that an interrupted search goes on where it was

Nothing here knows engines or models: a trial is a function from groups kept high to what was seen.
"""
