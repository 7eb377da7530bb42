//! What to write in the place of what this Python does not know.

/// A part of an exception's line, and what follows it. The first one that is found counts.
const HINTS: [(&str, &str); 24] = [
    ("for %: 'str'", "use an f-string: f\"{x}\""),
    ("for |: 'dict' and 'dict'", "write {**a, **b}"),
    ("'list' object is not an iterator", "generator expressions are lists here: next(iter(...))"),
    ("callable replacement is not yet supported in re.sub", "loop over re.finditer(...) and join the pieces"),
    ("the 'del' statement", "leave the variable as it is; of a dictionary d.pop(key), of a list x.pop(i)"),
    ("yield expressions", "build a list and return it"),
    ("does not know class inheritance", "write one class, or functions"),
    ("does not know method decorators", "write a plain method or function"),
    ("does not know pattern matching", "use if and elif"),
    ("list indices must be integers or slices, not slice", "write x = x[:a] + new + x[b:]"),
    ("invalid unpacking target", "unpack into names first"),
    ("'file' argument is not supported", "print without file"),
    ("name 'callable' is not defined", "leave the check out"),
    ("name 'format' is not defined", "use an f-string: f\"{x:05d}\""),
    ("no attribute 'translate'", "use replace"),
    ("no attribute 'prod'", "multiply in a loop"),
    ("no attribute 'VERBOSE'", "write the pattern on one line"),
    ("cannot import name 'combinations'", "use loops inside each other"),
    ("cannot import name 'permutations'", "use loops inside each other"),
    ("cannot import name 'product'", "use loops inside each other"),
    ("cannot import name 'groupby'", "collect into a dictionary of lists"),
    ("cannot import name 'lru_cache'", "keep results in a dictionary"),
    ("no unpacking into d[key]", "unpack into names first"),
    (
        "'str' object does not support item assignment",
        "a str cannot be changed; answer = {\"content\": ..., \"ready\": True} ends the run",
    ),
];
/// Methods that are often handed on as values, which they are not here.
const METHODS: [&str; 22] = [
    "append",
    "capitalize",
    "count",
    "endswith",
    "extend",
    "find",
    "format",
    "get",
    "index",
    "isdigit",
    "items",
    "join",
    "keys",
    "lower",
    "pop",
    "replace",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
    "values",
];

/// What to write instead of the code that ended with this line.
pub(super) fn hint(line: &str) -> Option<&'static str> {
    if let Some((_, hint)) = HINTS.iter().find(|(part, _)| line.contains(part)) {
        return Some(hint);
    }
    // The type has it, but not without a call behind it.
    let (owner, attribute) =
        line.strip_prefix("AttributeError: '")?.split_once("' object has no attribute '")?;
    let name = attribute.split('\'').next()?;
    let known = ["str", "dict", "list", "set", "tuple"].contains(&owner) && METHODS.contains(&name);
    known.then_some("a method is no value here: write lambda x: d.get(x)")
}
