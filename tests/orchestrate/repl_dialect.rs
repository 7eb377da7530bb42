//! What a session tells an orchestrator of its Python is so.

use latent_briefing::sandbox::Fault;

use super::repl::{Kind, on_each, output, run, small, start};

/// A word of the dialect, and code that fails because of what it says.
const MISSING: [(&str, &str); 56] = [
    ("no del", "x = 1\ndel x"),
    ("no del", "x = [1, 2]\ndel x[0:1]"),
    ("(f = d.get)", "d = {}\nf = d.get"),
    ("target of a for loop", "d = {}\nfor d['x'] in [1]: pass"),
    ("next(iter(...))", "g = (x for x in [1])\nnext(g)"),
    ("no yield", "def f():\n    yield 1"),
    ("no match", "match 1:\n    case 1: pass"),
    ("no class inheritance", "class A:\n    pass\nclass B(A):\n    pass"),
    ("built-in exceptions", "class E(Exception):\n    pass"),
    ("with one text", "raise ValueError('a', 'b')"),
    ("staticmethod", "class A:\n    @staticmethod\n    def f(): pass"),
    ("classmethod", "class A:\n    @classmethod\n    def f(cls): pass"),
    ("property", "class A:\n    @property\n    def f(self): pass"),
    ("import *", "from math import *"),
    ("complex", "x = 1j"),
    ("__add__", "class A:\n    def __add__(self, o): return 1\nA() + A()"),
    ("__lt__", "class A:\n    def __lt__(self, o): return True\nA() < A()"),
    ("__len__", "class A:\n    def __len__(self): return 1\nlen(A())"),
    ("__getitem__", "class A:\n    def __getitem__(self, i): return i\nA()[0]"),
    ("__call__", "class A:\n    def __call__(self): return 1\nA()()"),
    ("no % formatting", "'%d' % 3"),
    ("str.translate", "'a'.translate({})"),
    ("assignment to a slice", "x = [1, 2]\nx[0:1] = [3]"),
    ("| of dictionaries", "{} | {}"),
    ("re.sub", "import re\nre.sub('a', lambda m: 'b', 'a')"),
    ("print(file=...)", "import sys\nprint('x', file=sys.stderr)"),
    ("callable", "callable(len)"),
    ("dir", "dir([])"),
    ("eval", "eval('1')"),
    ("exec", "exec('1')"),
    ("format", "format(1, '05d')"),
    ("globals", "globals()"),
    ("input", "input()"),
    ("issubclass", "issubclass(bool, int)"),
    ("locals", "locals()"),
    ("super", "super()"),
    ("vars", "vars()"),
    ("now", "import datetime\ndatetime.datetime.now()"),
    ("today", "import datetime\ndatetime.date.today()"),
    ("functools (reduce, partial)", "from functools import lru_cache"),
    ("product", "from itertools import product"),
    ("permutations", "from itertools import permutations"),
    ("combinations", "from itertools import combinations"),
    ("groupby", "from itertools import groupby"),
    ("tee", "from itertools import tee"),
    ("without prod", "import math\nmath.prod([1])"),
    ("no os", "import os"),
    ("random", "import random"),
    ("numpy", "import numpy"),
    ("sorted(key=...)", "sorted([1], key=lambda x: llm_query('p'))"),
    ("max", "max(['a'], key=llm_query)"),
    ("map", "list(map(llm_query, ['a']))"),
    ("filter", "list(filter(llm_query, ['a']))"),
    ("__str__", "class A:\n    def __str__(self): return llm_query('p')\nstr(A())"),
    ("awaited", "import asyncio"),
    ("no files", "open('/etc/hostname')"),
];

/// Code that works, one thing that the dialect promises in each line.
const THERE: &str = r#"
from dataclasses import dataclass
from collections import Counter, defaultdict, deque, namedtuple
from functools import partial, reduce
import base64, binascii, datetime, itertools, json, math, re, sys, typing, unicodedata
def outer(n):
    def inner(m=2, *args, key=None, **more): return n + m
    return inner
def twice(f):
    def both(*args): return (f(*args), f(*args))
    return both
@twice
def one(x): return x
class Simple:
    kind = "s"
    def __init__(self, x): self.x = x
    def double(self): return self.x * 2
    def __repr__(self): return f"Simple({self.x})"
    def __enter__(self): return self
    def __exit__(self, *error): return False
@dataclass
class Point:
    x: int
    y: int = 2
with Simple(3) as simple:
    assert simple.double() == 6 and repr([simple]) == "[Simple(3)]"
