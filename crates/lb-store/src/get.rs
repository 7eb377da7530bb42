//! Getting: nothing leaves the store that is not exactly what was asked for.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use lb_io::files::Output;
use object_store::ObjectStoreExt;
use object_store::path::Path as Name;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::manifest::{Fingerprint, Manifest};
use crate::names::{Copy, MANIFESTS, ObjectId, ObjectKind, Tenant};
use crate::put::{PIECE, UNDER_WAY};
use crate::store::{Store, blocking, failed};

/// How often it is looked again where something was taken away meanwhile.
const LOOKS: usize = 8;

/// An object that was fetched.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// Where it is now.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// What was passed over: copies of it that were damaged or made with something else.
    pub passed_over: Vec<String>,
}

/// What [`Store::find`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// What is there, by the time it was put.
    pub manifests: Vec<Manifest>,
    /// What is there and cannot be read.
    pub damaged: Vec<Error>,
}

impl Store {
    /// Fetches an object into a folder, where it has its digest for a name. It is there when every byte was checked, and not
    /// before; a killed process leaves a hidden file of its own in the folder.
    ///
    /// # Errors
    /// Why it is not served: [`Error::Absent`], [`Error::Expired`], [`Error::Mismatch`] with the first field that differs,
    /// [`Error::Damaged`]; [`Error::Io`] for the folder; [`Error::Backend`]. What is damaged stays so until it is
    /// [removed](Store::remove); then it can be put again.
    pub async fn get(
        &self,
        kind: ObjectKind,
        tenant: &Tenant,
        id: &ObjectId,
        wanted: &Fingerprint,
        into: &Path,
    ) -> Result<Fetched> {
        let name = format!("{kind} {id}");
        let mut refused: Vec<Error> = Vec::new();
        for _ in 0..LOOKS {
            refused.clear();
            let mut gone = false;
            for copy in self.copies(kind, tenant, id).await? {
                match self.fetch(&copy, wanted, into).await {
                    Ok(Some((path, manifest))) => {
                        let passed_over = refused.iter().map(ToString::to_string).collect();
                        return Ok(Fetched { path, manifest, passed_over });
                    }
                    Ok(None) => gone = true,
                    Err(error @ (Error::Damaged { .. } | Error::Mismatch { .. })) => refused.push(error),
                    Err(error) => return Err(error),
                }
            }
            // One that was taken away meanwhile may have given way to a better one.
            if !gone {
                break;
            }
        }
        let damaged = refused.iter().position(|error| matches!(error, Error::Damaged { .. }));
        if !refused.is_empty() {
            return Err(refused.swap_remove(damaged.unwrap_or(0)));
        }
        let listed = self.list(&Copy::folder(kind, tenant, id)).await?;
        let expired = listed.iter().filter_map(|file| Copy::of_manifest(&file.location));
        match expired.map(|copy| copy.expires).filter(|at| *at <= self.now()).max() {
            Some(expires) => Err(Error::Expired { name, expires }),
            None => Err(Error::Absent { name }),
        }
    }

