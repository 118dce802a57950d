"""Calibration and test rows, from the user's files to feeds.

reading.py              through the model's own processor; drawing.py which of them, by seed
feed_files.py           rows that are a model's own inputs, in .npz
recording.py            what each part of a model of several graphs sees
calibration_report.py   what the rows were like, and why they may not do
"""
