"""Serves a session of latent-briefing on stdin and stdout. No security boundary: it keeps accidents out, not attacks."""

import builtins
import json
import os
import signal
import struct
import sys
import threading
import time

MAX_MESSAGE = 64 << 20
MAX_TEXT = MAX_MESSAGE // 8
FUNCTIONS = ("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "note")
LOOK_SECONDS = 3.0
LINE_CHARS = 2000
# Audit events of what leaves the process; those of `open` are looked at one by one.
REFUSED = (
    "socket.", "subprocess.", "shutil.", "ctypes.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
    "os.startfile", "os.kill", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link",
    "os.symlink", "os.truncate", "os.utime", "os.setxattr", "os.removexattr", "os.lockf", "fcntl.", "os.putenv", "os.unsetenv", "os.chdir", "pty.spawn", "signal.pthread_kill",
    "resource.setrlimit", "resource.prlimit", "tempfile.",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Stopped(BaseException):
    """The block ends here; `except Exception` does not hold it up."""

    def __init__(self, fault, reason):
        super().__init__(reason)
        self.fault = fault


class Wire:
    """Frames of the protocol over descriptors of its own, so that code that writes to 0, 1 or 2 does no harm."""

    def __init__(self):
        self.source = os.fdopen(os.dup(0), "rb")
        self.sink = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDWR)
        for used in (0, 1, 2):
            os.dup2(nothing, used)
        os.close(nothing)

    def receive(self):
        head = self.source.read(5)
        if len(head) < 5 or head[:1] != b"J":
            os._exit(0)
        size = struct.unpack(">I", head[1:])[0]
        content = self.source.read(size)
        if len(content) < size:
            os._exit(0)
        message = json.loads(content)
        return (message, None) if isinstance(message, str) else next(iter(message.items()))

    def send(self, message):
        content = json.dumps(message, separators=(",", ":")).encode("ascii")
        if len(content) > MAX_MESSAGE:
            return False
        try:
            self.sink.write(b"J" + struct.pack(">I", len(content)) + content)
            self.sink.flush()
        except OSError:
            os._exit(0)
        return True


class Output:
    """What a block prints, up to a limit; the rest is counted."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, limit):
        self.parts, self.chars, self.cut, self.limit = [], 0, 0, limit

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        kept = text[: self.limit - self.chars]
        if kept:
            self.parts.append(kept)
        self.chars += len(kept)
        self.cut += len(text) - len(kept)
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        pass

    def isatty(self):
        return False

    def writable(self):
        return True

    def finish(self):
        text = "".join(self.parts)
        if self.cut:
            text += "\n[%d of %d characters of output were cut]" % (self.cut, self.chars + self.cut)
        return text


class Clock:
    """Interrupts the code when its time is up. It stands still during calls."""

    def __init__(self):
        self.left, self.started, self.armed, self.reason = 0.0, None, False, ""
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, signum, frame):
        if self.armed:
            raise Stopped("time", self.reason)

    def start(self, seconds, reason):
        self.left, self.reason = seconds, reason
        self.go()

    def go(self):
        self.started, self.armed = time.monotonic(), True
        # It rings again, for code that catches everything.
        signal.setitimer(signal.ITIMER_REAL, max(self.left, 0.001), 0.1)

    def pause(self):
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.left -= time.monotonic() - self.started


def clean(text):
    """A text that UTF-8 can hold: lone surrogates become question marks."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")


def fitting(text):
    text = clean(text)
    size = len(text.encode("utf-8"))
    if size <= MAX_TEXT:
        return text
    return "Error: a text of %d bytes, more than the 8 MiB that leave a session" % size


def shown(value):
    """`str()` of whatever it is."""
    try:
        return fitting(str(value))
    except Stopped:
        raise
    except BaseException as error:
        return "Error: str() failed: " + type(error).__name__


def short(value, room, depth):
    """A value in few characters, without code of its own and without walking through all of it."""
    kind = type(value)
    if kind in (str, bytes):
        return repr(value[: room + 1])
    if value is None or kind in (float, bool):
        return repr(value)
    if kind is int:
        return repr(value) if -(10**60) < value < 10**60 else "<int>"
    if kind not in (list, tuple, set, frozenset, dict):
        return "<" + kind.__name__ + ">"
    if depth == 0:
        return "<%s of %d>" % (kind.__name__, len(value))
    parts, used = [], 0
    for item in value:
        part = short(item, room, depth - 1)
        if kind is dict:
            part += ": " + short(value[item], room, depth - 1)
        parts.append(part)
        used += len(part) + 2
        if used > room:
            parts.append("...")
            break
    inside = ", ".join(parts)
    if kind is list:
        return "[" + inside + "]"
    if kind is tuple:
        return "(" + inside + (",)" if len(value) == 1 else ")")
    return "{" + inside + "}" if value or kind is dict else kind.__name__ + "()"


