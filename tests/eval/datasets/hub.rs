//! LongBench v2 by name, from a loopback hub.

use std::fs;

use latent_briefing::eval::datasets::{FileKind, LoadOptions, hub, load, synthetic};
use lb_model::Error;
use lb_model::hub::{Failure, Hub, Network};
use tempfile::TempDir;

use crate::support::hub_server::{COMMIT, Fault, HubServer, QUICK, REPO, TIMEOUT, TOKEN};

/// A hub whose one repository is a data set with the bundled file as `data.json`.
fn serve() -> (TempDir, HubServer) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("data.json"), synthetic::BUNDLED).unwrap();
    let server = HubServer::of(folder.path());
    server.make_dataset();
    (TempDir::new().unwrap(), server)
}

fn named(server: &HubServer, name: &str, cache: &TempDir) -> Hub {
    let hub = Hub::dataset(name).unwrap().endpoint(server.url()).cache_dir(cache.path());
    hub.network(Network::CacheFirst).timeout(TIMEOUT).token(TOKEN).retries(QUICK)
}

#[test]
fn a_data_set_has_addresses_and_a_folder_of_its_own() {
    let (cache, server) = serve();
    let dataset = named(&server, REPO, &cache);
    let path = hub::fetch(&dataset).unwrap();
    assert!(path.starts_with(cache.path().join("datasets--org--tiny/snapshots").join(COMMIT)), "{path:?}");
    let asked: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
    assert!(asked[0].starts_with("/datasets/org/tiny/resolve/main/data.json"), "{asked:?}");
    let loaded = load(&path, FileKind::LongBenchV2, &LoadOptions::default()).unwrap();
    assert_eq!((loaded.items.len(), loaded.faults.len()), (60, 0));

    // The second time nothing is asked.
    assert_eq!(hub::fetch(&dataset).unwrap(), path);
    assert_eq!(hub::fetch(&dataset.clone().network(Network::Offline)).unwrap(), path);
    assert!(server.requests().is_empty());
}

#[test]
fn a_data_set_and_a_model_of_one_name_are_two() {
    let (cache, server) = serve();
    let model = server.hub(cache.path()).file("data.json").unwrap_err();
    assert!(matches!(&model, Error::Hub { repo, .. } if repo == REPO), "{model:?}");
    server.make_terse();
    let missing = named(&server, "org/none", &cache).file("data.json").unwrap_err();
    let Error::Hub { repo, failure, .. } = &missing else { panic!("{missing:?}") };
    assert!(repo == "datasets/org/none" && matches!(**failure, Failure::NoRepository { .. }), "{missing}");
    let no_file = named(&server, REPO, &cache).file("other.json").unwrap_err();
    assert!(matches!(&no_file, Error::Hub { failure, .. } if **failure == Failure::NoFile), "{no_file}");
    assert!(server.requests().iter().any(|r| r.path.starts_with("/api/datasets/org/tiny")));
    let no_model = named(&server, REPO, &cache).checkpoint().unwrap_err();
    assert!(matches!(no_model, Error::Config { field: "repository", .. }), "{no_model:?}");
}

#[test]
fn a_large_file_of_a_data_set_may_be_json() {
    let (cache, server) = serve();
    // A model's JSON of this size is refused; here the transfer begins and ends too early.
    server.fault("data.json", Fault::Huge(400 << 20));
    let error = named(&server, REPO, &cache).file("data.json").unwrap_err();
    let Error::Hub { failure, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**failure, Failure::Cut { size: Some(size), .. } if size == 400 << 20), "{error}");
    server.heal();
    hub::fetch(&named(&server, REPO, &cache)).unwrap();
    assert_eq!(
        format!("{:?}", hub::long_bench_v2().unwrap()).matches("datasets/THUDM/LongBench-v2").count(),
        1
    );
}
