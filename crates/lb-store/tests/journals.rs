//! Journals: in order, without gaps, each number once.

use std::fs;

use lb_store::{Error, LARGEST_RECORD, LAST_RECORD, Store, StoreOptions};
use proptest::prelude::*;

use crate::support::{DAY, Local, body, journal, now, tenant};

pub(crate) async fn numbered(store: &Store) {
    let journal = journal("numbered");
    let absent = store.read_journal(&journal, 0).await;
    assert!(matches!(absent, Err(Error::Absent { .. })), "{absent:?}");
    for number in 0..20 {
        store.append(&journal, number, &body(number, 100 * number as usize)).await.unwrap();
    }
    // Again, and with something else.
    store.append(&journal, 7, &body(7, 700)).await.unwrap();
    let taken = store.append(&journal, 7, b"another").await;
    assert!(matches!(taken, Err(Error::Taken { number: 7, .. })), "{taken:?}");
    let gap = store.append(&journal, 21, b"too early").await;
    assert!(matches!(gap, Err(Error::Gap { number: 20, .. })), "{gap:?}");
    for from in [0, 13, 19, 20] {
        let read = store.read_journal(&journal, from).await.unwrap();
        assert_eq!(read, (from..20).map(|number| body(number, 100 * number as usize)).collect::<Vec<_>>());
    }
    let behind = store.read_journal(&journal, 21).await;
    assert!(matches!(behind, Err(Error::Gap { number: 20, .. })), "{behind:?}");
    assert_eq!(store.journals(&tenant()).await.unwrap(), std::slice::from_ref(&journal));

    store.remove_journal(&journal).await.unwrap();
    store.remove_journal(&journal).await.unwrap();
    let read = store.read_journal(&journal, 0).await;
    assert!(matches!(read, Err(Error::Removed { .. })), "{read:?}");
    for number in [0, 20] {
        let append = store.append(&journal, number, b"late").await;
        assert!(matches!(append, Err(Error::Removed { .. })), "{append:?}");
    }
    assert!(store.journals(&tenant()).await.unwrap().is_empty());
}

pub(crate) async fn fenced(store: &Store) {
    let journal = journal("fenced");
    store.append_fenced(&journal, 0, b"of the first", 5).await.unwrap();
    store.append_fenced(&journal, 1, b"of the second", 8).await.unwrap();
    for token in [0, 5, 7] {
        let late = store.append_fenced(&journal, 2, b"late", token).await;
        assert!(matches!(late, Err(Error::Fenced { number: 1, newer: 8, .. })), "{late:?}");
    }
    // What was acknowledged to it stays so.
    store.append_fenced(&journal, 0, b"of the first", 5).await.unwrap();
    store.append_fenced(&journal, 2, b"of the second", 8).await.unwrap();
    assert_eq!(store.read_journal(&journal, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn records_are_numbered() {
    numbered(&Store::open("memory:", StoreOptions::default()).unwrap()).await;
    numbered(&Local::new().store).await;
}

#[tokio::test]
async fn an_old_token_is_refused() {
    fenced(&Store::open("memory:", StoreOptions::default()).unwrap()).await;
    fenced(&Local::new().store).await;
}

#[tokio::test]
async fn a_gap_is_an_error_and_what_was_half_written_is_not_there() {
    let (local, journal) = (Local::new(), journal("j"));
    for number in 0..5 {
        local.store.append(&journal, number, b"record").await.unwrap();
    }
    let folder = local.root.path().join("journals/acme/j");
    fs::write(folder.join("0000000005#1"), b"LBJ").unwrap();
    assert_eq!(local.store.read_journal(&journal, 0).await.unwrap().len(), 5);
    local.store.append(&journal, 5, b"record").await.unwrap();
    // A file of someone else's is none of the journal.
    fs::write(folder.join("notes.txt"), b"mine").unwrap();
    assert_eq!(local.store.read_journal(&journal, 0).await.unwrap().len(), 6);
    fs::remove_file(folder.join("0000000002")).unwrap();
    for from in [0, 4] {
        let read = local.store.read_journal(&journal, from).await;
        assert!(matches!(read, Err(Error::Gap { number: 2, .. })), "{read:?}");
    }
    // Only what a killed writer began: no journal.
    let begun = local.root.path().join("journals/acme/begun");
    fs::create_dir(&begun).unwrap();
    fs::write(begun.join("0000000000#1"), b"LBJ").unwrap();
    assert_eq!(local.store.journals(&tenant()).await.unwrap(), [journal]);
}

#[tokio::test]
async fn records_and_numbers_have_bounds() {
    let store = Store::open("memory:", StoreOptions::default()).unwrap();
    let journal = journal("j");
    let large = vec![0; LARGEST_RECORD as usize + 1];
    let appended = store.append(&journal, 0, &large).await;
    assert!(matches!(appended, Err(Error::Field { field: "record", .. })), "{appended:?}");
    store.append(&journal, 0, &large[1..]).await.unwrap();
    assert_eq!(store.read_journal(&journal, 0).await.unwrap(), [&large[1..]]);
    let appended = store.append(&journal, LAST_RECORD + 1, b"").await;
    assert!(matches!(appended, Err(Error::Field { field: "number", .. })), "{appended:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64, u8),
    Read(u64),
    Remove,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u64..9, 0_u8..2).prop_map(|(number, byte)| Step::Append(number, byte)),
        3 => (0_u64..9).prop_map(Step::Read),
        1 => Just(Step::Remove),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    /// Against a list in memory.
    #[test]
    fn a_journal_is_a_list_that_only_grows(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open("memory:", StoreOptions::default()).unwrap();
            let journal = journal("j");
            let (mut list, mut removed): (Vec<u8>, bool) = (Vec::new(), false);
            for step in steps {
                match step {
                    Step::Append(number, byte) => {
                        let before = list.get(number as usize).copied();
                        match store.append(&journal, number, &[byte]).await {
                            Ok(()) if before == Some(byte) => assert!(!removed),
                            Ok(()) => {
                                assert!(!removed && number == list.len() as u64);
                                list.push(byte);
                            }
                            Err(Error::Removed { .. }) => assert!(removed),
                            Err(Error::Taken { .. }) => assert!(before.is_some_and(|before| before != byte)),
                            Err(Error::Gap { .. }) => assert!(number > list.len() as u64),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    Step::Read(from) => match store.read_journal(&journal, from).await {
                        Ok(read) => {
                            assert!(!removed && !list.is_empty());
                            assert_eq!(read.concat(), &list[from as usize..]);
                        }
                        Err(Error::Removed { .. }) => assert!(removed),
                        Err(Error::Absent { .. }) => assert!(list.is_empty() && !removed),
                        Err(Error::Gap { .. }) => assert!(from > list.len() as u64 && !removed),
                        Err(error) => panic!("{error}"),
                    },
                    Step::Remove => {
                        store.remove_journal(&journal).await.unwrap();
                        (list, removed) = (Vec::new(), true);
                    }
                    Step::Sweep => {
                        store.sweep(now() + 2 * DAY).await.unwrap();
                        removed = false;
                    }
                }
            }
        });
    }
}
