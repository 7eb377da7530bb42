//! What was made last, for whoever asks for the same again.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last of what is made by a recipe. Several threads may make the same at the same time; none waits for another.
pub(crate) struct Last<K, V>(Mutex<Option<(K, V)>>);

impl<K, V> Default for Last<K, V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: PartialEq, V: Clone> Last<K, V> {
    /// What was made last, where it was by this recipe.
    pub(crate) fn get(&self, recipe: &K) -> Option<V> {
        self.lock().as_ref().filter(|(own, _)| own == recipe).map(|(_, made)| made.clone())
    }

    pub(crate) fn keep(&self, recipe: K, made: V) {
        *self.lock() = Some((recipe, made));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(K, V)>> {
        // Whatever a panic left in there is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: fmt::Debug, V> fmt::Debug for Last<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("Last").field(&recipe.as_ref().map(|(recipe, _)| recipe)).finish()
    }
}
