"""Two artifacts, packages or reports, compared.

sides.py      what is compared, verified first
scene.py      whether and how both can be run side by side
accuracy.py   whether answers are worse
gates.py      what must not have become worse
"""
