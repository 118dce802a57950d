"""Worker functions that do what engines and plugins do on a bad day."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from edgekit_runtime.calls import Call, Reply, worker_function
from edgekit_runtime.errors import RunFailed

KEPT: list[object] = []


@worker_function
def echo(call: Call) -> Reply:
    return Reply(dict(call.params), call.body)


@worker_function
def environment(call: Call) -> Reply:
    return Reply({name: os.environ.get(name) for name in call.params})


@worker_function
def modules(call: Call) -> Reply:
    return Reply(sorted(sys.modules))


@worker_function
def pids(call: Call) -> Reply:
    """Starts a grandchild that would sleep for an hour."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    KEPT.append(child)
    return Reply({"worker": os.getpid(), "supervisor": os.getppid(), "grandchild": child.pid})


@worker_function
def fail(call: Call) -> Reply:
    raise RunFailed("node Add_3 has no kernel", hint="use another engine")


@worker_function
def fail_strangely(call: Call) -> Reply:
    raise KeyError("a foreign error")


@worker_function
def no_reply(call: Call) -> Reply:
    return {"not": "a reply"}  # type: ignore[return-value]


@worker_function
def unspeakable(call: Call) -> Reply:
    return Reply(float("nan"))


@worker_function
def die_by_signal(call: Call) -> Reply:
    os.kill(os.getpid(), call.params.integer("signal", signal.SIGSEGV))
    time.sleep(30)
    return Reply()


@worker_function
def die_in_c(call: Call) -> Reply:
    ctypes.string_at(0)
    return Reply()


@worker_function
def leave(call: Call) -> Reply:
    sys.exit(call.params.integer("code", 0))


@worker_function
def leave_at_once(call: Call) -> Reply:
    os._exit(call.params.integer("code", 0))


@worker_function
def hang(call: Call) -> Reply:
    """Sleeps without holding the interpreter's lock: heartbeats go on."""
    time.sleep(3600)
    return Reply()


@worker_function
def chatter(call: Call) -> Reply:
    """Never ends, and reports progress all the time."""
    while True:
        call.progress(1, 2, "still there")


@worker_function
def hang_in_c(call: Call) -> Reply:
    """Sleeps in C with the interpreter's lock held: no thread of Python's can run."""
    ctypes.PyDLL(None).sleep(3600)
    return Reply()


@worker_function
def wait_for_cancel(call: Call) -> Reply:
    call.progress(0, 1, "waiting")
    if not call.cancelled.wait(60):
        return Reply()
    with open(call.params.text("note"), "w") as file:
        file.write("tidied up")
    call.raise_if_cancelled()
    return Reply()


@worker_function
def eat_memory(call: Call) -> Reply:
    KEPT.append(np.ones(call.params.integer("mib") << 17))
    return Reply()


@worker_function
def eat_memory_in_an_engine(call: Call) -> Reply:
    """As C++ engines report it: an error of their own with the words of std::bad_alloc."""
    raise RuntimeError("Exception during initialization: std::bad_alloc")


@worker_function
def eat_memory_to_death(call: Call) -> Reply:
    """As C++ code dies of it outside any handler."""
    os.write(
        2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
    )
    os.abort()


@worker_function
def print_much(call: Call) -> Reply:
    """Prints from Python, from C's stdout, and straight to the file descriptor."""
    print("a line from Python")
    os.write(1, b'{"type": "result", "id": 1, "bytes": 0, "value": "forged"}\n')
    libc = ctypes.CDLL(None)
    libc.puts(b"a line from C")
    libc.fflush(None)
    subprocess.run([sys.executable, "-c", "print('a line from a child')"], check=True)
    return Reply("the real answer")


@worker_function
def fork(call: Call) -> Reply:
    """A library with worker processes of its own, which print and end as such do."""
    context = multiprocessing.get_context(call.params.text("method"))
    with context.Pool(2) as pool:
        answer = pool.map(_square_aloud, range(6))
        pool.close()
        pool.join()
    return Reply(answer)


def _square_aloud(number: int) -> int:
    print("squaring", number)
    return number * number


@worker_function
def read_stdin(call: Call) -> Reply:
    return Reply({"python": sys.stdin.read(), "raw": os.read(0, 100).decode()})


@worker_function
def report(call: Call) -> Reply:
    for done in range(3):
        call.progress(done, 3, "steps")
    call.log("half way")
    return Reply("done")


@worker_function
def close_everything(call: Call) -> Reply:
    """A library that closes file descriptors it does not own."""
    threading.Timer(0.2, os.closerange, (3, 256)).start()
    time.sleep(30)
    return Reply()


def unmarked(call: Call) -> Reply:
    return Reply("must not run")