class Answer(dict):
    """The dictionary `answer`. What is in `content` when `ready` becomes true goes to the host at once."""

    def __init__(self, session, values):
        super().__init__(values)
        self._session = session
        self._look()

    def _look(self):
        try:
            ready = bool(dict.get(self, "ready"))
        except Exception:
            ready = False
        if ready:
            self._session.answered(dict.get(self, "content", ""))

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._look()

    def update(self, *args, **kwargs):
        super().update(*args, **kwargs)
        self._look()

    def setdefault(self, key, default=None):
        value = super().setdefault(key, default)
        self._look()
        return value

    def __ior__(self, other):
        self.update(other)
        return self

    def __reduce__(self):
        return (dict, (dict(self),))


class Variables(dict):
    """The names of a session. A dictionary that is bound to `answer` becomes an Answer."""

    session = None

    def __setitem__(self, key, value):
        if key == "answer" and type(value) is dict:
            value = Answer(self.session, value)
        super().__setitem__(key, value)


class Refusal(Exception):
    """A call's arguments are wrong; the text says how."""


def bind(function, names, args, kwargs):
    if len(args) > len(names):
        raise Refusal("%s takes at most %d arguments, not %d" % (function, len(names), len(args)))
    places = dict(zip(names, args))
    for name, value in kwargs.items():
        if name not in names:
            raise Refusal("%s has no argument '%s'; it has %s" % (function, name, ", ".join(names)))
        if name in places:
            raise Refusal("%s got '%s' twice" % (function, name))
        places[name] = value
    return places


def text_of(function, name, places, optional=False):
    value = places.get(name)
    if optional and value is None:
        return None
    if name not in places:
        raise Refusal("%s: %s is missing" % (function, name))
    if not isinstance(value, str):
        raise Refusal("%s: %s must be a str, not %s" % (function, name, type(value).__name__))
    return clean(str(value))


def list_of(function, name, places):
    value = places.get(name)
    if name not in places:
        raise Refusal("%s: %s is missing" % (function, name))
    if not isinstance(value, (list, tuple)):
        raise Refusal("%s: %s must be a list of str, not %s" % (function, name, type(value).__name__))
    return list(value)


def read_call(function, args, kwargs):
    """The call as the host wants it, and whether its answer is a list."""
    kind = function[:3]
    if function == "note":
        if len(args) == 1 and "text" not in kwargs:
            args = (None,) + args
        places = bind("note", ("key", "text"), args, kwargs)
        key = text_of("note", "key", places, optional=True)
        return {"note": {"key": key, "text": text_of("note", "text", places)}}, False
    batched = function.endswith("_batched")
    ending = "s" if batched else ""
    places = bind(function, ("prompt" + ending, "document" + ending, "brief", "model"), args, kwargs)
    if places.get("model") is not None:
        raise Refusal("there is one worker model; leave model out")
    brief = places.get("brief", True)
    if not isinstance(brief, bool):
        raise Refusal("%s: brief must be True or False, not %s" % (function, type(brief).__name__))
    if batched:
        each = lambda name, value, optional: text_of(function, "each of " + name, {"each of " + name: value}, optional)
        prompts = [each("prompts", prompt, False) for prompt in list_of(function, "prompts", places)]
        documents = [None] * len(prompts)
        if places.get("documents") is not None:
            documents = [each("documents", item, True) for item in list_of(function, "documents", places)]
        if len(documents) != len(prompts):
            raise Refusal("%s: %d prompts but %d documents" % (function, len(prompts), len(documents)))
    else:
        prompts = [text_of(function, "prompt", places)]
        documents = [text_of(function, "document", places, optional=True)]
    queries = [{"prompt": p, "document": d, "brief": brief} for p, d in zip(prompts, documents)]
    return {kind: queries}, batched


