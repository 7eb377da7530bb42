//! Variables put into a text.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, UndefinedBehavior};

/// Steps of one template; a library comes from a file, and a loop in it may not run for ever.
const FUEL: u64 = 100_000;

type Failed<T> = std::result::Result<T, String>;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// Whether a text is a template.
pub(super) fn check(text: &str) -> Failed<()> {
    environment().template_from_str(text).map(drop).map_err(|error| error.to_string())
}

/// The variables that a text wants.
pub(super) fn variables(text: &str) -> Failed<BTreeSet<String>> {
    let environment = environment();
    let template = environment.template_from_str(text).map_err(|error| error.to_string())?;
    Ok(template.undeclared_variables(false).into_iter().collect())
}

pub(super) fn render(text: &str, values: &BTreeMap<String, String>) -> Failed<String> {
    let environment = environment();
    let template = environment.template_from_str(text).map_err(|error| error.to_string())?;
    template.render(values).map_err(|error| error.to_string())
}
