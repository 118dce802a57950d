"""The worker process: `python -m edgekit_runtime.worker`, spoken to over its stdin and stdout.

Order matters here. The supervisor is split off first, while the process is small. Then the pipes
are taken away from whoever might print or read: file descriptor 1 becomes a copy of stderr, and 0
becomes empty, before numpy, an engine or a plugin is imported.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
from typing import BinaryIO, cast

from edgekit_runtime import __version__, supervisor

#: Set by the host: the most MiB of data that the worker may take.
MEMORY_VARIABLE = "EDGEKIT_WORKER_MEMORY_MIB"


def main() -> int:
    """Serve calls until the host says stop or goes away; the process's exit code."""
    supervisor.split_off()
    incoming, outgoing = take_pipes()
    limit = limit_memory(os.environ.get(MEMORY_VARIABLE, ""))
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from edgekit_runtime.loop import Loop

    loop = Loop(incoming, outgoing)
    loop.hello(runtime=__version__, memory_limit=limit)
    code = loop.serve()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Private streams of the protocol. From here on a print is a line on stderr, a read is at its end."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(incoming, os.O_BINARY)
        msvcrt.setmode(outgoing, os.O_BINARY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # Unbuffered on the way out: a process that a plugin forks must not inherit half a frame.
    return os.fdopen(incoming, "rb"), cast(BinaryIO, os.fdopen(outgoing, "wb", buffering=0))


def limit_memory(mib: str) -> str:
    """Hold this process to `mib` MiB. Says how: "data" (Linux), "address-space", or "" for not at all.

    A crash leaves no core file: it would be as large as the model, and nobody asked for one.
    """
    if sys.platform == "win32":
        return ""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if not mib.isdecimal():
        return ""
    kinds = [("address-space", resource.RLIMIT_AS)]
    if sys.platform == "linux":
        # Private writable memory only: mapped libraries and weights do not count.
        kinds.insert(0, ("data", resource.RLIMIT_DATA))
    for name, kind in kinds:
        try:
            resource.setrlimit(kind, (int(mib) << 20, resource.getrlimit(kind)[1]))
        except (ValueError, OSError):
            continue
        return name
    return ""


if __name__ == "__main__":
    sys.exit(main())
