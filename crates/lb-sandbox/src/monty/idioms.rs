//! Idioms of Python that `monty` does not know, rewritten to what it knows. Each edit stays on its line.

use std::fmt::Write as _;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Arguments, Expr, ExprAttribute, ExprCall, Stmt, StmtAssign};
use ruff_text_size::{Ranged, TextRange, TextSize};

/// Functions that the rewritten code calls; part of what runs before the first block.
pub(super) const HELPERS: &str = r#"
def __lb_sets__(method, first, *more):
    if method == "update":
        for other in more:
            first.update(other)
        return None
    if len(more) == 0 and isinstance(first, (set, frozenset)):
        return first.copy()
    for other in more:
        if method == "union":
            first = first.union(other)
        elif method == "intersection":
            first = first.intersection(other)
        else:
            first = first.difference(other)
    return first
def __lb_jsonable__(value, default):
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [__lb_jsonable__(item, default) for item in value]
    if isinstance(value, dict):
        return {key: __lb_jsonable__(value[key], default) for key in value}
    return __lb_jsonable__(default(value), default)
"#;

/// Methods of sets that take one argument there, and any number in Python.
const OF_SETS: [&str; 4] = ["union", "intersection", "difference", "update"];
/// Types whose methods are also called as functions (`str.upper(text)`).
const TYPES: [&str; 8] = ["str", "list", "dict", "set", "tuple", "bytes", "int", "float"];
/// Class methods: these are no methods of their first argument.
const OF_TYPES: [&str; 3] = ["maketrans", "fromkeys", "fromhex"];

/// A text for a range of the source.
pub(super) type Edit = (TextRange, String);

/// Edits that make `body` run, in no order but that of edits at the same place.
pub(super) fn edits(code: &str, body: &[Stmt]) -> Vec<Edit> {
    let mut writer = Writer { code, edits: Vec::new() };
    for stmt in body {
        writer.visit_stmt(stmt);
    }
    writer.edits
}

struct Writer<'c> {
    code: &'c str,
    edits: Vec<Edit>,
}

impl<'a> Visitor<'a> for Writer<'_> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Assign(assign) if assign.targets.iter().any(is_unpacked) => {
                self.visit_expr(&assign.value);
                self.unpack(assign);
            }
            Stmt::Delete(delete) => match &delete.targets[..] {
                // Of dictionaries and lists alike.
                [Expr::Subscript(item)] if !item.slice.is_slice_expr() => {
                    let (place, key) = (self.text(item.value.range()), self.text(item.slice.range()));
                    let text = format!("({place}).pop({key})");
                    self.edits.push((delete.range(), text));
                }
                _ => walk_stmt(self, stmt),
            },
            _ => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        let Expr::Call(call) = expr else { return walk_expr(self, expr) };
        let closing = self.call(call);
        walk_expr(self, expr);
        self.edits.extend(closing);
    }
}

