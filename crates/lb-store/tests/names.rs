//! Names from outside, addresses, settings.

use lb_store::{Error, JournalId, ObjectId, Store, StoreOptions, Tenant};

use crate::support::tenant;

#[test]
fn what_is_no_name_reaches_no_path() {
    let long = "x".repeat(65);
    let hostile = [
        "", ".", "..", "../x", "a/b", "/etc", "a\\b", "a b", "a\0", "a\n", "%2e%2e", "é", "a.b", "~", "#1",
        "a#1", "*", &long,
    ];
    for name in hostile {
        for made in [Tenant::new(name).map(drop), JournalId::new(tenant(), name).map(drop)] {
            assert!(matches!(made, Err(Error::Field { .. })), "{name:?}");
        }
    }
    for name in ["a", "A-1_b", &long[1..]] {
        Tenant::new(name).unwrap();
        JournalId::new(tenant(), name).unwrap();
    }
    let digits = "0123456789abcdef".repeat(4);
    digits.parse::<ObjectId>().unwrap();
    for id in ["", &digits[1..], &digits.replace('a', "A"), &digits.replace('a', "/"), &format!("{digits}0")]
    {
        assert!(id.parse::<ObjectId>().is_err(), "{id}");
    }
}

#[test]
fn an_address_that_cannot_be_is_refused_without_being_repeated() {
    let refused = |address: &str| Store::open(address, StoreOptions::default()).unwrap_err();
    for address in [
        "",
        "ftp://host/x",
        "s3://",
        "s3:bucket",
        "s3://key:a-long-secret@bucket/x",
        "s3://b/../x",
        "gs://b?key=a-long-secret",
        "az://b/.lock",
        "file:x",
        "file://host/x",
    ] {
        let error = refused(address);
        assert!(matches!(error, Error::Field { field: "address", .. }), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("a-long-secret"), "{text}");
    }
    #[cfg(not(feature = "s3"))]
    assert_eq!(
        refused("s3://bucket/x").to_string(),
        "no store for `s3:` in this build: it needs the feature `s3` of lb-store"
    );
    #[cfg(not(feature = "gcs"))]
    assert!(matches!(refused("gs://bucket"), Error::Feature { feature: "gcs", .. }));
    #[cfg(not(feature = "azure"))]
    assert!(matches!(refused("az://bucket"), Error::Feature { feature: "azure", .. }));
}

#[test]
fn a_grace_is_longer_than_clocks_differ() {
    let options = StoreOptions::default().with_grace(std::time::Duration::from_secs(599));
    let opened = Store::open("memory:", options);
    assert!(matches!(opened, Err(Error::Field { field: "grace", .. })), "{opened:?}");
}

#[test]
fn settings_are_not_shown() {
    let options = StoreOptions::default().with_setting("aws_secret_access_key", "a-very-long-secret");
    assert!(!format!("{options:?}").contains("a-very-long-secret"), "{options:?}");
}
