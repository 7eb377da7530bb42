//! The index: leases with tokens, last uses, times to live.

use std::sync::Arc;
use std::time::Duration;

use lb_store::index::{self, Acquired, EmbeddedIndex, Entry, Index};
use lb_store::{Error, Lease, SystemClock};
use tempfile::TempDir;

use crate::support::{SetClock, body};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

pub(crate) async fn take(index: &dyn Index, key: &str, owner: &str, time: Duration) -> Lease {
    match index.acquire(key, owner, time).await.unwrap() {
        Acquired::Lease(lease) => lease,
        held @ Acquired::Held { .. } => panic!("{held:?}"),
    }
}

async fn lost(index: &dyn Index, lease: &Lease) {
    let renewed = index.renew(lease, MINUTE).await;
    assert!(matches!(&renewed, Err(Error::Lost { token, .. }) if *token == lease.token), "{renewed:?}");
    let released = index.release(lease).await;
    assert!(matches!(released, Err(Error::Lost { .. })), "{released:?}");
}

pub(crate) async fn leases(index: &dyn Index) {
    let first = take(index, "a", "one", MINUTE).await;
    let held = index.acquire("a", "two", MINUTE).await.unwrap();
    assert!(
        matches!(held, Acquired::Held { until, wait } if until == first.until && wait <= MINUTE),
        "{held:?}"
    );
    // Another key is another's.
    let other = take(index, "b", "two", MINUTE).await;
    assert!(other.token > first.token);

    let renewed = index.renew(&first, 2 * MINUTE).await.unwrap();
    assert_eq!(renewed.token, first.token);
    assert!(renewed.until > first.until);
    // Its owner, begun anew, does not wait for itself, and what it was before writes no more.
    let again = take(index, "a", "one", MINUTE).await;
    assert!(again.token > other.token);
    lost(index, &renewed).await;

    index.release(&again).await.unwrap();
    lost(index, &again).await;
    let second = take(index, "a", "two", MINUTE).await;
    assert!(second.token > again.token);
    lost(index, &first).await;
    for (key, owner) in [("", "x"), ("x", ""), ("a b", "x"), ("x", "ü"), (&"x".repeat(257), "x")] {
        let acquired = index.acquire(key, owner, MINUTE).await;
        assert!(matches!(acquired, Err(Error::Field { .. })), "{acquired:?}");
    }
    let acquired = index.acquire("c", "x", Duration::ZERO).await;
    assert!(matches!(acquired, Err(Error::Field { field: "time", .. })), "{acquired:?}");
}

pub(crate) async fn uses(index: &dyn Index, after: impl AsyncFn(Duration)) {
    let keys = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
    let tick = Duration::from_millis(5);
    for (key, bytes, keep) in [("a", 1, Some(40 * tick)), ("b", u64::MAX, None), ("c", 3, Some(20 * tick))] {
        index.touch(key, bytes, keep).await.unwrap();
        after(tick).await;
    }
    assert_eq!(keys(index.least_recent(2).await.unwrap()), ["a", "b"]);
    let all = index.least_recent(9).await.unwrap();
    assert_eq!((all[1].bytes, all[1].expires), (u64::MAX, None));
    assert_eq!(all[0].expires, Some(all[0].used + 200));
    index.touch("a", 2, Some(40 * tick)).await.unwrap();
    let all = index.least_recent(9).await.unwrap();
    assert_eq!((all.len(), &*all[2].key, all[2].bytes), (3, "a", 2));

    assert!(index.expired(9).await.unwrap().is_empty());
    after(20 * tick).await;
    assert_eq!(keys(index.expired(9).await.unwrap()), ["c"]);
    after(25 * tick).await;
    assert_eq!(keys(index.expired(9).await.unwrap()), ["c", "a"]);
    assert_eq!(keys(index.expired(1).await.unwrap()), ["c"]);
    // Used again, it has time again.
    index.touch("c", 3, None).await.unwrap();
    index.forget("a").await.unwrap();
    index.forget("a").await.unwrap();
    assert!(index.expired(9).await.unwrap().is_empty());
    assert_eq!(keys(index.least_recent(9).await.unwrap()), ["b", "c"]);
}

