"""Runs a program's function for a Cloudburst worker, one call at a time.

The worker starts this file as "python3 -I shim.py CODE SETTINGS", see Go's settings. File
descriptor 3 is the connection to it, 4 ends when the worker does, and what is printed
goes to 1 and 2. All that is imported here delays a cold start.
"""
import _thread
import faulthandler
import gc
import json
import os
import site
import sys
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
OUT, ERR = sys.stdout, sys.stderr
FILE = 256 << 20  # the longest file that can be written
# What of a system programs may need to read: nothing that is one user's.
SYSTEM = "/usr /lib /lib32 /lib64 /libx32 /bin /sbin /nix/store /sys/devices/system /proc/self /proc/sys".split()
SYSTEM += ["/proc/" + n for n in "cpuinfo meminfo stat loadavg uptime version filesystems".split()]
SYSTEM += ["/etc/" + n for n in (
    "ld.so.cache ld.so.conf ld.so.conf.d ssl pki ca-certificates crypto-policies resolv.conf hosts host.conf nsswitch.conf "
    "gai.conf services protocols passwd group localtime timezone mime.types locale.alias alternatives os-release"
).split()]

sys.path.insert(0, HERE)
import cloudburst  # noqa: E402
from _cloudburst_program import CODE, Argument, advice, caller, load  # noqa: E402
from _cloudburst_values import Unfit, encode, field, fields  # noqa: E402
from cloudburst import MOST, Cloudburst, Error, Permanent, receive, send  # noqa: E402

# The program's modules come later: nothing of it runs before limit and confine have.
del sys.path[0]
# What multiprocessing starts would else import this file.
del __file__

# Failures.


REMEDY = {}  # what to do about exceptions, by class


def kind_of(e):
    if isinstance(e, (Permanent, Unfit, MemoryError)):
        return "failed for good"
    if isinstance(e, Argument):
        return "bad argument"
    return str(e.kind) if isinstance(e, Error) else "function failed"


def failure(e, where=False):
    """Returns the frame that tells of an exception, and where it was if asked."""
    last = isinstance(e, MemoryError)  # little works from here on: the worker is to use another process
    if last:
        tb = e.__traceback__
        while tb:
            try:
                tb.tb_frame.clear()
            except RuntimeError:
                pass  # it is still running
            tb = tb.tb_next
    try:
        kind, message, stack = kind_of(e), str(e), trace(e)
        if not isinstance(e, (Error, Permanent, Argument, Unfit)) or not message:
            message = type(e).__name__ + (": " if message else "") + message + (REMEDY.get(type(e)) or advice(e))
        if where:
            kind, message = "invalid", place(e) + message
    except BaseException:  # an exception that can't be printed
        kind, message, stack = "function failed", type(e).__name__, ""
    return frame(kind, message, stack, last)


def frame(kind, message, stack="", last=False):
    texts = [t.encode("utf-8", "replace") for t in (kind, message[: 8 << 10], stack[-(32 << 10) :], "1" if last else "")]
    return [b"E", *(part for t in texts for part in field(t))]


def trace(e):
    told = traceback.TracebackException.from_exception(e)
    todo = [told]
    while todo:
        t = todo.pop()
        if t:
            if t.stack:
                t.stack[:] = [f for f in t.stack if os.path.dirname(f.filename) != HERE and not f.filename.startswith("<frozen importlib")]
            todo += [t.__cause__, t.__context__, *(getattr(t, "exceptions", None) or ())]
    return "".join(told.format()).replace(CODE + os.sep, "")


def place(e):
    """Returns "file:line: " of the program, if it is known."""
    name, line = getattr(e, "filename", None), getattr(e, "lineno", None)
    if not isinstance(e, SyntaxError) or not name:
        for f in traceback.extract_tb(e.__traceback__):
            if f.filename.startswith(CODE + os.sep):
                name, line = f.filename, f.lineno
    return f"{name[len(CODE) + 1 :]}:{line}: " if name and name.startswith(CODE + os.sep) else ""


# The call.


def run(call, asked):
    """Runs one call, and returns what to send for it."""
    lib = cloudburst.in_hand = Cloudburst()
    try:
        kind, body = fields(asked[1:])
        answer = (b"R", *encode(call(lib, bytes(kind), body), "result"))
        if sum(map(len, answer)) > MOST:
            raise Error(f"the result is over {64 << 20} bytes: store it, and return its key", "too large")
    except BaseException as e:
        if type(e) is TypeError and not e.__traceback__.tb_next.tb_next:  # it was never called
            e = Argument(str(e))
        answer = failure(e)
    with lib._lock:
        cloudburst.in_hand = None
    flush()
    return answer