class Session:
    def __init__(self, wire, limits):
        self.wire, self.limits, self.clock = wire, limits, Clock()
        self.lock = threading.RLock()
        self.calling = False
        self.sent = True
        self.refused = None
        self.block = 0
        self.time = limits["time"]["secs"] + limits["time"]["nanos"] / 1e9
        self.variables = Variables()
        self.variables.session = self
        self.given = {"SHOW_VARS": self.show_vars, "FINAL_VAR": self.final_var, "FINAL": self.final}
        for name in FUNCTIONS:
            self.given[name] = self.function(name)
        self.variables.update(self.given)
        self.variables["__builtins__"] = builtins
        self.variables["__name__"] = "__main__"
        self.variables["answer"] = {"content": "", "ready": False}

    def answered(self, content):
        if not self.sent:
            self.sent = True
            self.wire.send({"answer": {"content": shown(content)}})

    def function(self, name):
        def call(*args, **kwargs):
            try:
                wanted, batched = read_call(name, args, kwargs)
            except Refusal as refusal:
                return "Error: " + str(refusal)
            if batched and not next(iter(wanted.values())):
                return []
            return self.ask(name, wanted, batched)

        call.__name__ = call.__qualname__ = name
        return call

    def ask(self, name, wanted, batched):
        with self.lock:
            self.clock.pause()
            try:
                if not self.wire.send({"call": wanted}):
                    return "Error: %s: the arguments are longer than 64 MiB" % name
                kind, value = self.wire.receive()
            finally:
                self.clock.go()
        if kind == "stop":
            raise Stopped(value["fault"], value["reason"])
        texts = value["texts"]
        if name == "note":
            return texts[0] if texts[0].startswith("Error: ") else None
        return texts if batched else texts[0]

    def own(self):
        """The variables that the code made, with those that were set."""
        kinds = (type(json), type(clean), type(len), type)
        for name, value in sorted(self.variables.items()):
            if not name.startswith("_") and name != "answer" and not isinstance(value, kinds):
                if not (name in self.given and value is self.given[name]):
                    yield name, value

    def show_vars(self):
        lines = ["%s: %s" % (name, type(value).__name__) for name, value in self.own()]
        return clean("\n".join(lines)) or "no variables yet"

    def final_var(self, *args):
        if len(args) != 1:
            return "Error: FINAL_VAR takes one argument, the name"
        if isinstance(args[0], str):
            if args[0] in self.variables:
                return shown(self.variables[args[0]])
            return "Error: there is no variable '%s'" % args[0]
        return shown(args[0])

    def final(self, value=""):
        self.variables["answer"] = {"content": value, "ready": True}

    def execute(self, code):
        output = Output(self.limits["output_chars"])
        old = sys.stdout, sys.stderr, sys.stdin
        sys.stdout = sys.stderr = output
        self.sent, self.refused, self.block = False, None, self.block + 1
        name, failure = "<block %d>" % self.block, None
        started = self.time
        try:
            compiled = compile(code, name, "exec", dont_inherit=True)
            sys.setrecursionlimit(self.limits["recursion"] + 20)
            self.clock.start(self.time, "TimeoutError: the block took longer than %gs" % self.time)
            exec(compiled, self.variables)
        except BaseException as error:
            self.clock.armed = False
            sys.setrecursionlimit(1000)
            failure = self.judge(error, name)
        finally:
            self.clock.armed = False
            sys.setrecursionlimit(1000)
            sys.stdout, sys.stderr, sys.stdin = old
        if self.clock.started is not None:
            self.clock.pause()
            started -= self.clock.left
        fault, line = failure or (None, "")
        ran = {"stdout": clean(output.finish()), "stderr": clean(line), "fault": fault, "seconds": max(started, 0.0)}
        self.wire.send({"ran": ran})
        self.settle()

    def judge(self, error, block):
        if isinstance(error, Stopped):
            return error.fault, str(error)
        kind = type(error).__name__
        try:
            said = str(error)
        except BaseException:
            said = ""
        line, fault = None, "exception"
        if isinstance(error, SyntaxError):
            said, line = str(error.msg), error.lineno
        elif isinstance(error, MemoryError):
            fault = "memory"
            said = "the block used more than %d MiB" % (self.limits["memory"] >> 20)
        elif isinstance(error, RecursionError):
            fault = "recursion"
            said += ", which is %d calls here" % self.limits["recursion"]
        elif error is self.refused:
            fault = "forbidden"
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == block:
                line = trace.tb_lineno
            trace = trace.tb_next
        # What the frames hold goes with the exception.
        error.__traceback__ = None
        text = (kind + (": " + said if said else "")).replace("\n", " ")[:LINE_CHARS]
        return fault, text + (" (line %d)" % line if line else "")

    def settle(self):
        # From here on an answer is part of the state.
        self.sent, note = True, ""
        answer = self.variables.get("answer")
        if isinstance(answer, str):
            note = 'answer is a str; to finish with it: answer = {"content": answer, "ready": True}'
        elif not isinstance(answer, dict):
            self.variables["answer"] = {"content": "", "ready": False}
            note = 'answer was no dictionary any more; it is one again, with "content" and "ready"'
        elif type(answer) is dict:
            self.variables["answer"] = answer
        answer = self.variables["answer"]
        answer = {"content": str(answer)} if isinstance(answer, str) else answer
        limit, many = self.limits["local_chars"], self.limits["locals"]
        texts = {}
        for name, value in self.own():
            if len(texts) == many:
                break
            try:
                text = clean(short(value, limit, 3))
            except Exception:
                text = "<" + type(value).__name__ + ">"
            texts[clean(name)] = text if len(text) <= limit else text[:limit] + "..."
        self.clock.start(LOOK_SECONDS, "")
        try:
            cell = {"content": shown(answer.get("content", "")), "ready": bool(answer.get("ready"))}
        except BaseException:
            cell = {"content": "Error: str(answer['content']) failed", "ready": False}
        finally:
            self.clock.armed = False
        self.clock.pause()
        self.wire.send({"state": {"locals": texts, "answer": cell, "note": note}})

    def variable(self, name):
        text = None
        if name in self.variables:
            self.clock.start(LOOK_SECONDS, "")
            try:
                text = shown(self.variables[name])
            except BaseException:
                text = "Error: str(%s) takes more than a look may" % name
            finally:
                self.clock.armed = False
            self.clock.pause()
        self.wire.send({"variable": {"text": text}})