assert outer(1)() == 3 and one(4) == (4, 4) and (lambda *a: a)(1) == (1,)
assert Point(1) == Point(1, 2) and Point(1).y == 2
assert [x for x in range(4) if x % 2] == [1, 3] and {k: 1 for k in "a"} == {"a": 1} and sum(x for x in [1, 2]) == 3
assert f"{3.14159:.2f} {1000000:,} {'a':>3} {5:03d} {0.25:.1%} {'b'!r}" == "3.14 1,000,000   a 005 25.0% 'b'"
assert "{} {:>3} {k}".format(1, 2, k=3) == "1   2 3"
try:
    {}["k"]
except (KeyError, ValueError) as error:
    assert str(error) == "'k'"
finally:
    n = 0
while n < 3:
    n += 1
a, *rest = [1, 2, 3]
assert rest == [2, 3] and (m := 5) == 5
assert Counter("aab").most_common(1) == [("a", 2)] and deque([1, 2], maxlen=1)[0] == 2
assert namedtuple("T", "a b")(1, 2).b == 2 and defaultdict(list)["x"] == []
assert reduce(lambda x, y: x + y, [1, 2]) == 3 and partial(int, base=2)("11") == 3
assert json.loads(json.dumps({"a": [1.5, None]})) == {"a": [1.5, None]}
assert re.sub(r"(\d)", r"<\1>", "a1") == "a<1>" and re.search(r"(?P<k>\w)=", "a=").group("k") == "a"
assert datetime.date(2024, 3, 1) - datetime.date(2024, 2, 1) == datetime.timedelta(days=29)
assert list(itertools.chain([1], itertools.islice(itertools.count(), 2))) == [1, 0, 1]
assert sorted(["bb", "a"], key=len) == ["a", "bb"] and list(map(int, ["1"])) == [1] and math.sqrt(4) == 2
assert [llm_query(p) for p in ["a"]] == ["llm a"] and {p: llm_query(p) for p in "b"} == {"b": "llm b"}
assert "、".join(["a", "b"]).split("、") == ["a", "b"] and "abc"[::-1] == "cba" and "abc".partition("b")[2] == "c"
print("all there")
"#;

/// Idioms that orchestrators write without thinking, each with what it prints.
const IDIOMS: [(&str, &str); 40] = [
    ("print({**{'a': 1}, 'b': 2}, {**{}, **{'c': 3}})", "{'a': 1, 'b': 2} {'c': 3}"),
    ("print(list(x + y for x in [1, 2] for y in [10, 20]))", "[11, 21, 12, 22]"),
    (
        "print({(x, y): x * y for x in [1, 2] for y in [3, 4]}[(2, 4)], len({(x, y) for x in [1] for y in [2, 3]}))",
        "8 2",
    ),
    ("d = {'f': lambda x: x + 10}\nprint(d['f'](1))", "11"),
    ("print(sum(i for row in [[1], [2, 3]] for i in row))", "6"),
    ("pages = ['a b', 'b']\nprint([i for i, page in enumerate(pages) if 'b' in page.split()])", "[0, 1]"),
    ("counts = {'a': 3, 'b': 5}; print(max(counts, key=counts.get))", "b"),
    ("counts = {'a': 3, 'b': 5}\nprint(sorted(counts, key=counts.get, reverse=True))", "['b', 'a']"),
    ("words = ['bB', 'A']; words.sort(key=str.lower); print(words)", "['A', 'bB']"),
    ("print(list(map(str.strip, [' a ', 'b '])))", "['a', 'b']"),
    ("print(list(filter(str.isdigit, ['1', 'x'])))", "['1']"),
    ("names = ['x']; print(list(filter(names.count, ['x', 'y'])))", "['x']"),
    ("print(str.upper('a') + str.join(',', ['b', 'c']))", "Ab,c"),
    ("print(next((w for w in ['x', 'y'] if w == 'y'), None))", "y"),
    ("print(next((w for w in ['x'] if w == 'y'), 'none'))", "none"),
    ("print(next(w for w in ['x', 'y']))", "x"),
    ("print(next(iter(['x'])))", "x"),
    ("import json; print(json.dumps({'a': 1}, default=str))", "{\"a\": 1}"),
    (
        "import json, datetime\nd = datetime.date(2024, 3, 1)\nprint(json.dumps({'d': [d, 1]}, indent=None, default=str))",
        "{\"d\": [\"2024-03-01\", 1]}",
    ),
    ("from json import dumps\nprint(dumps([{1}], default=list))", "[[1]]"),
    ("import re; print(re.sub(r'a  # first', '-', 'bab', flags=re.VERBOSE))", "b-b"),
    (
        "import re\np = re.compile(r'''\n  (\\d+)  # a number\n  \\s\n''', re.VERBOSE | re.I)\nprint(p.search('x 12 y').group(1))",
        "12",
    ),
    ("from itertools import chain; print(list(chain.from_iterable([[1], [2]])))", "[1, 2]"),
    (
        "import itertools\nprint(list(itertools.chain.from_iterable(x for x in ['ab', 'c'])))",
        "['a', 'b', 'c']",
    ),
    ("print(set().union({1}, {2}))", "{1, 2}"),
    ("sets = [{1, 2}, {2, 3}]; print(set().union(*sets), set.intersection(*sets))", "{1, 2, 3} {2}"),
    (
        "a = {1, 2, 3}\na.update([4], [5])\nprint(a, ({1, 2} | {3}).difference([1], [3]), {1}.union())",
        "{1, 2, 3, 4, 5} {2} {1}",
    ),
    ("class R:\n    def __init__(self, a, b): self.a, self.b = a, b\nr = R(1, 2); print(r.a, r.b)", "1 2"),
    ("d = {}; d['a'], d['b'] = 1, 2; print(d)", "{'a': 1, 'b': 2}"),
    ("x = [1, 2, 3]\nx[0], x[2] = x[2], x[0]\nprint(x)", "[3, 2, 1]"),
    ("d = {}\n(d['a'], *d['r']), n = (1, 2, 3), 4\nprint(d, n)", "{'a': 1, 'r': [2, 3]} 4"),
    ("try:\n    import numpy\nexcept ModuleNotFoundError:\n    print('without')", "without"),
    ("try:\n    import numpy as np\nexcept ImportError:\n    print('without')", "without"),
    ("counts = {'a': 1}\ndef best(d):\n    return max(d, key=d.get)\nprint(best(counts))", "a"),
    ("print(max((w for w in ['bb', 'a']), key=len), min([3, 1], key=lambda n: -n))", "bb 3"),
    ("d = {'k': {'n': 2}, 'm': {'n': 1}}\nprint(sorted(d, key=lambda k: d[k]['n']))", "['m', 'k']"),
    ("d = {'k': [3]}\nprint(max([4, 3], key=d['k'].count))", "3"),
    (
        "s = set()\nfor part in ['a b', 'b c']:\n    s.update(part.split())\nprint(sorted(s))",
        "['a', 'b', 'c']",
    ),
    ("xs = [1]\nxs[0], answer['content'] = 2, 'draft'\nprint(xs, answer['content'])", "[2] draft"),
    ("lst = [1, 2]; d = {'a': 1, 'b': 2}\ndel lst[0]\ndel d['a']\nprint(lst, d)", "[2] {'b': 2}"),
];

