"""What an artifact costs and whether it keeps its budget.

plan.py         how many launches and runs at most, and when to stop
inputs.py       fresh feeds at the workload's shapes
launches.py     run launches through the host; one record per fresh worker
quiet.py        waiting for a loaded machine, between launches
disturbance.py  which readings something else on the machine may have spoilt
statistics.py   tests and bounds: betting on launches, exact bounds on counts
accuracy.py     artifact against exported model on the same rows
paired_score.py exact bounds on a difference of paired proportions
bootstrap.py    bounds on the drop of any other metric
metrics/        metrics by name, and the user's own
footprint.py    size, memory, fallback
budgets.py      what each budget key means and how it is judged
verdict.py      evidence and limits -> checks -> one outcome
"""
