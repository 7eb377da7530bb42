//! From an address to a store of files by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use object_store::prefix::PrefixStore;

use crate::error::{Error, Result};

/// An open store, and what it may be called.
pub(crate) struct Backend {
    pub(crate) files: Arc<dyn ObjectStore>,
    /// The folder, where it is one.
    pub(crate) folder: Option<PathBuf>,
    /// Without what a key could stand in.
    pub(crate) shown: String,
}

/// Settings of a service, by the names that `object_store` gives them.
pub(crate) type Settings = BTreeMap<String, String>;

pub(crate) fn open(address: &str, settings: &Settings) -> Result<Backend> {
    let Some((scheme, rest)) = scheme_of(address) else { return folder(Path::new(address)) };
    match scheme {
        "memory" => {
            Ok(Backend { files: Arc::new(InMemory::new()), folder: None, shown: "memory:".to_owned() })
        }
        "file" => match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') && !path.contains('%') => folder(Path::new(path)),
            _ => Err(Error::field("address", address, "file:///FOLDER, its characters as they are")),
        },
        "s3" => s3(Bucket::of("s3", rest)?, settings),
        "gs" => gs(Bucket::of("gs", rest)?, settings),
        "az" => az(Bucket::of("az", rest)?, settings),
        _ => {
            let known = "a folder, memory:, file://, s3://, gs:// or az://";
            Err(Error::field("address", format!("{scheme}:"), known))
        }
    }
}

/// What stands before a colon, where that is no letter of a drive.
pub(crate) fn scheme_of(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    let scheme_like = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    scheme_like.then_some((scheme, rest))
}

fn folder(path: &Path) -> Result<Backend> {
    if path.as_os_str().is_empty() {
        return Err(Error::field("address", "", "a folder, or an address"));
    }
    std::fs::create_dir_all(path).map_err(Error::io("make", path))?;
    let path = std::fs::canonicalize(path).map_err(Error::io("open", path))?;
    let shown = path.display().to_string();
    let files = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| Error::backend("open", &shown, &error))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Backend { files: Arc::new(files), folder: Some(path), shown })
}

/// A bucket or container, and a folder in it.
#[cfg_attr(not(any(feature = "s3", feature = "gcs", feature = "azure")), expect(dead_code))]
struct Bucket {
    name: String,
    prefix: String,
    shown: String,
}

impl Bucket {
    fn of(scheme: &str, rest: &str) -> Result<Self> {
        let (name, prefix) =
            rest.strip_prefix("//").unwrap_or_default().split_once('/').unwrap_or_else(|| {
                let name = rest.strip_prefix("//").unwrap_or_default();
                (name, "")
            });
        let prefix = prefix.trim_end_matches('/');
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
        let walks = |part: &str| part.is_empty() || part.starts_with('.');
        let wrong_prefix = !prefix.is_empty() && (!plain(prefix) || prefix.split('/').any(walks));
        // What is refused is not repeated: it may be a key.
        if name.is_empty() || !plain(name) || wrong_prefix {
            let reason =
                "BUCKET or BUCKET/FOLDER of A-Z, a-z, 0-9, _, - and .; keys are taken from the environment";
            return Err(Error::field("address", format!("{scheme}://…"), reason));
        }
        let shown = format!("{scheme}://{name}/{prefix}");
        Ok(Self { name: name.to_owned(), prefix: prefix.to_owned(), shown })
    }

    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    fn backend(self, built: object_store::Result<impl ObjectStore>) -> Result<Backend> {
        let files = built.map_err(|error| Error::backend("open", &self.shown, &error))?;
        let files: Arc<dyn ObjectStore> = match self.prefix.as_str() {
            "" => Arc::new(files),
            prefix => Arc::new(PrefixStore::new(files, prefix)),
        };
        Ok(Backend { files, folder: None, shown: self.shown })
    }
}

/// Gives a builder its settings.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn set<B, K: std::str::FromStr>(
    builder: B,
    settings: &Settings,
    with: impl Fn(B, K, String) -> B,
) -> Result<B> {
    install_tls();
    hide_keys(settings);
    settings.iter().try_fold(builder, |builder, (name, value)| match name.parse() {
        Ok(key) => Ok(with(builder, key, value.clone())),
        Err(_) => Err(Error::field("settings", name.clone(), "no setting of this kind of store")),
    })
}

/// TLS by the one library for it that the workspace has, unless the program chose another.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure", feature = "redis-tls"))]
pub(crate) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whatever is a key in the environment or the settings appears nowhere.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn hide_keys(settings: &Settings) {
    let of_services = |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|start| name.starts_with(start));
    let signs = ["KEY", "TOKEN", "SECRET", "PASSWORD", "SAS"];
    let is_key = |name: &str| signs.iter().any(|sign| name.to_ascii_uppercase().contains(sign));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| of_services(name));
    let settings = settings.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in environment.chain(settings) {
        if is_key(&name) {
            lb_io::secrets::remember(&value);
        }
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: Bucket, settings: &Settings) -> Result<Backend> {
    use object_store::aws::AmazonS3Builder;
    let builder = set(AmazonS3Builder::from_env(), settings, AmazonS3Builder::with_config)?;
    let built = builder.with_bucket_name(&bucket.name).build();
    bucket.backend(built)
}

#[cfg(not(feature = "s3"))]
fn s3(_: Bucket, _: &Settings) -> Result<Backend> {
    Err(Error::Feature { scheme: "s3", feature: "s3" })
}

#[cfg(feature = "gcs")]
fn gs(bucket: Bucket, settings: &Settings) -> Result<Backend> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let builder =
        set(GoogleCloudStorageBuilder::from_env(), settings, GoogleCloudStorageBuilder::with_config)?;
    let built = builder.with_bucket_name(&bucket.name).build();
    bucket.backend(built)
}

#[cfg(not(feature = "gcs"))]
fn gs(_: Bucket, _: &Settings) -> Result<Backend> {
    Err(Error::Feature { scheme: "gs", feature: "gcs" })
}

#[cfg(feature = "azure")]
fn az(bucket: Bucket, settings: &Settings) -> Result<Backend> {
    use object_store::azure::MicrosoftAzureBuilder;
    let builder = set(MicrosoftAzureBuilder::from_env(), settings, MicrosoftAzureBuilder::with_config)?;
    let built = builder.with_container_name(&bucket.name).build();
    bucket.backend(built)
}

#[cfg(not(feature = "azure"))]
fn az(_: Bucket, _: &Settings) -> Result<Backend> {
    Err(Error::Feature { scheme: "az", feature: "azure" })
}
