//! A block of code before it runs: which names it may set, where it sets `answer`, what it imports.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ExprContext, Stmt, StmtFunctionDef};
use ruff_text_size::{Ranged, TextRange};

use super::idioms;

/// Modules that may be imported. None of them can reach outside the interpreter.
pub(super) const MODULES: [&str; 14] = [
    "__future__",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "functools",
    "itertools",
    "json",
    "math",
    "re",
    "sys",
    "typing",
    "unicodedata",
];

/// Called in the place of an import that is refused.
pub(super) const REFUSED_IMPORT: &str = "__lb_import__";
/// Called with `answer` after each statement that may have made it ready.
pub(super) const ANSWER_SET: &str = "__lb_answer__";

/// A block that is ready to run. Its lines are those of the original.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) code: String,
    /// Every name that the block may bind.
    pub(super) names: BTreeSet<String>,
}

/// Reads a block. One that does not parse stays as it is: the interpreter will say why.
pub(super) fn prepare(code: &str) -> Prepared {
    let mut prepared = Prepared { code: code.to_owned(), names: BTreeSet::new() };
    let Ok(parsed) = ruff_python_parser::parse_module(code) else { return prepared };
    let mut reader = Reader::default();
    for stmt in &parsed.syntax().body {
        reader.visit_stmt(stmt);
    }
    prepared.names = reader.names;
    // At one place, what closes an expression stands before what follows its statement.
    let mut edits = idioms::edits(code, &parsed.syntax().body);
    edits.extend(reader.edits);
    // What is put in stands before what is replaced.
    edits.sort_by_key(|(range, _)| (range.start(), range.end()));
    // From the end, so that the places of earlier edits stay right.
    for (range, text) in edits.into_iter().rev() {
        let range = usize::from(range.start())..usize::from(range.end());
        let lines = code[range.clone()].matches('\n').count();
        prepared.code.replace_range(range, &text.replace('\n', &"\n".repeat(lines)));
    }
    prepared
}

#[derive(Default)]
struct Reader {
    names: BTreeSet<String>,
    /// In the order of the source. A line break in the text stands for those of what it replaces.
    edits: Vec<(TextRange, String)>,
    /// How many functions around bind an `answer` of their own.
    shadowed: usize,
}

impl<'a> Visitor<'a> for Reader {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Import(import) => {
                let mut modules = import.names.iter().map(|alias| alias.name.as_str());
                self.refuse(stmt, modules.find(|module| !is_allowed(module)));
                for alias in &import.names {
                    let bound = alias.asname.as_ref().map_or(alias.name.as_str(), |name| name.as_str());
                    self.names.insert(bound.split('.').next().unwrap_or_default().to_owned());
                }
            }
            Stmt::ImportFrom(import) => {
                let module = import.module.as_ref().map_or(".", |name| name.as_str());
                self.refuse(stmt, (import.level > 0 || !is_allowed(module)).then_some(module));
                let bound =
                    |alias: &ruff_python_ast::Alias| alias.asname.as_ref().unwrap_or(&alias.name).to_string();
                self.names.extend(import.names.iter().map(bound));
            }
            Stmt::ClassDef(class) => drop(self.names.insert(class.name.to_string())),
            Stmt::Global(global) => self.names.extend(global.names.iter().map(ToString::to_string)),
            Stmt::FunctionDef(function) => {
                self.names.insert(function.name.to_string());
                let own = usize::from(binds_answer(function));
                self.shadowed += own;
                walk_stmt(self, stmt);
                self.shadowed -= own;
                return;
            }
            _ if self.shadowed == 0 && sets_answer(stmt) => {
                self.edits.push((TextRange::empty(stmt.end()), format!("; {ANSWER_SET}(answer)")));
            }
            _ => {}
        }
        walk_stmt(self, stmt);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::Name(name) = expr
            && name.ctx == ExprContext::Store
        {
            self.names.insert(name.id.to_string());
        }
        walk_expr(self, expr);
    }
}

impl Reader {
    fn refuse(&mut self, stmt: &Stmt, module: Option<&str>) {
        if let Some(module) = module {
            self.edits.push((stmt.range(), format!("{REFUSED_IMPORT}({module:?}\n)")));
        }
    }
}

fn is_allowed(module: &str) -> bool {
    module.split('.').next().is_some_and(|root| MODULES.contains(&root))
}

fn is_answer(expr: &Expr) -> bool {
    matches!(expr, Expr::Name(name) if name.id.as_str() == "answer")
}

/// Whether a simple statement may change whether `answer` is ready.
fn sets_answer(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::Assign(assign) => assign.targets.iter().any(is_ready_target),
        Stmt::AugAssign(assign) => is_ready_target(&assign.target),
        Stmt::AnnAssign(assign) => assign.value.is_some() && is_ready_target(&assign.target),
        Stmt::Expr(expr) => match expr.value.as_ref() {
            Expr::Call(call) => {
                matches!(call.func.as_ref(), Expr::Attribute(method) if is_answer(&method.value))
            }
            _ => false,
        },
        _ => false,
    }
}

/// `answer`, `answer["ready"]`, `answer[...]` with a key that only the run knows, or one of these in a tuple.
fn is_ready_target(target: &Expr) -> bool {
    match target {
        Expr::Subscript(item) if is_answer(&item.value) => match item.slice.as_ref() {
            Expr::StringLiteral(key) => key.value.to_str() == "ready",
            _ => true,
        },
        Expr::Tuple(tuple) => tuple.elts.iter().any(is_ready_target),
        Expr::List(list) => list.elts.iter().any(is_ready_target),
        other => is_answer(other),
    }
}

/// Whether `answer` inside a function is not the session's.
fn binds_answer(function: &StmtFunctionDef) -> bool {
    let mut finder = Finder::default();
    for stmt in &function.body {
        finder.visit_stmt(stmt);
    }
    let parameter = function.parameters.iter().any(|parameter| parameter.name().as_str() == "answer");
    parameter || (finder.stored && !finder.global)
}

#[derive(Default)]
struct Finder {
    stored: bool,
    global: bool,
}

impl<'a> Visitor<'a> for Finder {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            // Functions inside have names of their own.
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => {}
            Stmt::Global(global) => self.global |= global.names.iter().any(|name| name.as_str() == "answer"),
            _ => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        self.stored |= matches!(expr, Expr::Name(name) if name.id.as_str() == "answer" && name.ctx == ExprContext::Store);
        walk_expr(self, expr);
    }
}