#[test]
fn idioms_work_in_both_sandboxes() {
    on_each(small, |kind, repl| {
        for (code, printed) in IDIOMS {
            let executed = run(repl, code);
            let shown = (executed.stdout.trim_end(), executed.stderr.as_str());
            assert_eq!(shown, (printed, ""), "{kind:?}: {code}");
        }
    });
}

/// Code that cannot work, and what its message says to write instead.
const INSTEAD: [(&str, &str); 12] = [
    ("d = {'a': 1}\nf = d.get\nprint(f('a'))", "write lambda"),
    ("g = (x for x in [1])\nprint(next(g))", "next(iter("),
    ("'%s' % 3", "f-string"),
    ("x = 1\ndel x", "leave the variable"),
    ("import time", "cannot be imported here; what can:"),
    ("import re\nre.sub('a', lambda m: 'b', 'a')", "re.finditer"),
    ("{'a': 1} | {'b': 2}", "{**a, **b}"),
    ("format(3, '05d')", "f-string"),
    ("from itertools import groupby", "dictionary of lists"),
    ("answer = 'x'\nanswer['ready'] = True", "\"ready\": True"),
    ("x = [1, 2]\nx[0:1] = [3]", "x[:a] + new"),
    ("def f():\n    yield 1", "build a list"),
];

#[test]
fn what_does_not_work_says_what_to_write_instead() {
    let mut repl = start(Kind::Monty, small(Kind::Monty)).unwrap();
    for (code, instead) in INSTEAD {
        let executed = run(repl.as_mut(), code);
        assert!(executed.stderr.contains(instead), "{code}: {}", executed.stderr);
    }
}

#[test]
fn what_monty_is_said_to_lack_it_lacks_and_the_rest_is_there() {
    let mut repl = start(Kind::Monty, small(Kind::Monty)).unwrap();
    let dialect = repl.dialect().to_owned();
    for (word, code) in MISSING {
        assert!(dialect.contains(word), "{word} is not in the dialect");
        let executed = run(repl.as_mut(), code);
        assert!(matches!(executed.fault, Some(Fault::Exception | Fault::Forbidden)), "{code}: {executed:?}");
    }
    assert_eq!(output(repl.as_mut(), THERE), "all there\n");
}

#[test]
fn cpython_has_all_of_it() {
    let Some(mut repl) = start(Kind::CPython, small(Kind::CPython)) else { return };
    assert_eq!(output(repl.as_mut(), THERE), "all there\n");
    for said in ["standard library", "cannot write files, open sockets or start processes"] {
        assert!(repl.dialect().contains(said), "{said}");
    }
}
