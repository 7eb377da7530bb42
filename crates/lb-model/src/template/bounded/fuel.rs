//! What a rendering has left of the text that it may make.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions};

/// Bytes that any rendering may make.
const BYTES: usize = 64 << 20;
/// Bytes at most, however long the conversation.
const MOST_BYTES: usize = 2 << 30;
/// Items of one list or mapping with all that is in them.
const ITEMS: usize = 1_000_000;
/// Lists within lists.
const DEPTH: usize = 200;
/// Digits of a number, and what an item of a list is printed with or takes.
const SMALL: usize = 32;
/// What it costs to look at an item.
const LOOK: usize = 8;
/// Columns of a field that is padded, or of an indentation; items of a batch.
const WIDTH: usize = 10_000;
/// How long a rendering may take; real ones take milliseconds.
const TIME: Duration = Duration::from_secs(20);
/// Characters of a template's own message.
const MESSAGE: usize = 2_000;

/// The language's filters that make something of a text, with how much longer than the text that may be.
const GROWING: [(&str, usize); 35] = [
    ("abs", 1),
    ("attr", 1),
    ("batch", SMALL),
    ("bool", 1),
    ("capitalize", 3),
    ("chain", SMALL),
    ("dictsort", SMALL),
    ("e", 6),
    ("escape", 6),
    ("first", 1),
    ("float", 1),
    ("format", 1),
    ("groupby", SMALL),
    ("indent", 1),
    ("int", 1),
    ("items", SMALL),
    ("join", 1),
    ("last", 1),
    ("lines", SMALL),
    ("list", SMALL),
    ("lower", 3),
    ("max", 1),
    ("min", 1),
    ("pprint", 4),
    ("replace", 1),
    ("reverse", SMALL),
    ("round", 1),
    ("safe", 1),
    ("slice", SMALL),
    ("sort", SMALL),
    ("split", SMALL),
    ("sum", 1),
    ("title", 3),
    ("unique", SMALL),
    ("upper", 3),
];