impl Writer<'_> {
    fn text(&self, range: TextRange) -> &str {
        &self.code[usize::from(range.start())..usize::from(range.end())]
    }

    fn insert(&mut self, at: TextSize, text: impl Into<String>) {
        self.edits.push((TextRange::empty(at), text.into()));
    }

    /// What a call needs; edits behind its arguments come back, to stand behind those inside them.
    fn call(&mut self, call: &ExprCall) -> Vec<Edit> {
        let arguments = &call.arguments;
        let first = arguments.args.first();
        match call.func.as_ref() {
            Expr::Name(name) => match (name.id.as_str(), first) {
                // Generator expressions are lists.
                ("next", Some(generator @ Expr::Generator(_))) => self.wrap(generator.range(), "iter(", ")"),
                ("sorted" | "min" | "max", _) => self.key(arguments),
                ("map" | "filter", Some(function)) => self.method(function),
                ("dumps", Some(value)) => self.json(value, arguments),
                _ => Vec::new(),
            },
            Expr::Attribute(method) => match (method.attr.as_str(), first) {
                ("sort", _) => self.key(arguments),
                ("from_iterable", Some(rows)) if ends_with(&method.value, "chain") => {
                    self.edits.push((TextRange::new(method.value.end(), method.end()), String::new()));
                    self.wrap(rows.range(), "*(", ")")
                }
                ("dumps", Some(value)) if ends_with(&method.value, "json") => self.json(value, arguments),
                (_, Some(pattern)) if ends_with(&method.value, "re") => self.verbose(pattern, arguments),
                (name, _) if OF_SETS.contains(&name) && takes_several(arguments) => {
                    self.sets(call, method);
                    Vec::new()
                }
                (_, Some(_)) if is_unbound(method) => self.method(&call.func),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn wrap(&mut self, range: TextRange, before: &str, after: &str) -> Vec<Edit> {
        self.insert(range.start(), before);
        vec![(TextRange::empty(range.end()), after.to_owned())]
    }

    fn key(&mut self, arguments: &Arguments) -> Vec<Edit> {
        arguments.find_keyword("key").map(|key| self.method(&key.value)).unwrap_or_default()
    }

    /// A method as a value: `counts.get`, `str.lower`.
    fn method(&mut self, value: &Expr) -> Vec<Edit> {
        let Expr::Attribute(method) = value else { return Vec::new() };
        if is_unbound(method) {
            let text = format!("(lambda __lb_s__, *__lb_a__: __lb_s__.{}(*__lb_a__))", method.attr);
            self.edits.push((method.range(), text));
            return Vec::new();
        }
        self.wrap(method.range(), "(lambda *__lb_a__: ", "(*__lb_a__))")
    }

    /// `json.dumps(value, default=function)`.
    fn json(&mut self, value: &Expr, arguments: &Arguments) -> Vec<Edit> {
        let Some(default) = arguments.find_keyword("default") else { return Vec::new() };
        let function = self.text(default.value.range()).to_owned();
        // With the comma before it.
        let before = self.code[..usize::from(default.start())].rfind(',');
        let Some(comma) = before.and_then(|at| TextSize::try_from(at).ok()) else { return Vec::new() };
        self.edits.push((TextRange::new(comma, default.end()), String::new()));
        self.wrap(value.range(), "__lb_jsonable__(", &format!(", {function})"))
    }

    /// `re.compile(pattern, re.VERBOSE)`: the flag can stand in the pattern.
    fn verbose(&mut self, pattern: &Expr, arguments: &Arguments) -> Vec<Edit> {
        let mut flags = Flags::default();
        let others = arguments.args.iter().skip(1).chain(arguments.keywords.iter().map(|k| &k.value));
        for expr in others {
            flags.visit_expr(expr);
        }
        if flags.0.is_empty() {
            return Vec::new();
        }
        self.edits.extend(flags.0.into_iter().map(|range| (range, "0".to_owned())));
        self.wrap(pattern.range(), "\"(?x)\" + (", ")")
    }

    /// `a.union(b, c)` and `set.union(*sets)`.
    fn sets(&mut self, call: &ExprCall, method: &ExprAttribute) {
        let name = method.attr.as_str();
        let inside = call.arguments.start() + TextSize::from(1);
        if matches!(method.value.as_ref(), Expr::Name(name) if name.id.as_str() == "set") {
            let range = TextRange::new(call.start(), inside);
            return self.edits.push((range, format!("__lb_sets__(\"{name}\", ")));
        }
        let dot = self.code[..usize::from(method.attr.start())].rfind('.');
        let Some(dot) = dot.and_then(|at| TextSize::try_from(at).ok()) else { return };
        self.insert(call.start(), format!("__lb_sets__(\"{name}\", "));
        self.edits.push((TextRange::new(dot, inside), ", ".to_owned()));
    }

    /// `self.a, d[k] = 1, 2`: to names of ours, and from these to their places.
    fn unpack(&mut self, assign: &StmtAssign) {
        let mut places = Vec::new();
        for target in assign.targets.iter().filter(|target| is_unpacked(target)) {
            collect(target, &mut places);
        }
        let mut behind = String::new();
        for (number, range) in places.into_iter().enumerate() {
            let name = format!("__lb_t{number}__");
            // Writing to a string cannot fail.
            let _ = write!(behind, "; {} = {name}", self.text(range));
            self.edits.push((range, name));
        }
        self.insert(assign.end(), behind);
    }
}

/// Places of `re.VERBOSE`.
#[derive(Default)]
struct Flags(Vec<TextRange>);

impl<'a> Visitor<'a> for Flags {
    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Attribute(flag)
                if ends_with(&flag.value, "re") && matches!(flag.attr.as_str(), "VERBOSE" | "X") =>
            {
                self.0.push(flag.range());
            }
            _ => walk_expr(self, expr),
        }
    }
}

/// Whether an expression is a name, or an attribute, of this name.
fn ends_with(expr: &Expr, wanted: &str) -> bool {
    match expr {
        Expr::Name(name) => name.id.as_str() == wanted,
        Expr::Attribute(attribute) => attribute.attr.as_str() == wanted,
        _ => false,
    }
}

fn is_unbound(method: &ExprAttribute) -> bool {
    let of_type = matches!(method.value.as_ref(), Expr::Name(name) if TYPES.contains(&name.id.as_str()));
    of_type && !OF_TYPES.contains(&method.attr.as_str())
}

/// Whether a method of sets is called with other than one plain argument.
fn takes_several(arguments: &Arguments) -> bool {
    let one = matches!(&arguments.args[..], [only] if !only.is_starred_expr());
    arguments.keywords.is_empty() && !one
}

/// Whether a target is a tuple or list with a place that is no name.
fn is_unpacked(target: &Expr) -> bool {
    let mut places = Vec::new();
    if matches!(target, Expr::Tuple(_) | Expr::List(_)) {
        collect(target, &mut places);
    }
    !places.is_empty()
}

fn collect(target: &Expr, places: &mut Vec<TextRange>) {
    let parts = match target {
        Expr::Tuple(tuple) => &tuple.elts,
        Expr::List(list) => &list.elts,
        Expr::Starred(starred) => return collect(&starred.value, places),
        Expr::Attribute(_) | Expr::Subscript(_) => return places.push(target.range()),
        _ => return,
    };
    for part in parts {
        collect(part, places);
    }
}
