//! Many at once: one wins, the rest know, nothing is mixed.

use std::fs;

use lb_store::ObjectKind::Briefing;
use lb_store::{Error, Store};
use tempfile::TempDir;

use crate::support::{Local, about, body, files, fingerprint, journal, open, tenant, until};

/// Writers at the same time.
const WRITERS: u64 = 24;

pub(crate) async fn one_number(stores: &[Store]) {
    let journal = journal("contended");
    for number in 0..3 {
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = stores[writer as usize % stores.len()].clone();
                let journal = journal.clone();
                // Two of them write the same.
                let record = body(writer / 2, 3000);
                tokio::spawn(async move { (store.append(&journal, number, &record).await, record) })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (Ok(()), record) => acknowledged.push(record),
                (Err(Error::Taken { .. }), _) => {}
                (Err(error), _) => panic!("{error}"),
            }
        }
        let read = stores[0].read_journal(&journal, number).await.unwrap();
        assert_eq!(acknowledged.len(), 2, "the winner and its twin");
        assert!(acknowledged.iter().all(|record| *record == read[0]));
    }
}

pub(crate) async fn one_object(stores: &[Store]) {
    let into = TempDir::new().unwrap();
    let start = crate::support::now();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = stores[writer as usize % stores.len()].clone();
            let about = if writer % 3 == 0 { about() } else { until(start + 3_600_000 * (1 + writer)) };
            tokio::spawn(async move { store.put(Briefing, &about, body(9, 300_000)).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    // The one that lasts longest is left, whoever wrote it.
    let found = stores[0].find(Briefing, &tenant()).await.unwrap();
    assert!(found.manifests.iter().any(|manifest| manifest.about.expires.is_none()), "{found:?}");
    let unending = found.manifests.iter().filter(|manifest| manifest.about.expires.is_none());
    assert_eq!(unending.count(), 1);
    let got = stores[0].get(Briefing, &tenant(), &ids[0], &fingerprint(), into.path()).await.unwrap();
    assert_eq!(got.manifest.about.expires, None);
    assert!(fs::read(got.path).unwrap() == body(9, 300_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_meet_in_a_folder() {
    let local = Local::new();
    let stores = [local.store.clone(), open(local.root.path()), open(local.root.path())];
    one_number(&stores).await;
    one_object(&stores).await;
    let count = |folder| files(&local.root.path().join(folder)).len();
    assert_eq!(count("objects"), count("manifests"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_meet_in_memory() {
    let store = Store::open("memory:", lb_store::StoreOptions::default()).unwrap();
    one_number(std::slice::from_ref(&store)).await;
    one_object(&[store]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn putting_removing_and_sweeping_at_once_serve_the_whole_or_nothing() {
    let local = Local::new();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, into) = (open(local.root.path()), TempDir::new().unwrap());
            tokio::spawn(async move {
                for round in 0..6 {
                    let seed = (writer + round) % 3;
                    let id = store.put(Briefing, &about(), body(seed, 50_000)).await.unwrap();
                    match store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await {
                        Ok(got) => assert!(fs::read(got.path).unwrap() == body(seed, 50_000)),
                        Err(Error::Absent { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    if writer % 4 == 0 {
                        store.remove(Briefing, &tenant(), &id).await.unwrap();
                    }
                    if writer % 4 == 1 {
                        store.sweep(crate::support::now()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_journal_that_is_removed_meanwhile_is_read_whole_or_not() {
    let local = Local::new();
    for round in 0..10 {
        let journal = journal(&format!("j{round}"));
        for number in 0..20 {
            local.store.append(&journal, number, &[number as u8]).await.unwrap();
        }
        let remover = tokio::spawn({
            let (store, journal) = (open(local.root.path()), journal.clone());
            async move { store.remove_journal(&journal).await.unwrap() }
        });
        loop {
            match local.store.read_journal(&journal, 0).await {
                Ok(read) => assert_eq!(read.len(), 20),
                Err(Error::Removed { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        remover.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_put_again_for_longer_is_there_all_the_time() {
    let local = Local::new();
    let start = crate::support::now() + 3_600_000;
    let id = local.store.put(Briefing, &until(start), body(1, 100_000)).await.unwrap();
    let writer = tokio::spawn({
        let store = open(local.root.path());
        async move {
            for round in 1..60 {
                store.put(Briefing, &until(start + round), body(1, 100_000)).await.unwrap();
            }
        }
    });
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, into, id) = (open(local.root.path()), TempDir::new().unwrap(), id.clone());
            tokio::spawn(async move {
                let mut expires = None;
                for _ in 0..200 {
                    let got = store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
                    assert!(got.passed_over.is_empty(), "{got:?}");
                    assert!(got.manifest.about.expires >= expires);
                    expires = got.manifest.about.expires;
                    assert!(!store.find(Briefing, &tenant()).await.unwrap().manifests.is_empty());
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    writer.await.unwrap();
}
