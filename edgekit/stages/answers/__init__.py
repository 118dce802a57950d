"""What an artifact answers.

asking.py      rows put to a model as a device would put them
golden.py      beside the recorded outputs of the original; generated.py counts tokens
judging.py     beside the exported model on labelled rows, by a metric
observing.py   all that validate sees of an artifact before the clock starts
"""