    /// The objects of a tenant that have not expired. One that was put with different words is there with each.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub async fn find(&self, kind: ObjectKind, tenant: &Tenant) -> Result<Listing> {
        let folder = Name::from_iter([MANIFESTS, kind.as_str(), tenant.as_str()]);
        let mut listing = Listing::default();
        for _ in 0..LOOKS {
            listing = Listing::default();
            let (now, listed) = (self.now(), self.list(&folder).await?);
            let copies = listed.iter().filter_map(|file| Copy::of_manifest(&file.location));
            let copies: Vec<Copy> = copies.filter(|copy| copy.expires > now).collect();
            let mut read = stream::iter(copies)
                .map(|copy| async move { self.manifest(&copy).await })
                .buffer_unordered(2 * UNDER_WAY);
            let mut gone = false;
            while let Some(read) = read.next().await {
                match read {
                    Ok(Some(manifest)) => listing.manifests.push(manifest),
                    Ok(None) => gone = true,
                    Err(error @ Error::Damaged { .. }) => listing.damaged.push(error),
                    Err(error) => return Err(error),
                }
            }
            if !gone {
                break;
            }
        }
        listing.manifests.sort_by(|a, b| (a.created, &a.copy).cmp(&(b.created, &b.copy)));
        Ok(listing)
    }

    /// Removes an object, all copies of it; whether there was one. Its bytes go now or, where this is stopped, with a later
    /// [sweep](Store::sweep); it is served no more from the first step on.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub async fn remove(&self, kind: ObjectKind, tenant: &Tenant, id: &ObjectId) -> Result<bool> {
        let listed = self.list(&Copy::folder(kind, tenant, id)).await?;
        let copies: Vec<Copy> = listed.iter().filter_map(|file| Copy::of_manifest(&file.location)).collect();
        for copy in &copies {
            self.delete(&copy.manifest()).await?;
        }
        for copy in &copies {
            self.delete(&copy.body()).await?;
        }
        Ok(!copies.is_empty())
    }

    async fn fetch(
        &self,
        copy: &Copy,
        wanted: &Fingerprint,
        into: &Path,
    ) -> Result<Option<(PathBuf, Manifest)>> {
        let Some(manifest) = self.manifest(copy).await? else { return Ok(None) };
        if let Some((field, stored, wanted)) = manifest.about.fingerprint.differs(wanted) {
            return Err(Error::Mismatch { name: copy.to_string(), field, stored, wanted });
        }
        let damaged = |reason: String| Error::damaged(copy.to_string(), reason);
        let reason = match self.head(&copy.body()).await? {
            Some(body) if body.size == manifest.bytes => match self.download(&manifest, copy, into).await? {
                Ok(path) => return Ok(Some((path, manifest))),
                Err(reason) => reason,
            },
            Some(body) => format!("{} bytes of {}", body.size, manifest.bytes),
            None => "it has no body".to_owned(),
        };
        // Who removes it takes the manifest first.
        let removed = self.head(&copy.manifest()).await?.is_none();
        if removed { Ok(None) } else { Err(damaged(reason)) }
    }

    /// Brings the body into a file; the inner error says how it is not what the manifest says.
    async fn download(
        &self,
        manifest: &Manifest,
        copy: &Copy,
        into: &Path,
    ) -> Result<std::result::Result<PathBuf, String>> {
        let path = into.join(copy.id.as_str());
        let at = path.clone();
        let begun = blocking(move || Output::create(&at)).await?.map_err(Error::io("make", &path))?;
        let name = copy.body();
        let mut pieces = stream::iter(ranges(manifest.bytes))
            .map(|range| self.files().get_range(&name, range))
            .buffered(UNDER_WAY);
        let mut writing = (begun, Sha256::new());
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(object_store::Error::NotFound { .. }) => return Ok(Err("its body is gone".to_owned())),
                Err(error) => return Err(failed("read", &name)(error)),
            };
            writing = write_piece(writing, piece, &path).await?;
        }
        let (output, hasher) = writing;
        if ObjectId::of(&hasher.finalize()) != copy.id {
            return Ok(Err("its bytes were changed".to_owned()));
        }
        blocking(move || output.finish()).await?.map_err(Error::io("write", &path))?;
        Ok(Ok(path))
    }
}

async fn write_piece(
    (mut output, mut hasher): (Output, Sha256),
    piece: Bytes,
    path: &Path,
) -> Result<(Output, Sha256)> {
    let written = blocking(move || {
        hasher.update(&piece);
        output.write_all(&piece).map(|()| (output, hasher))
    });
    written.await?.map_err(Error::io("write", path))
}

fn ranges(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    (0..bytes).step_by(PIECE).map(move |at| at..bytes.min(at + PIECE as u64))
}