/// The account of one rendering.
#[derive(Clone)]
pub(in crate::template) struct Fuel {
    account: Arc<Mutex<Account>>,
    /// Bytes of the template's own text, which each pass of a loop may write.
    text: usize,
    until: Instant,
    guards: Arc<str>,
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

fn too_long() -> Error {
    let reason = format!("the template takes longer than {} s", TIME.as_secs());
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// What the names of one template's guards begin with. It cannot be guessed, so that no template applies them itself.
pub(in crate::template) fn new_prefix() -> String {
    format!("g{:016x}_", RandomState::new().hash_one(0))
}

impl Fuel {
    /// For `items` messages and tools with `bytes` of text, rendered by a template with `text` bytes of its own and guards
    /// that are called `guards`. Text that grows message by message is copied as often as there are messages.
    pub(in crate::template) fn new(items: usize, bytes: usize, text: usize, guards: &str) -> Self {
        let per_item = (bytes + text).saturating_mul(8);
        let left = BYTES.saturating_add(per_item.saturating_mul(items + 8)).min(MOST_BYTES);
        let account = Arc::new(Mutex::new(Account { left, products: Vec::new() }));
        Self { account, text, until: Instant::now() + TIME, guards: guards.into() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Account) -> T) -> T {
        work(&mut self.account.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Takes off `bytes`, which stand for the time that something takes, too.
    pub(in crate::template) fn spend(&self, bytes: usize) -> Result<(), Error> {
        if Instant::now() > self.until {
            return Err(too_long());
        }
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
        let guard = |name: &str| format!("{}{name}", self.guards);
        let fuel = self.clone();
        env.add_filter(guard("sum"), move |value: Value| fuel.sum(value));
        let fuel = self.clone();
        env.add_filter(guard("joined"), move |value: Value| fuel.spend_on(&value, 1).map(|()| value));
        let fuel = self.clone();
        env.add_filter(guard("seen"), move |value: Value| fuel.seen(value));
        let fuel = self.clone();
        env.add_filter(guard("item"), move |value: Value| fuel.look(&value).map(|()| value));
        let fuel = self.clone();
        env.add_filter(guard("loop"), move |value: Value| fuel.looped(value));
        let fuel = self.clone();
        env.add_filter(guard("factor"), move |value: Value, how: &str, last: bool| {
            fuel.factor(value, how, last)
        });
        for (name, times) in GROWING {
            let fuel = self.clone();
            env.add_filter(name, move |_: &mut State, args: Rest<ValueOrKwargs>| {
                let args = args.into_values();
                fuel.asked(name, &args, times)?;
                fuel.flat(plain().empty_state().apply_filter(name, &args)?)
            });
        }
        self.install_applying(env);
        let fuel = self.clone();
        env.add_filter("zip", move |_: &mut State, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            args.iter().try_for_each(|value| fuel.spend_on(value, SMALL))?;
            fuel.flat(plain().empty_state().apply_filter("zip", &args)?)
        });
        env.remove_global("debug");
        let fuel = self.clone();
        env.add_function("dict", move |value: Option<Value>, more: Kwargs| {
            fuel.spend_on(&value.clone().unwrap_or_default(), 4)?;
            functions::dict(value, more)
        });
        let fuel = self.clone();
        env.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
            fuel.spend_on(&message, 1)?;
            let message: String = message.to_string().chars().take(MESSAGE).collect();
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
    }

    /// Filters that apply other filters and tests, which are those of the rendering.
    fn install_applying(&self, env: &mut Environment<'_>) {
        type Applied = Result<Vec<Value>, Error>;
        type Args = Rest<ValueOrKwargs>;
        type Chosen<'a> = Option<Cow<'a, str>>;
        type Choose = for<'a> fn(&mut State, Value, Chosen<'a>, Args) -> Applied;
        type ChooseBy = for<'a> fn(&mut State, Value, Cow<'a, str>, Chosen<'a>, Args) -> Applied;
        let charged = |value: Value, fuel: &Self| {
            fuel.spend_on(&value, if value.as_str().is_some() { SMALL } else { 1 }).map(|()| value)
        };
        let fuel = self.clone();
        env.add_filter("map", move |state: &mut State, value: Value, args: Args| -> Applied {
            filters::map(state, charged(value, &fuel)?, args)
        });
        for (name, choose) in [("select", filters::select as Choose), ("reject", filters::reject)] {
            let fuel = self.clone();
            let apply = move |state: &mut State, value: Value, test: Option<String>, args: Args| {
                choose(state, charged(value, &fuel)?, test.map(Into::into), args)
            };
            env.add_filter(name, apply);
        }
        for (name, choose) in
            [("selectattr", filters::selectattr as ChooseBy), ("rejectattr", filters::rejectattr)]
        {
            let fuel = self.clone();
            let apply =
                move |state: &mut State, value: Value, attr: String, test: Option<String>, args: Args| {
                    choose(state, charged(value, &fuel)?, attr.into(), test.map(Into::into), args)
                };
            env.add_filter(name, apply);
        }
    }

    /// Whether a filter or method may be applied to these arguments, the first of them what it is applied to; what it makes
    /// of a text may be `times` as long.
    pub(in crate::template) fn asked(&self, name: &str, args: &[Value], times: usize) -> Result<(), Error> {
        // Arguments by name come as a mapping at the end.
        let named = args.last().filter(|last| args.len() > 1 && last.kind() == ValueKind::Map);
        let named: Vec<Value> = named
            .and_then(|last| Some(last.try_iter().ok()?.filter_map(|key| last.get_item(&key).ok()).collect()))
            .unwrap_or_default();
        let all: Vec<&Value> = args.iter().chain(&named).collect();
        let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
        for (at, value) in all.iter().enumerate() {
            self.spend_on(value, if at == 0 && value.as_str().is_some() { times } else { 1 })?;
        }
        let numbers: Vec<usize> = all
            .iter()
            .skip(1)
            .filter_map(|value| value.as_i64().map(|n| n.unsigned_abs() as usize))
            .collect();
        let widest_number = numbers.iter().copied().max().unwrap_or_default();
        let sized = ["batch", "slice", "indent", "center", "ljust", "rjust", "zfill"].contains(&name);
        if sized && all.iter().skip(1).any(|value| is_wide(value)) {
            return Err(too_wide(name));
        }
        match name {
            "replace" => {
                let (from, to) = (text(1), text(2));
                let found = if from.is_empty() { text(0).len() + 1 } else { text(0).matches(from).count() };
                self.spend(found.saturating_mul(to.len()))
            }
            "join" => {
                let between = all.iter().filter_map(|value| value.as_str()).map(str::len).max();
                let items = all.iter().filter_map(|value| value.len()).max();
                self.spend(items.unwrap_or_default().saturating_mul(between.unwrap_or_default()))
            }
            "format" => {
                if widest(text(0)) > WIDTH
                    || (text(0).contains('*') && all.iter().skip(1).any(|v| is_wide(v)))
                {
                    return Err(too_wide(name));
                }
                all.iter().try_for_each(|value| self.spend_on(value, 6))?;
                self.spend(text(0).matches(['%', '{']).count().saturating_mul(WIDTH))
            }
            "batch" | "slice" => self.spend(widest_number.saturating_mul(2 * SMALL)),
            "indent" | "center" | "ljust" | "rjust" | "zfill" => {
                let by = widest_number
                    .max(all.iter().skip(1).filter_map(|v| v.as_str()).map(str::len).max().unwrap_or(0));
                self.spend(text(0).lines().count().max(1).saturating_mul(by.max(4)))
            }
            _ => Ok(()),
        }
    }

    /// Looks at all that is in a value: it must not be too much, and not hold itself.
    fn look(&self, value: &Value) -> Result<(), Error> {
        let mut text = 0;
        let mut count = |value: &Value| {
            text += value.as_str().map_or(0, str::len);
            1
        };
        let nodes = walk(value, &mut count, ITEMS, DEPTH).ok_or_else(too_many)?;
        // Comparing text is fast.
        self.spend(nodes * LOOK + text / 64)
    }

    /// What is made when it is gone through, made now: such things could be stacked without end.
    fn flat(&self, value: Value) -> Result<Value, Error> {
        if value.kind() != ValueKind::Iterable || value.len().is_none() {
            return Ok(value);
        }
        let Ok(items) = value.try_iter() else { return Ok(value) };
        let items: Vec<Value> = items.take(ITEMS + 1).collect();
        if items.len() > ITEMS {
            return Err(too_many());
        }
        self.spend(items.len() * SMALL).map(|()| Value::from(items))
    }

    fn sum(&self, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::String => self.spend(value.as_str().unwrap_or_default().len())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let len = value.len().unwrap_or_default();
                if len > ITEMS {
                    return Err(too_many());
                }
                self.spend(len * LOOK)?;
            }
            _ => {}
        }
        Ok(value)
    }

    fn seen(&self, value: Value) -> Result<Value, Error> {
        self.spend(value.as_str().unwrap_or_default().len())?;
        self.flat(value)
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
        self.spend(passes.saturating_mul(self.text.max(LOOK))).map(|()| value)
    }

    /// An operand of a product; texts and lists are repeated by the others.
    fn factor(&self, value: Value, how: &str, last: bool) -> Result<Value, Error> {
        let value = self.flat(value)?;
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

fn too_wide(name: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{name}: more than {WIDTH}"))
}

fn is_wide(value: &Value) -> bool {
    value.is_number() && value.as_i64().is_none_or(|width| width.unsigned_abs() > WIDTH as u64)
}

/// The largest number in a format.
fn widest(format: &str) -> usize {
    let runs = format.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.parse().unwrap_or(usize::MAX)).max().unwrap_or_default()
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
