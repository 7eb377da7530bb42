//! Putting: the body first, the manifest last.

use object_store::{ObjectStoreExt, WriteMultipart};
use tokio::time::Instant;

use crate::body::{Body, Reader};
use crate::error::{Error, Result};
use crate::manifest::{About, LARGEST_MANIFEST, Manifest};
use crate::names::{Copy, ObjectId, ObjectKind, nonce};
use crate::store::{Store, failed};

/// Bytes that travel at once, and what a body may have to travel in one piece.
pub(crate) const PIECE: usize = 8 << 20;
/// Pieces under way at a time.
pub(crate) const UNDER_WAY: usize = 4;
/// Services take 10,000 pieces.
const MOST_PIECES: u64 = 9_000;

impl Store {
    /// Puts a body under its digest. Once this has returned, the object is there for all who share the store.
    ///
    /// The body goes to a name that this call alone writes to, its manifest follows, and without a manifest there is no object:
    /// whatever stops this call leaves nothing that is served. The same body put again with the same `about` travels only
    /// where it is to last longer.
    ///
    /// # Errors
    /// [`Error::Field`] for an `about` that cannot be; [`Error::Io`] and [`Error::Changed`] for the body's file;
    /// [`Error::Slow`]; [`Error::Backend`], after which the object may be there or not.
    pub async fn put(&self, kind: ObjectKind, about: &About, body: impl Into<Body>) -> Result<ObjectId> {
        let begun = Instant::now();
        about.check(self.now())?;
        let mut reader = Reader::open(body.into()).await?;
        loop {
            let (rest, piece) = reader.next(PIECE).await?;
            reader = rest;
            if piece.is_empty() {
                break;
            }
        }
        let (id, bytes) = reader.rewind()?;
        for copy in self.copies(kind, &about.tenant, &id).await? {
            let lasts = copy.expires >= about.expires.unwrap_or(u64::MAX);
            if lasts && self.is_alike(&copy, about).await? && self.has_body(&copy, bytes).await? {
                self.keep(&copy.body()).await?;
                self.keep(&copy.manifest()).await?;
                return Ok(id);
            }
        }
        let expires = about.expires.unwrap_or(u64::MAX);
        let copy = Copy { kind, tenant: about.tenant.clone(), id: id.clone(), expires, nonce: nonce()? };
        let manifest = Manifest::new(&copy, bytes, self.now(), about).encode()?;
        self.upload(&copy, reader, bytes).await?;
        let most = self.grace() / 2;
        if begun.elapsed() > most {
            self.delete(&copy.body()).await?;
            let (seconds, most) = (begun.elapsed().as_secs(), most.as_secs());
            return Err(Error::Slow { name: copy.to_string(), seconds, most });
        }
        if let Err(error) = self.write(&copy.manifest(), manifest).await {
            // Over a network it may have arrived all the same, or arrive yet, and others may count on it already.
            if self.folder().is_some() && matches!(self.head(&copy.manifest()).await, Ok(None)) {
                let _ = self.delete(&copy.body()).await;
            }
            return Err(error);
        }
        self.settle(&copy, about, bytes).await?;
        Ok(id)
    }

    /// Of what is alike one copy stays, the one that lasts longest: whoever sees two takes the worse one away.
    async fn settle(&self, mine: &Copy, about: &About, bytes: u64) -> Result<()> {
        // What is left over takes room and does no harm: but for the body nothing fails any more.
        let mut worse = Vec::new();
        for copy in self.copies(mine.kind, &mine.tenant, &mine.id).await.unwrap_or_default() {
            if copy == *mine || !self.is_alike(&copy, about).await.unwrap_or(false) {
                continue;
            }
            if mine.outlives(&copy) {
                worse.push(copy);
            } else if self.has_body(&copy, bytes).await.unwrap_or(false) {
                let _ = self.withdraw(mine).await;
                return Ok(());
            }
        }
        if !self.has_body(mine, bytes).await? {
            // Who removes an object takes its manifest first: then it was there.
            if self.head(&mine.manifest()).await?.is_none() {
                return Ok(());
            }
            self.withdraw(mine).await?;
            let reason = "its body was taken away; the clock of a machine that sweeps is wrong";
            return Err(Error::backend("put", mine.to_string(), &reason));
        }
        for copy in worse {
            let _ = self.withdraw(&copy).await;
        }
        Ok(())
    }

    /// The copies of an object that have not expired, the best one first.
    pub(crate) async fn copies(
        &self,
        kind: ObjectKind,
        tenant: &crate::names::Tenant,
        id: &ObjectId,
    ) -> Result<Vec<Copy>> {
        let now = self.now();
        let listed = self.list(&Copy::folder(kind, tenant, id)).await?;
        let copies = listed.iter().filter_map(|file| Copy::of_manifest(&file.location));
        let mut copies: Vec<Copy> = copies.filter(|copy| copy.expires > now).collect();
        copies.sort_by(|a, b| (b.expires, &a.nonce).cmp(&(a.expires, &b.nonce)));
        Ok(copies)
    }

    /// Takes a copy away: first what makes it one.
    pub(crate) async fn withdraw(&self, copy: &Copy) -> Result<()> {
        self.delete(&copy.manifest()).await?;
        self.delete(&copy.body()).await
    }

    /// The manifest of a copy; `None` where it is gone.
    pub(crate) async fn manifest(&self, copy: &Copy) -> Result<Option<Manifest>> {
        let read = self.read(&copy.manifest(), LARGEST_MANIFEST).await?;
        read.map(|bytes| Manifest::decode(copy, &bytes)).transpose()
    }

    async fn is_alike(&self, copy: &Copy, about: &About) -> Result<bool> {
        match self.manifest(copy).await {
            Ok(found) => Ok(found.is_some_and(|manifest| manifest.about.is_like(about))),
            // One that is damaged is no reason not to put a whole one.
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn has_body(&self, copy: &Copy, bytes: u64) -> Result<bool> {
        Ok(self.head(&copy.body()).await?.is_some_and(|file| file.size == bytes))
    }

    async fn upload(&self, copy: &Copy, mut reader: Reader, bytes: u64) -> Result<()> {
        let name = copy.body();
        let piece_len = PIECE.max(usize::try_from(bytes / MOST_PIECES).unwrap_or(usize::MAX));
        let changed = |reader: &Reader| Error::Changed { path: reader.path().to_owned() };
        if bytes <= PIECE as u64 {
            let (mut reader, piece) = reader.next(PIECE + 1).await?;
            if reader.rewind()? != (copy.id.clone(), bytes) {
                return Err(changed(&reader));
            }
            return self.write(&name, piece).await;
        }
        let upload = self.files().put_multipart(&name).await.map_err(failed("write", &name))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, piece_len);
        let sent = async {
            loop {
                upload.wait_for_capacity(UNDER_WAY).await.map_err(failed("write", &name))?;
                let (rest, piece) = reader.next(piece_len).await?;
                reader = rest;
                if piece.is_empty() {
                    break;
                }
                upload.put(piece);
            }
            if reader.rewind()? == (copy.id.clone(), bytes) { Ok(()) } else { Err(changed(&reader)) }
        };
        match sent.await {
            Ok(()) => upload.finish().await.map(drop).map_err(failed("write", &name)),
            Err(error) => {
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}
