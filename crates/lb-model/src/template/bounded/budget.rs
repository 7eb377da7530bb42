//! What a rendering has left of the text that it may make.

use std::sync::{Arc, Mutex, OnceLock};

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Bytes that any rendering may make.
const BYTES: usize = 64 << 20;
/// Bytes at most, however long the conversation.
const MOST_BYTES: usize = 2 << 30;
/// Items of one list or mapping with all that is in them.
const ITEMS: usize = 1_000_000;
/// Lists within lists.
const DEPTH: usize = 200;
/// Digits of a number, and what an item of a list is printed with.
const SMALL: usize = 32;
/// Columns of a field that is padded, or of an indentation.
const WIDTH: usize = 10_000;

/// Filters of the language whose result may be longer than what they are given, with how much longer at most.
const GROWING: [(&str, usize); 10] = [
    ("upper", 3),
    ("lower", 3),
    ("title", 3),
    ("capitalize", 3),
    ("escape", 6),
    ("e", 6),
    ("pprint", 4),
    ("sum", 1),
    ("split", 2),
    ("lines", 2),
];
/// Filters whose result depends on their arguments.
const ASKED: [&str; 4] = ["replace", "join", "format", "indent"];
/// Filters that compare what they are given.
const COMPARING: [&str; 7] = ["sort", "min", "max", "unique", "groupby", "dictsort", "list"];

/// The account of one rendering.
#[derive(Clone)]
pub(in crate::template) struct Budget {
    account: Arc<Mutex<Account>>,
    /// Bytes of the template's own text, which each pass of a loop may write.
    text: usize,
}

struct Account {
    left: usize,
    /// Products under way: bytes of the text in them, if any, and the factors so far.
    products: Vec<(usize, usize)>,
}

/// The language's own filters.
fn plain() -> &'static Environment<'static> {
    static PLAIN: OnceLock<Environment<'static>> = OnceLock::new();
    PLAIN.get_or_init(Environment::new)
}

fn too_much() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the template makes more text than it may")
}

impl Budget {
    /// For `items` messages and tools with `bytes` of text, rendered by a template with `text` bytes of its own. Text that
    /// grows message by message is copied as often as there are messages.
    pub(in crate::template) fn new(items: usize, bytes: usize, text: usize) -> Self {
        let per_item = (bytes + text).saturating_mul(8);
        let left = BYTES.saturating_add(per_item.saturating_mul(items + 8)).min(MOST_BYTES);
        Self { account: Arc::new(Mutex::new(Account { left, products: Vec::new() })), text }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Account) -> T) -> T {
        work(&mut self.account.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Takes off `bytes`.
    pub(in crate::template) fn spend(&self, bytes: usize) -> Result<(), Error> {
        self.with(|account| {
            account.left = account.left.checked_sub(bytes).ok_or_else(too_much)?;
            Ok(())
        })
    }

    /// Takes off what a value is printed as, `times` as much.
    pub(in crate::template) fn spend_on(&self, value: &Value, times: usize) -> Result<(), Error> {
        let most = self.with(|account| account.left);
        let bytes = printed(value, most)?;
        self.spend(bytes.saturating_mul(times))
    }

    /// Installs the guards and the filters that keep account.
    pub(in crate::template) fn install(&self, env: &mut Environment<'_>) {
        let budget = self.clone();
        env.add_filter("__sum", move |value: Value| budget.sum(value));
        let budget = self.clone();
        env.add_filter("__joined", move |value: Value| budget.spend_on(&value, 1).map(|()| value));
        let budget = self.clone();
        env.add_filter("__seen", move |value: Value| budget.seen(value));
        env.add_filter("__item", |value: Value| checked(value));
        let budget = self.clone();
        env.add_filter("__loop", move |value: Value| budget.looped(value));
        let budget = self.clone();
        env.add_filter("__factor", move |value: Value, how: &str, last: bool| {
            budget.factor(value, how, last)
        });
        for (name, times) in GROWING {
            let budget = self.clone();
            env.add_filter(name, move |_: &mut State, args: Rest<ValueOrKwargs>| {
                let args = args.into_values();
                budget.spend_on(args.first().unwrap_or(&Value::UNDEFINED), times)?;
                plain().empty_state().apply_filter(name, &args)
            });
        }
        for name in ASKED {
            let budget = self.clone();
            env.add_filter(name, move |_: &mut State, args: Rest<ValueOrKwargs>| {
                let args = args.into_values();
                budget.asked(name, &args)?;
                plain().empty_state().apply_filter(name, &args)
            });
        }
        for name in COMPARING {
            env.add_filter(name, move |_: &mut State, args: Rest<ValueOrKwargs>| {
                let args = args.into_values();
                args.iter().try_for_each(|value| nodes(value).map(drop))?;
                plain().empty_state().apply_filter(name, &args)
            });
        }
    }

    /// Whether a filter or method with these arguments may be applied; the first is what it is applied to.
    pub(in crate::template) fn asked(&self, name: &str, args: &[Value]) -> Result<(), Error> {
        let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
        let wide = || Error::new(ErrorKind::InvalidOperation, format!("{name}: more than {WIDTH} columns"));
        match name {
            "replace" => {
                let (from, to) = (text(1), text(2));
                let found = if from.is_empty() { text(0).len() + 1 } else { text(0).matches(from).count() };
                self.spend(text(0).len().saturating_add(found.saturating_mul(to.len())))
            }
            "join" => {
                // As a method the text between comes first.
                let between = args.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or_default();
                let items = args.iter().filter_map(Value::len).max().unwrap_or_default();
                args.iter().try_for_each(|value| self.spend_on(value, 1))?;
                self.spend(items.saturating_mul(between))
            }
            "format" => {
                if widest(text(0)) > WIDTH || (text(0).contains('*') && args[1..].iter().any(is_wide)) {
                    return Err(wide());
                }
                args.iter().try_for_each(|value| self.spend_on(value, 6))?;
                self.spend(text(0).matches(['%', '{']).count().saturating_mul(WIDTH))
            }
            "indent" | "center" | "ljust" | "rjust" | "zfill" => {
                if args.get(1..).unwrap_or_default().iter().any(is_wide) {
                    return Err(wide());
                }
                let by = args.get(1).and_then(Value::as_usize).unwrap_or_else(|| text(1).len().max(4));
                self.spend(text(0).len().saturating_add(text(0).lines().count().max(1).saturating_mul(by)))
            }
            // Methods that give a text or a list of its parts.
            _ => self.spend(text(0).len().saturating_mul(3)),
        }
    }

    fn sum(&self, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::String => self.spend(value.as_str().unwrap_or_default().len())?,
            ValueKind::Seq | ValueKind::Iterable if value.len().is_some_and(|len| len > ITEMS) => {
                return Err(too_many());
            }
            _ => {}
        }
        Ok(value)
    }

    fn seen(&self, value: Value) -> Result<Value, Error> {
        self.spend(value.as_str().unwrap_or_default().len())?;
        Ok(value)
    }

    /// What a loop goes over: each pass may write the template's own text.
    fn looped(&self, value: Value) -> Result<Value, Error> {
        if matches!(value.kind(), ValueKind::None | ValueKind::Undefined) {
            return Ok(value);
        }
        let (value, passes) = match (value.len(), value.try_iter()) {
            (Some(len), _) => (value, len),
            (None, Ok(items)) => {
                let items: Vec<Value> = items.take(ITEMS + 1).collect();
                let len = items.len();
                (Value::from(items), len)
            }
            (None, Err(_)) => return Ok(value),
        };
        if passes > ITEMS {
            return Err(too_many());
        }
        self.spend(passes.saturating_mul(self.text)).map(|()| value)
    }

    /// An operand of a product; texts and lists are repeated by the others.
    fn factor(&self, value: Value, how: &str, last: bool) -> Result<Value, Error> {
        let bytes = match value.kind() {
            ValueKind::String => value.as_str().unwrap_or_default().len(),
            ValueKind::Seq | ValueKind::Iterable => value.len().unwrap_or_default().saturating_mul(SMALL),
            _ => 0,
        };
        let times = value.as_usize().unwrap_or(1).max(1);
        let made = self.with(|account| {
            let (text, factors) = match how {
                "first" => (0, 1),
                _ => account.products.pop().unwrap_or((0, 1)),
            };
            let product = if how == "other" {
                (bytes, times)
            } else {
                (text.max(bytes), factors.saturating_mul(times))
            };
            if !last {
                account.products.push(product);
            }
            product.0.saturating_mul(product.1)
        });
        self.spend(made).map(|()| value)
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("more than {ITEMS} items"))
}