def refuse(session):
    """Hooks cannot be taken away again. They see what goes through Python's own functions."""
    def hook(event, args):
        if event == "open":
            mode, flags = args[1], args[2]
            writes = isinstance(flags, int) and flags & WRITING
            writes = writes or (isinstance(mode, str) and any(letter in mode for letter in "wxa+"))
            if not writes:
                return
        elif not event.startswith(REFUSED):
            return
        error = PermissionError(event + ": nothing leaves this process but calls of its own functions")
        session.refused = error
        raise error

    sys.addaudithook(hook)


def watch_parent():
    """Ends with the host, also while code runs."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def close_inherited(kept):
    """No descriptor of the host's is left but its pipes. Windows hands none down."""
    if os.name != "posix":
        return
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except (OSError, ValueError):
        numbers = range(3, 4096)
    for number in numbers:
        if number > 2 and number not in kept:
            try:
                os.close(number)
            except OSError:
                pass


def hand_over(programs):
    """The kernel (Linux) ends this process with its host, gives it no new privileges, and refuses what the hooks do."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return
    set_death_signal, set_no_new_privs, set_seccomp, filtered = 1, 38, 22, 2
    word = ctypes.c_ulong
    prctl(set_death_signal, word(signal.SIGKILL))
    prctl(set_no_new_privs, word(1), word(0), word(0), word(0))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    for program in map(bytes.fromhex, programs):
        prctl(set_seccomp, word(filtered), ctypes.byref(Program(len(program) // 8, program)))
    # The hooks refuse to import it.
    for name in ("ctypes", "_ctypes", "ctypes._endian"):
        sys.modules.pop(name, None)


def confine(memory):
    import resource

    try:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        mapped = 256 << 20
    limits = [("RLIMIT_AS", mapped + memory), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", 0)]
    limits.append(("RLIMIT_NOFILE", 64))
    for name, most in limits:
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            pass


def main():
    sys.dont_write_bytecode = True
    wire = Wire()
    close_inherited((wire.source.fileno(), wire.sink.fileno()))
    hand_over(sys.argv[1:])
    del sys.argv[1:]
    kind, limits = wire.receive()
    if kind != "start":
        os._exit(1)
    watch_parent()
    session = Session(wire, limits)
    confine(limits["memory"])
    refuse(session)
    wire.send("ready")
    while True:
        kind, value = wire.receive()
        if kind == "set_text":
            session.variables[value["name"]] = value["text"]
            wire.send("done")
        elif kind == "execute":
            session.execute(value["code"])
        elif kind == "variable":
            session.variable(value["name"])
        elif kind == "look":
            session.settle()
        else:
            os._exit(1)


main()