def flush():
    for to in (OUT, ERR):
        try:
            to.flush()
        except Exception:
            pass  # the function has closed it


# The process.


def limit(memory, processes):
    """Bounds what the process takes. Private memory is bounded exactly; on top of
    that come the code of libraries, what is reserved and not used, and what is shared
    with other processes, so that the address space gets as much again and more."""
    import resource

    bounds = {"DATA": memory, "AS": 2 * memory + (256 << 20), "CORE": 0, "NOFILE": 256, "FSIZE": FILE, "NPROC": processes}
    for name, most in bounds.items():
        what = getattr(resource, "RLIMIT_" + name, None)
        if what is None or name == "NPROC" and not most:
            continue
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write("1000")  # rather than the worker
    except OSError:
        pass


def tether():
    """Has the process, and all that it starts, end with the worker: the kernel sends
    SIGKILL when the other end of 4 is closed, even while C code holds the interpreter."""
    import fcntl
    import signal

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(4, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(4, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(4, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        try:
            os.read(4, 1)
        except BlockingIOError:
            return
        os._exit(0)
    _thread.start_new_thread(lambda: (os.read(4, 1), os.killpg(0, signal.SIGKILL)), ())


def confine(paths):
    """Has the process, and all that it starts, read only what Python needs and the given
    paths, write only below its own directory, and signal nobody else: by Landlock,
    where the kernel has that. Returns what couldn't be done, and why."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError) as e:
        return f"{UNCONFINED}: the interpreter has no ctypes ({e})"
    abi = libc.syscall(444, None, ctypes.c_size_t(0), 1) if sys.platform == "linux" else 0
    if abi < 1:
        return f"{UNCONFINED}: the system has no Landlock (of Linux 5.13 and later)"

    def numbers(*of):
        return b"".join(n.to_bytes(8, sys.byteorder) for n in of)

    def do(call, *args):
        n = libc.syscall(call, *args)
        if n < 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))
        return n

    # Execute, write, read and list are the first four rights, truncate the 14th.
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    reads, files = 0b1101, handled & (0b111 | 1 << 14 | 1 << 15)
    rules = [(p, reads) for p in (*SYSTEM, *sys.path, sys.prefix, sys.base_prefix, HERE, *paths)]
    rules += [("/dev/" + p, handled) for p in ("null", "zero", "full", "random", "urandom", "shm")] + [(os.getcwd(), handled)]
    ruleset = do(444, numbers(handled, 0, 3 if abi >= 6 else 0), ctypes.c_size_t(24), 0)
    for path, rights in rules:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # there is none
        if not os.path.isdir(path):
            rights &= files
        do(445, ruleset, 1, numbers(rights) + fd.to_bytes(4, sys.byteorder), 0)
        os.close(fd)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges, by programs of other users
    do(446, ruleset, 0)
    os.close(ruleset)
    return "" if abi >= 6 else "Python functions can signal the worker's processes: Landlock prevents that from Linux 6.12 on"


def confined(paths):
    try:
        return confine(paths)
    except OSError as e:
        return f"{UNCONFINED}: Landlock says {e}"


UNCONFINED = "Python functions can do all that the worker's user can"


def forked():
    cloudburst.forked = True
    for fd in (3, 4):
        try:
            os.close(fd)
        except OSError:
            pass


def main():
    settings = json.loads(sys.argv[2])
    sys.path[:] = settings["modules"]
    cloudburst.eager = settings["eager"]
    site.setquit()  # all else that site does, it has done once for the worker
    faulthandler.enable(file=2, all_threads=False)
    tether()
    limit(settings["memory"], settings["processes"])
    REMEDY[MemoryError] = f": it took more than its {settings['memory'] >> 20} MiB; deploy it with more (--memory)"
    free = "" if settings["alone"] else confined(settings["read"] or ())
    for fd in map(int, os.listdir("/dev/fd")):  # of /proc
        if fd > 4:  # of the worker's, from whoever has started that
            try:
                os.close(fd)
            except OSError:
                pass  # the listing's own
        elif fd > 2:
            os.set_inheritable(fd, False)
    os.register_at_fork(after_in_child=forked)
    for to in (OUT, ERR):
        to.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    receive()  # the program is there
    try:
        call = caller(load(settings["entry"], settings["args"] or ()))
    except Argument as e:
        send(frame("invalid", str(e)))
        return
    except BaseException as e:
        flush()
        send(failure(e, where=True))
        return
    gc.collect()
    gc.freeze()  # what was imported stays
    flush()
    send((b"R", *field(b"text/plain"), *field(free.encode())))
    while True:
        send(run(call, receive()))


try:
    main()
except OSError as e:  # the connection is gone
    os.write(2, f"{e}\n".encode())
os._exit(70)