fn is_wide(value: &Value) -> bool {
    value.as_i64().is_some_and(|width| width.unsigned_abs() > WIDTH as u64)
}

/// The largest number in a format.
fn widest(format: &str) -> usize {
    let runs = format.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.parse().unwrap_or(usize::MAX)).max().unwrap_or_default()
}

/// A value that does not hold too much, and not itself.
fn checked(value: Value) -> Result<Value, Error> {
    nodes(&value).map(|_| value)
}

fn nodes(value: &Value) -> Result<usize, Error> {
    walk(value, &mut |_| 1, ITEMS, DEPTH).ok_or_else(too_many)
}

/// About as many bytes as a value is printed with; an error where they are more than `most`.
fn printed(value: &Value, most: usize) -> Result<usize, Error> {
    walk(value, &mut |value| value.as_str().map_or(SMALL, |text| text.len() + 2), most, DEPTH)
        .ok_or_else(too_much)
}

/// The sum of `size` over a value and all that is in it. None where it is more than `most`, or deeper than `depth`.
fn walk(value: &Value, size: &mut dyn FnMut(&Value) -> usize, most: usize, depth: usize) -> Option<usize> {
    let mut sum = size(value);
    let holds = matches!(value.kind(), ValueKind::Seq | ValueKind::Map);
    // What can be gone through only once, or is made while it is, is short: the language bounds ranges.
    let again = matches!(value.kind(), ValueKind::Iterable) && value.len().is_some();
    if sum > most {
        return None;
    }
    if !holds && !again {
        return Some(sum);
    }
    let depth = depth.checked_sub(1)?;
    for key in value.try_iter().ok().into_iter().flatten() {
        sum = sum.checked_add(walk(&key, size, most.checked_sub(sum)?, depth)?)?;
        if value.kind() == ValueKind::Map {
            let item = value.get_item(&key).unwrap_or_default();
            sum = sum.checked_add(walk(&item, size, most.checked_sub(sum)?, depth)?)?;
        }
    }
    (sum <= most).then_some(sum)
}