pub(crate) async fn contended(index: Arc<dyn Index>) {
    let tasks: Vec<_> = (0..16)
        .map(|owner| {
            let index = index.clone();
            tokio::spawn(
                async move { index.acquire("contended", &format!("o{owner}"), MINUTE).await.unwrap() },
            )
        })
        .collect();
    let mut leases = 0;
    for task in tasks {
        leases += usize::from(matches!(task.await.unwrap(), Acquired::Lease(_)));
    }
    assert_eq!(leases, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_in_a_file_leases_and_counts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sub").join("index.redb");
    let clock = SetClock::at(1_000_000);
    let index = EmbeddedIndex::open(&path, clock.clone()).await.unwrap();
    leases(&index).await;
    let after = async |time: Duration| {
        use lb_store::Clock;
        clock.set(clock.now() + time.as_millis() as u64);
    };
    uses(&index, after).await;
    contended(Arc::new(index)).await;
    for address in ["memory:", folder.path().join("other").to_str().unwrap()] {
        leases(&*index::open(address, Arc::new(SystemClock)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_and_tokens_grow_whatever_it_says() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.redb");
    let clock = SetClock::at(1_000_000);
    let index = EmbeddedIndex::open(&path, clock.clone()).await.unwrap();
    let first = take(&index, "a", "one", MINUTE).await;
    assert_eq!(first.until, 1_060_000);
    clock.set(first.until - 1);
    assert!(matches!(
        index.acquire("a", "two", MINUTE).await.unwrap(),
        Acquired::Held { until: 1_060_000, .. }
    ));
    clock.set(first.until);
    lost(&index, &first).await;
    let second = take(&index, "a", "two", MINUTE).await;
    assert!(second.token > first.token);
    lost(&index, &first).await;

    // Set back by an hour, and begun anew: what is held is held, tokens grow.
    drop(index);
    clock.set(10_000);
    let index = EmbeddedIndex::open(&path, clock.clone()).await.unwrap();
    assert!(matches!(index.acquire("a", "one", MINUTE).await.unwrap(), Acquired::Held { .. }));
    let third = take(&index, "b", "one", MINUTE).await;
    assert!(third.token > second.token);
    index.touch("x", 1, None).await.unwrap();
    clock.set(5_000);
    index.touch("y", 1, None).await.unwrap();
    let order = index.least_recent(2).await.unwrap();
    assert_eq!((&*order[0].key, &*order[1].key), ("x", "y"));

    // The file lost: by a clock that goes right, tokens grow all the same.
    drop(index);
    std::fs::remove_file(&path).unwrap();
    clock.set(2_000_000);
    let index = EmbeddedIndex::open(&path, clock).await.unwrap();
    assert!(take(&index, "a", "one", MINUTE).await.token > third.token);
}

#[tokio::test]
async fn an_index_is_open_once_and_no_other_file_is_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index.redb");
    let index = EmbeddedIndex::open(&path, Arc::new(SystemClock)).await.unwrap();
    let second = EmbeddedIndex::open(&path, Arc::new(SystemClock)).await;
    assert!(matches!(&second, Err(Error::InUse { path: used }) if *used == path), "{second:?}");
    drop(index);
    EmbeddedIndex::open(&path, Arc::new(SystemClock)).await.unwrap();
    std::fs::write(&path, body(1, 10_000)).unwrap();
    let opened = EmbeddedIndex::open(&path, Arc::new(SystemClock)).await;
    assert!(matches!(opened, Err(Error::Backend { .. })), "{opened:?}");
    #[cfg(not(feature = "redis"))]
    assert!(matches!(
        index::open("redis://h", Arc::new(SystemClock)).await,
        Err(Error::Feature { feature: "redis", .. })
    ));
    let refused = index::open("postgres://u:a-long-secret@h", Arc::new(SystemClock)).await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("a-long-secret"), "{refused:?}");
}
