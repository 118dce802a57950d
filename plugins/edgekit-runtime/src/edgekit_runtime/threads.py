"""The environment that keeps a worker's libraries to the threads it was given, and quiet between runs."""

from __future__ import annotations

_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that pin thread pools to `threads` and make idle threads sleep instead of spin."""
    pinned = {name: str(max(1, threads)) for name in _COUNTS}
    return {
        **pinned,
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }
