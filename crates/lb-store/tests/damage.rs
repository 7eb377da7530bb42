//! Damage: a bit, a cut, a file gone. None of it is served.

use std::fs;
use std::path::Path;

use lb_store::ObjectKind::Briefing;
use lb_store::{About, Error};
use proptest::prelude::*;

use crate::support::{Local, about, body, files, fingerprint, journal, tenant};

fn flip(path: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

async fn damaged(local: &Local, id: &lb_store::ObjectId) -> String {
    let got = local.store.get(Briefing, &tenant(), id, &fingerprint(), local.into.path()).await;
    assert!(files(local.into.path()).is_empty());
    match got {
        Err(Error::Damaged { reason, .. }) => reason,
        got => panic!("{got:?}"),
    }
}

#[tokio::test]
async fn a_body_that_is_not_whole_is_damaged_until_it_is_removed() {
    let local = Local::new();
    let id = local.store.put(Briefing, &about(), body(1, 100_000)).await.unwrap();
    let stored = local.only("objects");
    let whole = fs::read(&stored).unwrap();
    for at in [0, 50_000, 99_999] {
        flip(&stored, at, 3);
        assert_eq!(damaged(&local, &id).await, "its bytes were changed");
        fs::write(&stored, &whole).unwrap();
    }
    fs::write(&stored, &whole[..99_999]).unwrap();
    assert_eq!(damaged(&local, &id).await, "99999 bytes of 100000");
    fs::write(&stored, [&whole[..], b"0"].concat()).unwrap();
    assert_eq!(damaged(&local, &id).await, "100001 bytes of 100000");
    fs::remove_file(&stored).unwrap();
    assert_eq!(damaged(&local, &id).await, "it has no body");

    assert!(local.store.remove(Briefing, &tenant(), &id).await.unwrap());
    assert_eq!(local.store.put(Briefing, &about(), body(1, 100_000)).await.unwrap(), id);
    local.store.get(Briefing, &tenant(), &id, &fingerprint(), local.into.path()).await.unwrap();
}

#[tokio::test]
async fn a_bit_of_a_manifest_is_never_believed() {
    let local = Local::new();
    let id = local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    let stored = local.only("manifests");
    let whole = fs::read(&stored).unwrap();
    for at in 0..whole.len() {
        flip(&stored, at, at as u32 % 8);
        damaged(&local, &id).await;
        let found = local.store.find(Briefing, &tenant()).await.unwrap();
        assert_eq!((found.manifests.len(), found.damaged.len()), (0, 1), "byte {at}");
        fs::write(&stored, &whole).unwrap();
    }
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&stored, &whole[..cut]).unwrap();
        damaged(&local, &id).await;
    }
    // Nor one from elsewhere: under another name it would last longer, or be another's.
    fs::write(&stored, &whole).unwrap();
    let name = stored.file_name().unwrap().to_str().unwrap();
    fs::rename(&stored, stored.with_file_name(name.replacen('0', "9", 1))).unwrap();
    assert_eq!(damaged(&local, &id).await, "it belongs to another object");
}

#[tokio::test]
async fn of_two_copies_the_whole_one_is_served_and_the_other_named() {
    let local = Local::new();
    let id = local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    let other = About { task: Some("and why today?".into()), ..about() };
    local.store.put(Briefing, &other, body(1, 1000)).await.unwrap();
    let copies = files(&local.root.path().join("objects"));
    assert_eq!(copies.len(), 2);
    let mut passed_over = Vec::new();
    for copy in copies {
        flip(&copy, 500, 0);
        let got = local.store.get(Briefing, &tenant(), &id, &fingerprint(), local.into.path()).await.unwrap();
        assert_eq!(fs::read(got.path).unwrap(), body(1, 1000));
        passed_over.extend(got.passed_over);
        flip(&copy, 500, 0);
    }
    // Only that which comes first is in the other's way.
    assert_eq!(passed_over, [format!("briefing {id} is damaged: its bytes were changed")]);
    for copy in files(&local.root.path().join("objects")) {
        fs::write(copy, b"cut").unwrap();
    }
    fs::remove_file(local.into.path().join(id.as_str())).unwrap();
    assert_eq!(damaged(&local, &id).await, "3 bytes of 1000");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_journal_with_a_damaged_record_is_not_read(
        at in any::<prop::sample::Index>(), which in 0_u64..4, bit in 0_u32..8, cut: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (local, journal) = (Local::new(), journal("j"));
            for number in 0..4 {
                local.store.append(&journal, number, &body(number, 40)).await.unwrap();
            }
            let stored = local.root.path().join(format!("journals/acme/j/{which:010}"));
            let len = fs::read(&stored).unwrap().len();
            if cut {
                fs::write(&stored, &fs::read(&stored).unwrap()[..at.index(len)]).unwrap();
            } else {
                flip(&stored, at.index(len), bit);
            }
            let read = local.store.read_journal(&journal, 0).await;
            assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
            // What is whole behind it is read by who asks for that.
            assert_eq!(local.store.read_journal(&journal, which + 1).await.unwrap().len() as u64, 3 - which);
            let again = local.store.append(&journal, which, &body(which, 40)).await;
            assert!(matches!(again, Err(Error::Damaged { .. })), "{again:?}");
        });
    }
}

#[tokio::test]
async fn a_record_in_anothers_place_is_damaged() {
    let local = Local::new();
    for name in ["a", "b"] {
        for number in 0..3 {
            local.store.append(&journal(name), number, name.as_bytes()).await.unwrap();
        }
    }
    let folder = local.root.path().join("journals/acme");
    fs::copy(folder.join("a/0000000001"), folder.join("b/0000000001")).unwrap();
    fs::copy(folder.join("a/0000000001"), folder.join("a/0000000002")).unwrap();
    for name in ["a", "b"] {
        let read = local.store.read_journal(&journal(name), 0).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
    }
    // Nothing is built upon it.
    let next = local.store.append(&journal("a"), 3, b"a").await;
    assert!(matches!(next, Err(Error::Damaged { .. })), "{next:?}");
}
