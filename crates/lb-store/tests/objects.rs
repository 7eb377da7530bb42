//! Objects: put, got, found, removed.

use std::fs;

use lb_store::ObjectKind::{Briefing, Session};
use lb_store::{About, Error, Fingerprint, Kept, Store, StoreOptions, Tenant};
use tempfile::TempDir;

use crate::support::{Local, SetClock, about, body, files, fingerprint, now, tenant, until};

/// Larger than a piece, and no multiple of one.
const LARGE: usize = (20 << 20) + 17;

pub(crate) async fn round_trip(store: &Store) {
    let into = TempDir::new().unwrap();
    let kept = Kept { least: 1, most: 9, mean: 4.5 };
    let about = About { kept: Some(kept), ..about() };
    for len in [0, 1, 70_000, LARGE] {
        let bytes = body(len as u64, len);
        let file = into.path().join("body");
        fs::write(&file, &bytes).unwrap();
        let id = store.put(Session, &about, file.as_path()).await.unwrap();
        let again = store.put(Session, &about, bytes.clone()).await.unwrap();
        assert_eq!(id, again);

        let fetched = store.get(Session, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
        assert!(fs::read(&fetched.path).unwrap() == bytes, "{len} bytes");
        assert_eq!(fetched.path, into.path().join(id.as_str()));
        assert_eq!(fetched.manifest.about, about);
        assert_eq!((fetched.manifest.bytes, &fetched.manifest.sha256), (len as u64, &id));
        assert!(fetched.passed_over.is_empty());

        // Of another kind, or another's, there is none.
        let other = Tenant::new("other").unwrap();
        for (kind, tenant) in [(Briefing, tenant()), (Session, other)] {
            let got = store.get(kind, &tenant, &id, &fingerprint(), into.path()).await;
            assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
        }
    }
    let found = store.find(Session, &tenant()).await.unwrap();
    assert_eq!((found.manifests.len(), found.damaged.len()), (4, 0));
    for manifest in found.manifests {
        assert!(store.remove(Session, &tenant(), &manifest.sha256).await.unwrap());
        assert!(!store.remove(Session, &tenant(), &manifest.sha256).await.unwrap());
        let got = store.get(Session, &tenant(), &manifest.sha256, &fingerprint(), into.path()).await;
        assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
    }
    assert!(store.find(Session, &tenant()).await.unwrap().manifests.is_empty());
}

#[tokio::test]
async fn what_is_put_comes_back_from_memory() {
    round_trip(&Store::open("memory:", StoreOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn what_is_put_comes_back_from_a_folder() {
    let local = Local::new();
    round_trip(&local.store).await;
    assert_eq!(files(local.root.path()), [] as [&std::path::Path; 0]);
    let address = format!("file://{}", local.root.path().display());
    round_trip(&Store::open(&address, StoreOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn the_same_is_stored_once() {
    let local = Local::new();
    for _ in 0..3 {
        local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    }
    assert_eq!(files(local.root.path()).len(), 2);
    // With other words it is another, which is found beside the first.
    let other = About { task: Some("and why today?".into()), ..about() };
    local.store.put(Briefing, &other, body(1, 1000)).await.unwrap();
    assert_eq!(local.store.find(Briefing, &tenant()).await.unwrap().manifests.len(), 2);
}

#[tokio::test]
async fn every_field_of_the_fingerprint_counts() {
    let local = Local::new();
    let id = local.store.put(Briefing, &about(), body(1, 1000)).await.unwrap();
    let right = fingerprint;
    let others: [(&str, Fingerprint); 9] = [
        ("weights", Fingerprint { weights: "w2".into(), ..right() }),
        ("tokenizer", Fingerprint { tokenizer: String::new(), ..right() }),
        ("template", Fingerprint { template: "c1 ".into(), ..right() }),
        ("dtype", Fingerprint { dtype: "f16".into(), ..right() }),
        ("rope_base", Fingerprint { rope_base: 1_000_000.000_000_1, ..right() }),
        ("layers", Fingerprint { layers: 35, ..right() }),
        ("kv_heads", Fingerprint { kv_heads: 4, ..right() }),
        ("head_dim", Fingerprint { head_dim: 64, ..right() }),
        ("bits", Fingerprint { bits: 4, ..right() }),
    ];
    for (name, other) in others {
        match local.store.get(Briefing, &tenant(), &id, &other, local.into.path()).await {
            Err(Error::Mismatch { field, stored, wanted, .. }) => {
                assert_eq!(field, name);
                assert_ne!(stored, wanted);
            }
            got => panic!("{name}: {got:?}"),
        }
        assert!(files(local.into.path()).is_empty());
    }
    // The same bytes for another model are served to each its own.
    let other = Fingerprint { bits: 4, ..right() };
    let second = About { fingerprint: other.clone(), ..about() };
    assert_eq!(local.store.put(Briefing, &second, body(1, 1000)).await.unwrap(), id);
    for wanted in [right(), other] {
        let got = local.store.get(Briefing, &tenant(), &id, &wanted, local.into.path()).await.unwrap();
        assert_eq!(got.manifest.about.fingerprint, wanted);
    }
}

#[tokio::test]
async fn what_has_expired_is_not_served_and_lasts_longer_where_it_is_put_again() {
    let (root, into) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let clock = SetClock::at(now());
    let start = now();
    let options = StoreOptions::default().with_clock(clock.clone());
    let store = Store::open(root.path().to_str().unwrap(), options).unwrap();
    let id = store.put(Briefing, &until(start + 1000), body(1, 1000)).await.unwrap();
    clock.set(start + 999);
    store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
    assert_eq!(store.find(Briefing, &tenant()).await.unwrap().manifests.len(), 1);
    // For less long it is there already; for longer it is put again, and the first is gone.
    store.put(Briefing, &until(start + 1000), body(1, 1000)).await.unwrap();
    store.put(Briefing, &until(start + 3000), body(1, 1000)).await.unwrap();
    store.put(Briefing, &until(start + 2000), body(1, 1000)).await.unwrap();
    assert_eq!(files(root.path()).len(), 2);
    clock.set(start + 2999);
    store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
    clock.set(start + 3000);
    let got = store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await;
    assert!(matches!(got, Err(Error::Expired { expires, .. }) if expires == start + 3000), "{got:?}");
    assert!(store.find(Briefing, &tenant()).await.unwrap().manifests.is_empty());
    let put = store.put(Briefing, &until(start + 3000), body(1, 1000)).await;
    assert!(matches!(put, Err(Error::Field { field: "expires", .. })), "{put:?}");
}

#[tokio::test]
async fn a_body_that_is_written_to_meanwhile_is_refused() {
    let local = Local::new();
    let file = local.into.path().join("body");
    fs::write(&file, body(1, LARGE)).unwrap();
    let put = tokio::spawn({
        let (store, file) = (local.store.clone(), file.clone());
        async move { store.put(Briefing, &about(), file).await }
    });
    let mut changes = 0_u8;
    while !put.is_finished() {
        use std::io::{Seek, SeekFrom, Write};
        let mut opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
        changes = changes.wrapping_add(1);
        // Both ends, so that whatever was read first is another when it is read again.
        for at in [SeekFrom::Start(0), SeekFrom::End(-1)] {
            opened.seek(at).unwrap();
            opened.write_all(&[changes]).unwrap();
        }
        tokio::task::yield_now().await;
    }
    match put.await.unwrap() {
        Err(Error::Changed { path }) => {
            assert_eq!(path, file);
            assert!(local.store.find(Briefing, &tenant()).await.unwrap().manifests.is_empty());
        }
        // Where nothing was read twice between two changes, it is what was read.
        Ok(id) => {
            local.store.get(Briefing, &tenant(), &id, &fingerprint(), local.into.path()).await.unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_is_no_file_is_no_body() {
    let local = Local::new();
    for path in [local.into.path().to_owned(), local.into.path().join("none")] {
        let put = local.store.put(Briefing, &about(), path).await;
        assert!(matches!(put, Err(Error::Io { .. })), "{put:?}");
    }
    assert!(files(local.root.path()).is_empty());
}
