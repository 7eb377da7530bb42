//! Sweeps: what was left is taken, what is there is not, whatever the clock says within the grace.

use std::fs;

use lb_store::ObjectKind::{Briefing, Session};
use lb_store::{Error, Store, StoreOptions};
use tempfile::TempDir;

use crate::support::{
    DAY, HOUR, Local, SetClock, about, body, files, fingerprint, journal, now, tenant, until,
};

const MINUTE: u64 = 60_000;

#[tokio::test]
async fn a_body_whose_manifest_never_came_is_not_there_and_goes() {
    let local = Local::new();
    let kept = local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    let lost = local.store.put(Briefing, &about(), body(2, 1000)).await.unwrap();
    fs::remove_dir_all(local.root.path().join("manifests/briefing/acme").join(lost.as_str())).unwrap();
    // What a killed writer was writing still.
    let unfinished = local.root.path().join("objects/session/acme/x");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("y#12"), b"half").unwrap();
    let got = local.store.get(Briefing, &tenant(), &lost, &fingerprint(), local.into.path()).await;
    assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
    assert_eq!(local.store.find(Briefing, &tenant()).await.unwrap().manifests.len(), 1);

    // Within the grace it may be a writer's that is still at it.
    let young = local.store.sweep(now() + DAY - HOUR).await.unwrap();
    assert_eq!((young.orphans, young.unfinished), (0, 0));
    let old = local.store.sweep(now() + DAY + HOUR).await.unwrap();
    assert_eq!((old.orphans, old.unfinished, old.expired), (1, 1, 0));
    assert_eq!(files(local.root.path()).len(), 2);
    local.store.get(Briefing, &tenant(), &kept, &fingerprint(), local.into.path()).await.unwrap();
    // Put again, it is there again.
    local.store.put(Briefing, &about(), body(2, 1000)).await.unwrap();
    local.store.get(Briefing, &tenant(), &lost, &fingerprint(), local.into.path()).await.unwrap();
}

#[tokio::test]
async fn clocks_that_differ_take_nothing_too_early() {
    let root = TempDir::new().unwrap();
    let into = TempDir::new().unwrap();
    let start = now();
    let at = |time: u64| {
        let options = StoreOptions::default().with_clock(SetClock::at(time));
        Store::open(root.path().to_str().unwrap(), options).unwrap()
    };
    let id = at(start).put(Session, &until(start + HOUR), body(1, 1000)).await.unwrap();
    // To a machine that is ahead it has expired: it is not served there, and not taken from the others.
    let ahead = at(start + HOUR + 5 * MINUTE);
    let got = ahead.get(Session, &tenant(), &id, &fingerprint(), into.path()).await;
    assert!(matches!(got, Err(Error::Expired { .. })), "{got:?}");
    assert_eq!(ahead.sweep(start + HOUR + 5 * MINUTE).await.unwrap().expired, 0);
    at(start + HOUR - 1).get(Session, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
    // A machine that is behind puts what to the others has expired: that is never served wrongly, only early gone.
    at(start - 5 * MINUTE).put(Session, &until(start - MINUTE), body(2, 1000)).await.unwrap();

    let swept = ahead.sweep(start + HOUR + 10 * MINUTE).await.unwrap();
    assert_eq!(swept.expired, 2);
    assert!(files(root.path()).is_empty());
    let got = at(start).get(Session, &tenant(), &id, &fingerprint(), into.path()).await;
    assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
}

#[tokio::test]
async fn what_a_killed_remover_left_is_not_served_and_goes() {
    let (local, journal) = (Local::new(), journal("j"));
    for number in 0..6 {
        local.store.append(&journal, number, b"record").await.unwrap();
    }
    // Killed after its first step, and after two records.
    let folder = local.root.path().join("journals/acme/j");
    fs::create_dir_all(local.root.path().join("tombstones/acme")).unwrap();
    fs::write(local.root.path().join("tombstones/acme/j"), b"removed").unwrap();
    for number in 0..2 {
        let read = local.store.read_journal(&journal, 3).await;
        assert!(matches!(read, Err(Error::Removed { .. })), "{read:?}");
        fs::remove_file(folder.join(format!("{number:010}"))).unwrap();
    }
    assert_eq!(local.store.sweep(now()).await.unwrap().records, 4);
    // The name is free only after the grace.
    let append = local.store.append(&journal, 0, b"new").await;
    assert!(matches!(append, Err(Error::Removed { .. })), "{append:?}");
    local.store.sweep(now() + DAY + HOUR).await.unwrap();
    local.store.append(&journal, 0, b"new").await.unwrap();
    assert_eq!(local.store.read_journal(&journal, 0).await.unwrap(), [&b"new"[..]]);
}

#[tokio::test]
async fn a_manifest_whose_body_is_gone_keeps_nobody_from_putting_it() {
    let local = Local::new();
    let id = local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    fs::remove_file(local.only("objects")).unwrap();
    assert_eq!(local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap(), id);
    local.store.get(Briefing, &tenant(), &id, &fingerprint(), local.into.path()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_put_that_a_sweep_could_outrun_is_refused() {
    let (root, into) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let options = StoreOptions::default().with_grace(lb_store::LEAST_GRACE);
    let store = Store::open(root.path().to_str().unwrap(), options).unwrap();
    let about = about();
    let put = store.put(Briefing, &about, body(1, 1000));
    let time = tokio::time::advance(lb_store::LEAST_GRACE / 2 + std::time::Duration::from_secs(1));
    let (put, ()) = tokio::join!(put, time);
    assert!(matches!(put, Err(Error::Slow { seconds: 301, most: 300, .. })), "{put:?}");
    assert!(files(root.path()).is_empty());
    let id = store.put(Briefing, &about, body(1, 1000)).await.unwrap();
    store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
}
